"""How are scenes named in Dagster? One dynamic partition set, whose keys sort by time."""

import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from stilt_assets.errors import UsageError

scenes = dg.DynamicPartitionsDefinition(name="scenes")
_AT_ONCE = 500  # one query names all keys of a call, and some SQLite builds refuse long ones


def add_to_instance(keys: Sequence[str]) -> None:
    """Register scene keys in the Dagster instance of DAGSTER_HOME; known ones stay."""
    home = os.environ["DAGSTER_HOME"]
    if not Path(home).is_dir() or not Path(home).is_absolute():
        raise UsageError(f"DAGSTER_HOME is {home}, which is no absolute path of a folder; mend or unset it")
    with dg.DagsterInstance.get() as instance:
        add_keys(instance, keys)


def add_keys(instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
    """Register scene keys in an instance; known ones stay."""
    for start in range(0, len(keys), _AT_ONCE):
        instance.add_dynamic_partitions("scenes", list(keys[start : start + _AT_ONCE]))
