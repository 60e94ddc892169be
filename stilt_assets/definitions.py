"""What does the code location hold? Room by room."""

import dagster as dg

from stilt_assets.defs import assets, checks
from stilt_assets.defs.resources import SettingsResource, StoreResource

defs = dg.Definitions(
    assets=[assets.pixels, assets.meteorology, assets.footprints, assets.jacobian],
    asset_checks=[checks.few_pixels_lost, checks.jacobian_is_physical],
    resources={"settings": SettingsResource(), "store": StoreResource()},
    # A scene's steps follow one another, and footprints brings its own processes: a process per step only costs.
    executor=dg.in_process_executor,
)
