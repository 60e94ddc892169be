"""
A scene under fire: does it end with the very Jacobian of a peaceful one?

Many pixels of a few milliseconds each, their store in a bucket, their scratch on a small disk. While
`stilt-assets run` works, workers and runs are killed, files truncated, the disk filled, the store cut off, slowed
down or closed for writing; each time a run ends, the next one begins. `make soak` runs it as it is.

    python tests/soak.py --pixels 1000 --packs 60 --times 20
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from object_store import ObjectStore, object_store, reached
from place import KEY, Place

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
BOUNDS = [-112.7, 40.1, -111.2, 41.4]
SCRATCH = 64 * 2**20  # bytes of the small disk
SLOW = 0.02  # s of a pixel


@dataclass
class Fire:
    """What happened to one scene."""

    faults: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    ran: int = 0  # times that a pixel was run


def retrieval(folder: Path, pixels: int) -> Path:
    """A retrieval file with at least so many good pixels inside the bounds."""
    side = int(np.ceil(np.sqrt(1.1 * pixels)))
    (source,) = (SHARED / "data" / "retrievals").glob("S5P_OFFL*.nc")
    file = folder / "S5P_SOAK_L2__CH4____20190530T095800_20190530T100000_08430_01_010302_20190601T000000.nc"
    step = str(0.7 / side)
    words = ["--time", "2019-05-30T09:58", "--lat0", "40.35", "--lon0", "-112.4", "--rows", str(side)]
    words += ["--columns", str(side), "--dlat", step, "--dlon", step, "--bad", "0.05"]
    tool = SHARED / "tools" / "inflate_s5p.py"
    subprocess.run([sys.executable, str(tool), str(source), str(file), *words], check=True, stdout=subprocess.DEVNULL)
    return file


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A folder on a disk of its own, if this process may mount one; whether it may."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SCRATCH}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Scene:
    """A scene of still air, in peace or under fire."""

    def __init__(self, folder: Path, file: Path, packs: int, pixels: int, store: str, seconds: float = 0.0) -> None:
        self.place = Place(
            folder,
            SHARED,
            store=store,
            simulation__transport="still_air:StillAir",
            simulation__particles=4,
            simulation__hours_back=1,
            packs__pixels=-(-pixels // packs),
            targets__slc__bounds=BOUNDS,
        )
        shutil.copyfile(file, folder / "inbox" / file.name)
        self.place.retrieval = folder / "inbox" / file.name
        self.log = folder / "ran"
        (folder / "still_air.json").write_text(json.dumps({"seconds": seconds, "scratch": 65536}))
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.environment = {"PYTHONPATH": str(HERE), "TMPDIR": str(self.scratch)}

    def ran(self) -> int:
        """How often a pixel was run so far."""
        return self.log.stat().st_size // 8 if self.log.exists() else 0

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`stilt-assets` with these words."""
        return self.place.start("stilt-assets", *words, **self.environment)

    def bytes(self) -> dict[str, bytes]:
        """Every file of the scene's Jacobian."""
        files, root = fsspec.core.url_to_fs(str(self.place.settings["store"]))
        base = f"{root}/scenes/{KEY}"
        files.invalidate_cache()
        folder = f"{base}/{json.loads(files.cat_file(f'{base}/scene.json'))['current']['jacobian']}"
        return {path.removeprefix(folder): files.cat_file(path) for path in files.find(folder)}

    def outcomes(self) -> list[dict]:
        """Every outcome."""
        files, root = fsspec.core.url_to_fs(str(self.place.settings["store"]))
        files.invalidate_cache()
        base = f"{root}/scenes/{KEY}"
        name = json.loads(files.cat_file(f"{base}/scene.json"))["current"]["footprints"]
        paths = files.find(f"{base}/{name}/outcomes")
        return [row for path in paths for row in pq.read_table(pa.BufferReader(files.cat_file(path))).to_pylist()]


