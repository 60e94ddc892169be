"""Retrieval files made of the test scene's: at another time, of another orbit, issued once more, with other kernels."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import netCDF4
import numpy as np

START = datetime(2019, 5, 30, 9, 58)  # UTC, of the test scene
_KERNEL = "PRODUCT/SUPPORT_DATA/DETAILED_RESULTS/column_averaging_kernel"


def name_of(
    minutes: int = 0, orbit: int = 8430, collection: int = 1, processor: int = 10302, produced: str = "20190601T000000"
) -> str:
    """A file's name as the mission would form it."""
    start = START + timedelta(minutes=minutes)
    span = f"{start:%Y%m%dT%H%M%S}_{start + timedelta(minutes=2):%Y%m%dT%H%M%S}"
    return f"S5P_OFFL_L2__CH4____{span}_{orbit:05d}_{collection:02d}_{processor:06d}_{produced}.nc"


def made(
    source: Path,
    folder: Path,
    minutes: int = 0,
    kernel: float = 1.0,
    lost: tuple[tuple[int, int], ...] = (),
    **name: int | str,
) -> Path:
    """
    A copy of the test scene's file in a folder, seen `minutes` later.

    Averaging kernels are multiplied by `kernel`; pixels that are `lost` (line, column) are no good any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name_of(minutes, **name)  # pyright: ignore[reportArgumentType]
    beside = folder / f".{target.name}"
    shutil.copyfile(source, beside)
    with netCDF4.Dataset(beside, "a") as dataset:
        dataset.issue = target.name  # no two issues have the same bytes
        product = dataset["PRODUCT"]
        if minutes:
            product["delta_time"][:] = product["delta_time"][:] + minutes * 60_000
            told = product["time_utc"]
            for line in range(told.shape[1]):
                moment = datetime.fromisoformat(str(told[0, line]).rstrip("Z")) + timedelta(minutes=minutes)
                told[0, line] = f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
        if kernel != 1.0:
            dataset[_KERNEL][:] = dataset[_KERNEL][:] * np.float32(kernel)
        for line, column in lost:
            product["qa_value"][0, line, column] = 0.1
    beside.rename(target)
    return target
