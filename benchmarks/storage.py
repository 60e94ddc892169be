"""
Which library writes and reads a store in a bucket fastest: s3fs as fsspec has it, or obstore?

    .venv/bin/uv run --with obstore benchmarks/storage.py       (or: .venv/bin/python -m pip install obstore)

Both talk to one S3 server of this machine (moto's), in turns within one run: their ratio counts, and no number of
seconds does. What is timed is what a scene does: the files of packs written one after the other and read side by side,
a Jacobian's files uploaded side by side, the meteorology fetched in parts; beside it the CPU seconds of this process,
without the server's. obstore's client for gs:// does not work with the emulator of our tests (it speaks the XML API).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from object_store import object_store, reached

from stilt_assets.bucket import AT_ONCE, PART
from stilt_assets.store import open_store

Acts = dict[str, Callable[[], object]]


def with_fsspec(url: str, sizes: dict[str, tuple[int, int]], tag: str) -> Acts:
    """What the store does, by what it is called."""
    store = open_store(url)
    folder = store.result("key", f"fsspec-{tag}")

    def paths(what: str) -> list[str]:
        return [store.file(folder, what, f"{number}") for number in range(sizes[what][0])]

    def fetch(what: str) -> None:
        for path in paths(what):
            with store.local(path) as here:
                assert here.stat().st_size == sizes[what][1]

    return {
        "write": lambda: [store.write(path, bytes(sizes["packs"][1])) for path in paths("packs")],
        "read": lambda: store.read_many(paths("packs")),
        "upload": lambda: _side_by_side(lambda path: store.write(path, bytes(sizes["chunks"][1])), paths("chunks")),
        "put_large": lambda: [store.write(path, bytes(sizes["large"][1])) for path in paths("large")],
        "fetch_large": lambda: fetch("large"),
        "list": lambda: [store.sizes(store.file(folder, "packs")) for _ in range(20)],
    }


def with_obstore(url: str, sizes: dict[str, tuple[int, int]], tag: str) -> Acts:
    """The same with obstore."""
    import obstore
    from obstore.store import S3Store

    given = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    store = S3Store(
        url.removeprefix("s3://"),
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        access_key_id=given["AWS_ACCESS_KEY_ID"],
        secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )

    def paths(what: str) -> list[str]:
        return [f"obstore-{tag}/{what}/{number}" for number in range(sizes[what][0])]

    def put(what: str, path: str) -> None:
        obstore.put(store, path, bytes(sizes[what][1]))

    def fetch(what: str) -> None:
        size = sizes[what][1]
        starts = range(0, size, PART)
        for path in paths(what):
            parts = obstore.get_ranges(store, path, starts=starts, ends=[min(start + PART, size) for start in starts])
            assert sum(map(len, parts)) == size

    return {
        "write": lambda: [put("packs", path) for path in paths("packs")],
        "read": lambda: _side_by_side(lambda path: bytes(obstore.get(store, path).bytes()), paths("packs")),
        "upload": lambda: _side_by_side(lambda path: put("chunks", path), paths("chunks")),
        "put_large": lambda: [put("large", path) for path in paths("large")],
        "fetch_large": lambda: fetch("large"),
        "list": lambda: [obstore.list(store, f"obstore-{tag}/packs").collect() for _ in range(20)],
    }


def _side_by_side(act: Callable[[str], object], paths: list[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(act, paths))


def measure(times: int, large: int) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds of each act, by library."""
    sizes = {"packs": (60, 200_000), "chunks": (60, 30_000), "large": (1, large)}
    found: dict[str, dict[str, list[float]]] = {}
    with object_store() as server, reached(server):
        for turn in range(times + 1):
            for name, acts in (
                ("fsspec", with_fsspec(server.url, sizes, str(turn))),
                ("obstore", with_obstore(server.url, sizes, str(turn))),
            ):
                for what, act in acts.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    act()
                    if turn:  # the first warms both up
                        told = found.setdefault(what, {})
                        told.setdefault(f"{name} wall", []).append(time.perf_counter() - wall)
                        told.setdefault(f"{name} cpu", []).append(time.process_time() - cpu)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=3, help="turns of each library")
    options.add_argument("--large", type=int, default=64, help="MiB of the large object")
    options.add_argument("--json", action="store_true", help="print all numbers")
    chosen = options.parse_args()
    found = measure(chosen.times, chosen.large * 2**20)
    if chosen.json:
        print(json.dumps(found))
        return
    print("| what | fsspec, s | obstore, s | ratio | fsspec, CPU s | obstore, CPU s |\n|---|---:|---:|---:|---:|---:|")
    for what, told in found.items():
        middle = {name: statistics.median(values) for name, values in told.items()}
        ratio = middle["fsspec wall"] / middle["obstore wall"]
        numbers = (middle["fsspec wall"], middle["obstore wall"], ratio, middle["fsspec cpu"], middle["obstore cpu"])
        print(f"| {what} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")


if __name__ == "__main__":
    main()