class Attack:
    """One scene, and what is done to it."""

    def __init__(self, scene: Scene, bucket: ObjectStore, disk: bool, seed: int) -> None:
        self.scene, self.bucket, self.fire, self.chance = scene, bucket, Fire(), random.Random(seed)
        self.process: subprocess.Popen[str] | None = None
        self.kinds: dict[str, Callable[[], bool]] = {
            "kill a worker": self.kill_worker,
            "kill the run": self.kill_run,
            "truncate a file": self.truncate,
            "cut the store off": lambda: self.ail("drop"),
            "refuse connections": lambda: self.ail("refuse"),
            "slow the store down": lambda: self.ail("slow down"),
            "deny a write": lambda: self.ail("deny", "PUT"),
        }
        if disk:
            self.kinds["fill the disk"] = self.fill

    def kill_worker(self) -> bool:
        """Kill a process below the run."""
        assert self.process
        below = [pid for pid, parent in processes().items() if descends(pid, self.process.pid) and parent > 1]
        workers = [pid for pid in below if "forkserver" in command(pid) and pid != self.process.pid]
        if workers:
            os.kill(self.chance.choice(workers), signal.SIGKILL)
        return bool(workers)

    def kill_run(self) -> bool:
        """Kill the run itself."""
        assert self.process
        self.process.kill()
        return True

    def truncate(self) -> bool:
        """Cut a file of the scene in two, behind everybody's back."""
        files, root = fsspec.core.url_to_fs(str(self.scene.place.settings["store"]))
        files.invalidate_cache()
        found = [path for path in files.find(f"{root}/scenes") if not path.endswith("scene.json")]
        if not found:
            return False
        path = self.chance.choice(found)
        try:
            content = files.cat_file(path)
        except FileNotFoundError:
            return False
        files.pipe_file(path, content[: len(content) // 2])
        return True

    def fill(self) -> bool:
        """Fill the small disk for a moment."""
        ballast = self.scene.scratch / "ballast"
        try:
            with ballast.open("wb") as file:
                while True:
                    file.write(bytes(2**20))
                    file.flush()
        except OSError:
            time.sleep(1.0)
        ballast.unlink()
        return True

    def ail(self, kind, *methods: str) -> bool:
        """Let the store ail: sometimes for less time than its clients have patience, sometimes for more."""
        self.bucket.proxy.have(kind, *methods)
        time.sleep(self.chance.choice((0.5, 2.0)))
        self.bucket.proxy.mend()
        return True

    def next_fault(self, number: int) -> str:
        """Each kind in its turn, in an order of chance."""
        names = list(self.kinds)
        random.Random(number // len(names) + 1000 * len(names)).shuffle(names)
        return names[number % len(names)]

    def under_fire(self, pixels: int, faults: int, every: float) -> Fire:
        """Run the scene to its end; a fault each time that a share of its pixels has run."""
        number, last = 0, time.monotonic()
        for _ in range(10 * faults):
            self.process = self.scene.start("run", KEY)
            while self.process.poll() is None:
                due = self.scene.ran() >= (number + 0.5) / faults * pixels and time.monotonic() - last > every
                if number < faults and due:
                    name = self.next_fault(number)
                    if self.kinds[name]():
                        self.fire.faults[name] += 1
                        number += 1
                    last = time.monotonic()
                time.sleep(0.02)
            _, said = self.process.communicate()
            self.note(said, self.process.returncode)
            if self.process.returncode == 0:
                break
        else:
            raise AssertionError(f"the scene does not end: {self.fire}")
        self.fire.ran = self.scene.ran()
        return self.fire

    def note(self, said: str, code: int) -> None:
        """Every end is success, a kill, or one line of the family."""
        if code == -signal.SIGKILL:
            self.fire.exits["killed"] += 1
            return
        ours = [line for line in said.splitlines() if line.startswith("stilt-assets: ")]
        assert "Traceback" not in said, said
        assert code in {0, 1, 3}, (code, said)
        assert code == 0 or len(ours) == 1, said
        self.fire.exits["done" if code == 0 else ours[0].split(": ", 1)[1][:60]] += 1


def processes() -> dict[int, int]:
    """Parents of all processes."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descends(process: int, ancestor: int) -> bool:
    parents = processes()
    while process > 1:
        if process == ancestor:
            return True
        process = parents.get(process, 0)
    return False


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def soak(folder: Path, pixels: int, packs: int, faults: int, every: float, seeds: Iterable[int]) -> Iterator[Fire]:
    """A peaceful scene, and then some under fire; AssertionError unless their Jacobians are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    file = retrieval(folder, pixels)
    peace = Scene(folder / "peace", file, packs, pixels, "./store")
    peace.place.settings["store"] = str(peace.place.folder / "store")
    peace.place.change()
    peace.place.cli("scenes", "add", str(peace.place.retrieval), **peace.environment)
    peace.place.cli("run", KEY, **peace.environment)
    expected = peace.bytes()
    count = len(peace.outcomes())
    assert count >= pixels
    assert peace.ran() == count
    for seed in seeds:
        with object_store() as bucket, reached(bucket):
            scene = Scene(folder / f"fire{seed}", file, packs, pixels, f"{bucket.url}/soak", SLOW)
            scene.environment |= bucket.environment
            with small_disk(scene.scratch) as disk:
                if not disk:
                    print("no disk is filled: this process may not mount one", file=sys.stderr)
                scene.place.cli("scenes", "add", str(scene.place.retrieval), **scene.environment)
                fire = Attack(scene, bucket, disk, seed).under_fire(count, faults, every)
                assert sorted(row["pixel"] for row in scene.outcomes()) == list(range(count))
                assert {row["reason"] for row in scene.outcomes()} == {""}
                assert scene.bytes() == expected
                # Whatever happens costs the two pixels under way; a truncated file costs a pack at most.
                cuts, pack = fire.faults["truncate a file"], -(-pixels // packs)
                assert fire.ran <= count + 2 * (fire.faults.total() + sum(fire.exits.values())) + cuts * pack
                assert list((scene.scratch / f"stilt-assets-{os.getuid()}" / "private").iterdir()) == []
        shutil.rmtree(folder / f"fire{seed}")
        yield fire


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--pixels", type=int, default=1000)
    parser.add_argument("--packs", type=int, default=60)
    parser.add_argument("--faults", type=int, default=16)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between faults, at least")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the first time")
    options = parser.parse_args()
    started, seeds = time.monotonic(), range(options.seed, options.seed + options.times)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        fires = soak(Path(folder), options.pixels, options.packs, options.faults, options.every, seeds)
        for seed, fire in zip(seeds, fires, strict=True):
            print(f"soak {seed}: the same Jacobian, {time.monotonic() - started:.0f} s after the start")
            print(f"  faults: {', '.join(f'{count} x {name}' for name, count in sorted(fire.faults.items()))}")
            print(f"  ends: {', '.join(f'{count} x {name}' for name, count in sorted(fire.exits.items()))}")
            print(f"  pixels run: {fire.ran}", flush=True)


if __name__ == "__main__":
    main()
