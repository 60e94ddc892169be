"""What Dagster sees. The only folder that imports it."""
