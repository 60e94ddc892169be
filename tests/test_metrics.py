"""What the page for Prometheus says of a small lopsided store, read with Prometheus' own library."""

import json
import os
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from gcs_server import gcs_server
from place import GRID, Place
from prometheus_client.parser import text_string_to_metric_families

from stilt_assets import arrivals, metrics, tally
from stilt_assets.errors import StoreError, UsageError
from stilt_assets.metrics import Metric, Watch, metrics_of, page
from stilt_assets.scene import Record
from stilt_assets.settings import Settings, load_settings
from stilt_assets.store import Store, open_store
from stilt_assets.table import outcomes_file
from stilt_assets.tally import Count, Tally

NOW = 1_750_000_000.0  # s since 1970: 2025-06-15T15:06:40Z
DONE, RUNNING, NEW = (f"202506{day:02d}T1000Z_tropomi_slc" for day in (1, 2, 3))
MADE_FROM = {
    "particles": {"particles": 20, "hours_back": 2, "keep": "core"},
    "footprints": {"grid": GRID, "particles": "0" * 12},
    "jacobian": {"footprints": "f" * 12, "aggregate": {}},
}
OK = {"status": "ok", "reason": "", "message": "", "seconds": 3.0}
IDS = {"pixels": "a" * 12, "meteorology": "b" * 12, "particles": "c" * 12, "footprints": "f" * 12, "jacobian": "e" * 12}


def told(text: str) -> dict[tuple[str, ...], float]:
    """Every sample of a page: its name and its labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def here(tmp_path: Path) -> tuple[Settings, Store]:
    settings = {
        "store": "./store",
        "retrievals": "./inbox",
        "meteorology": {"product": "hrrr", "source": "./arl"},
        "simulation": {"hours_back": 2, "particles": 20, "top": 2500},
        "packs": {"pixels": 4},
        "targets": {"slc": {"bounds": [-112.36, 40.44, -112.05, 40.56], "grid": GRID}},
        "prices": {"cpu_hour": 36.0, "gigabyte_month": 2.0, "months": 3},
        "arrivals": {"since": "2025-06-01"},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "inbox").mkdir()
    there = load_settings(str(tmp_path / "settings.yaml"))
    return there, open_store(there.store)


def record(key: str, *, file: float = NOW - 5000, **summaries: Mapping[str, Any]) -> Record:
    """A scene of 7 pixels that came so long ago, with results of these stages."""
    made = Record(key, {"path": f"/inbox/{key}.nc", "mtime_ns": int(file * 1e9), "counted": {"pixels": 7}})
    for stage, summary in summaries.items():
        name = f"{stage}-{IDS[stage]}"
        made.results[name] = {"made_from": MADE_FROM.get(stage, {}), "summary": dict(summary)}
        made.current[stage] = name
        made.changed |= {stage, name}
    return made


def closed(key: str, when: float, seconds: float = 40.0, **facts: Any) -> Record:
    """A scene that is done: 4 pixels ok, 2 empty, 1 failed."""
    foot = {"pixels": 7, "ok": 4, "empty": 2, "failed": 1, "reasons": {"timeout": 1}, "packs": 2, "bytes": 300}
    made = record(
        key,
        pixels={"pixels": 7, "dropped": {"glint": 3, "masked": 0}, "bytes": 5000},
        meteorology={"bytes": 2_000_000},
        particles={"keep": "core", "bytes": 1_000},
        footprints=foot | {"seconds": seconds} | facts,
        jacobian={"bytes": 700, "gaps": 1, "nnz": 10},
    )
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(when))
    made.results[f"footprints-{IDS['footprints']}"]["closed"] = stamp
    return made


def put(store: Store, *records: Record) -> None:
    for each in records:
        each.save(store)


def pack(store: Store, key: str, number: int, when: float, *statuses: str, seconds: float = 3.0) -> None:
    """A whole pack of a scene's footprints, written at that time."""
    rows = [
        dict.fromkeys(("pixel", "attempts", "particles", "seed", "row_sum"), 0)
        | {"status": status.partition(":")[0], "reason": status.partition(":")[2], "message": "", "seconds": seconds}
        for status in statuses
    ]
    path = store.pack(store.result(key, f"footprints-{IDS['footprints']}"), number, "outcomes")
    store.write(path, outcomes_file(rows, {}))
    os.utime(path, (when, when))


def mixed(store: Store) -> None:
    """One scene done, one under way with two packs of three, one that was only registered, and two that are none."""
    put(store, closed(DONE, NOW - 1800), record(NEW, file=NOW - 100))
    pack(store, DONE, 0, NOW - 4000, "ok", "ok", "ok", "ok")
    pack(store, DONE, 1, NOW - 1800, "empty", "empty", "failed:timeout")
    running = record(RUNNING, file=NOW - 700, pixels={"pixels": 9, "dropped": {"glint": 2}, "bytes": 6000})
    running.go_under_way(f"footprints-{IDS['footprints']}")
    put(store, running)
    pack(store, RUNNING, 0, NOW - 60, "ok", "failed:killed", "failed:killed", "empty", seconds=2.5)
    pack(store, RUNNING, 1, NOW - 30, "ok", seconds=8.0)
    store.write(store.record("20250604T1000Z_tropomi_slc"), b"{]")
    store.write(store.result("20250605T1000Z_tropomi_slc", "x") + "/y", b"its record is still to come")
    store.write(store.result("no-scene", "x") + "/y", b"somebody else's")


def test_the_numbers_of_a_lopsided_store_are_those_that_one_counts_by_hand(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    found = told(page(metrics_of(Tally(settings, store).look(NOW))))
    by_hand = {
        ("scenes", "registered"): 1,
        ("scenes", "started"): 1,
        ("scenes", "footprints"): 0,
        ("scenes", "done"): 1,
        ("scenes_with_gaps",): 1,
        ("scenes_unread",): 0,
        ("scenes_unreadable",): 2,
        ("pixels", "ok"): 4 + 2,
        ("pixels", "empty"): 2 + 1,
        ("pixels", "failed"): 1 + 2,
        ("pixels", "missing"): (9 - 5) + 7,
        ("failed_pixels", "timeout"): 1,
        ("failed_pixels", "killed"): 2,
        ("dropped_pixels", "glint"): 3 + 2,
        ("dropped_pixels", "masked"): 0,
        ("pixels_per_second",): (3 + 4 + 1) / 3600,
        ("worker_seconds",): 40 + 4 * 2.5 + 8,
        ("cost_dollars", "cpu"): 58 / 3600 * 36,
        ("cost_dollars", "storage"): (2_007_000 + 6000) / 1e9 * 2 * 3,
        ("recent_scene_worker_seconds", DONE): 40,
        ("recent_scene_cost_dollars", DONE): 40 / 3600 * 36 + 2_007_000 / 1e9 * 2 * 3,
        ("store_bytes", "meteorology"): 2_000_000,
        ("store_bytes", "pixels"): 11_000,
        ("retrievals_waiting", "unread"): 0,
        ("retrievals_waiting", "registered"): 1,
        ("retrievals_waiting", "started"): 1,
        ("oldest_retrieval_age_seconds", "unread"): 0,
        ("oldest_retrieval_age_seconds", "registered"): 100,
        ("oldest_retrieval_age_seconds", "started"): 700,
    }
    for (name, *labels), value in by_hand.items():
        assert found[f"stilt_assets_{name}", *labels] == pytest.approx(value), name
    assert not [key for key in found if key[0] == "stilt_assets_cost_dollars" and key[1] in ("writes", "download")]


def test_names_have_units_and_help_is_a_sentence(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    watch = Watch(Tally(settings, store))
    watch.look(NOW)
    families = list(text_string_to_metric_families(page(watch.metrics)))
    assert len(families) > 15
    for family in families:
        assert family.name.startswith("stilt_assets_")
        assert family.documentation[0].isupper()
        assert family.documentation.endswith(".")
        if any(word in family.documentation for word in ("Time ", "Age ", "How long")):
            assert family.name.endswith("_seconds"), family.name
        if "ost" in family.name.split("_"):
            assert family.name.endswith("_dollars")
        assert (family.type == "counter") == any(each.name.endswith("_total") for each in family.samples)
    assert len({family.name for family in families}) == len(families)


def test_without_prices_nothing_is_said_of_dollars(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    free = settings.model_copy(update={"prices": settings.prices.model_copy(update={"cpu_hour": None})})
    names = {name for name, *_ in told(page(metrics_of(Tally(free, store).look(NOW))))}
    assert "stilt_assets_cost_dollars" in names  # that of storage is known
    nothing = settings.model_copy(update={"prices": type(settings.prices)()})  # pyright: ignore[reportCallIssue]
    names = {name for name, *_ in told(page(metrics_of(Tally(nothing, store).look(NOW))))}
    assert not {name for name in names if "dollars" in name}
    assert "stilt_assets_worker_seconds" in names


def test_a_scene_that_runs_again_counts_as_what_runs_now(here: tuple[Settings, Store]) -> None:
    settings, store = here
    again = closed(DONE, NOW - 90_000)
    again.go_under_way(f"footprints-{IDS['footprints']}")
    put(store, again)
    pack(store, DONE, 0, NOW - 90_000, "ok", "ok", "ok", "ok", seconds=4.0)
    count = Tally(settings, store).look(NOW)
    assert (count.states["started"], count.states["done"]) == (1, 0)
    assert dict(count.pixels) == {"ok": 4, "empty": 0, "failed": 0, "missing": 3}
    assert count.seconds == pytest.approx(16.0)
    assert count.rate == 0.0


def test_a_pack_that_is_written_anew_is_read_anew(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    looks = Tally(settings, store)
    assert looks.look(NOW).failed["killed"] == 2
    pack(store, RUNNING, 0, NOW + 20, "ok", "ok", "failed:killed", "empty")
    later = looks.look(NOW + 60)
    assert later.failed["killed"] == 1
    assert later.pixels["ok"] == 4 + 3
    assert later.rate == pytest.approx(8 / 3600)


def test_an_hour_later_the_pixels_count_no_more_for_the_rate(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    looks = Tally(settings, store)
    looks.look(NOW)
    assert looks.look(NOW + 2000).rate == pytest.approx(5 / 3600)
    assert looks.look(NOW + 3580).rate == 0.0


# ---- bounds


class Counting(Store):
    """A store that counts what is read of it."""

    def read_many(self, paths: Any, **how: Any) -> dict[str, bytes]:
        wanted = list(paths)
        READ.append(wanted)
        return super().read_many(wanted, **how)


READ: list[Sequence[str]] = []


def test_a_look_reads_a_bounded_number_of_records_and_in_the_end_all(
    here: tuple[Settings, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = here
    monkeypatch.setattr(tally, "_RECORDS", 8)
    monkeypatch.setattr(tally, "_RESTING", 2)
    hours = [f"20250601T{hour:02d}00Z_tropomi_slc" for hour in range(19)]
    put(store, *(closed(key, NOW - 9e6) for key in hours[:13]), *(record(key) for key in hours[13:]))
    looks, counting = Tally(settings, Counting(store.root)), list[int]()
    READ.clear()
    for number in range(4):
        counting.append(looks.look(NOW + 60 * number).unread)
    assert counting == [13, 7, 1, 0]
    assert max(map(len, READ)) <= 8
    READ.clear()
    for number in range(4, 12):
        looks.look(NOW + 60 * number)
    read = [path for paths in READ for path in paths]
    assert {store.record(key) for key in hours} == set(read)  # what rests is looked at, too, only less often
    often = {key: read.count(store.record(key)) for key in hours}
    assert min(often[key] for key in hours[13:]) > max(often[key] for key in hours[:13])


def test_scenes_that_moved_are_read_before_others(
    here: tuple[Settings, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = here
    monkeypatch.setattr(tally, "_RECORDS", 8)
    monkeypatch.setattr(tally, "_RESTING", 2)
    keys = [f"202506{1 + number // 24:02d}T{number % 24:02d}00Z_tropomi_slc" for number in range(30)]
    put(store, *(record(key) for key in keys))
    looks = Tally(settings, store)
    for number in range(5):
        looks.look(NOW + number)
    put(store, closed(keys[29], NOW))  # read by the last look: its turn comes after that of all others
    assert looks.look(NOW + 9).states["done"] == 0
    assert looks.look(NOW + 10, [keys[29], "20990101T0000Z_tropomi_slc"]).states["done"] == 1


def test_scenes_that_are_gone_count_no_more(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    looks = Tally(settings, store)
    looks.look(NOW)
    store.remove(store.scene(DONE))
    count = looks.look(NOW + 60)
    assert count.states["done"] == 0
    assert "timeout" not in count.failed


# ---- what waits


def test_files_nobody_has_read_wait_and_scenes_on_demand_do_not(here: tuple[Settings, Store]) -> None:
    settings, store = here
    put(store, record("20250531T1000Z_tropomi_slc", file=NOW - 1e6))  # before `arrivals.since`
    for name, age in (("one.nc", 30), ("two.nc", 5000), (".three.nc", 9000), ("four.txt", 9000)):
        file = Path(settings.retrievals, name)
        file.write_bytes(b"")
        os.utime(file, (NOW - age, NOW - age))
    waiting = Tally(settings, store).look(NOW).waiting
    assert waiting["unread"] == tally.Waiting(2, 5000.0)
    assert waiting["registered"] == tally.Waiting(0, 0.0)


# ---- the page


def test_what_fails_is_told_and_the_rest_of_the_page_stays(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    answers = [
        ([Metric.of("runs_failed_last_hour", "Runs that failed.", 3)], []),
        StoreError("no answer", "unreachable"),
    ]

    def queue(_: float) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = Watch(Tally(settings, store), queue)
    watch.look(NOW)
    assert told(page(watch.metrics))["stilt_assets_runs_failed_last_hour",] == 3
    watch.look(NOW + 60)
    found = told(page(watch.metrics))
    assert ("stilt_assets_runs_failed_last_hour",) not in found
    assert found["stilt_assets_scenes", "done"] == 1
    assert found["stilt_assets_looks_total", "queue", "failed"] == 1
    assert found["stilt_assets_looks_total", "store", "done"] == 2
    assert found["stilt_assets_last_look_timestamp_seconds",] == NOW + 60
    assert watch.troubles == ["no answer"]
    Path(settings.retrievals).rmdir()
    answers.append(([], []))
    watch.look(NOW + 120)
    assert ("stilt_assets_scenes", "done") not in told(page(watch.metrics))
    assert "inbox" in watch.troubles[0]


def test_the_page_is_served_as_the_last_look_left_it(here: tuple[Settings, Store]) -> None:
    settings, store = here
    mixed(store)
    watch = Watch(Tally(settings, store))
    watch.look(NOW)
    port = watch.serve("127.0.0.1", 0)
    READ.clear()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert told(answer.read().decode()) == told(page(watch.metrics))
    with pytest.raises(UsageError, match=f"nothing can listen at 127.0.0.1:{port}"):
        watch.serve("127.0.0.1", port)


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.__builtins__, "__import__", _without(metrics.__builtins__["__import__"]))
    with pytest.raises(UsageError, match=r"pip install 'stilt-assets\[metrics\]'"):
        page(metrics_of(Count()))


def _without(real: Any) -> Any:
    def fake(name: str, *rest: Any) -> Any:
        if name == "prometheus_client":
            raise ImportError(name)
        return real(name, *rest)

    return fake


def test_a_store_and_retrievals_in_a_bucket_are_counted_alike(here: tuple[Settings, Store]) -> None:
    with gcs_server():
        store = open_store("gs://bucket/store")
        settings = here[0].model_copy(update={"store": store.root, "retrievals": "gs://bucket/inbox"})
        now = time.time()
        running = record(RUNNING, pixels={"pixels": 9, "dropped": {}, "bytes": 6000})
        running.retrieval = {"path": "gs://bucket/inbox/known.nc", "counted": {"pixels": 9}}
        running.go_under_way(f"footprints-{IDS['footprints']}")
        put(store, running)
        store.write("gs://bucket/inbox/known.nc", b"1")
        store.write("gs://bucket/inbox/new.nc", b"2")
        store.write(store.beside("arrivals", f"{arrived('gs://bucket/inbox/known.nc')}.json"), b"{}")
        rows = [dict.fromkeys(("pixel", "attempts", "particles", "seed", "row_sum"), 0) | OK for _ in range(5)]
        packs = store.result(RUNNING, f"footprints-{IDS['footprints']}")
        store.write(store.pack(packs, 0, "outcomes"), outcomes_file(rows, {}))
        looks = Tally(settings, store)
        count = looks.look(now + 600)
        assert (count.pixels["ok"], count.pixels["missing"], count.rate) == (5, 4, pytest.approx(5 / 3600))
        assert looks.look(now + 4500).rate == 0.0  # the bucket tells when the pack was written
        for state in ("unread", "started"):
            assert count.waiting[state].number == 1
            assert count.waiting[state].oldest == pytest.approx(600, abs=60)
        store.remove("gs://bucket/inbox/known.nc")
        assert Tally(settings, store).look(now + 600).waiting["started"] == tally.Waiting(1, 0.0)


def arrived(url: str) -> str:
    """The id by which a file in the bucket is noted."""
    (each,) = [each for each in arrivals.listed("gs://bucket/inbox") if each.location == url]
    return each.id


def test_the_command_prints_the_page_of_a_real_scene_once(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    place.add()
    done = place.cli("metrics", "--once")
    found = told(done.stdout)
    assert found["stilt_assets_scenes", "registered"] == 1
    assert found["stilt_assets_pixels", "missing"] == 9
    assert found["stilt_assets_retrievals_waiting", "unread"] == 1  # nobody has taken the file in
    assert "DAGSTER_HOME is not set" in done.stderr
    place.make()
    (tmp_path / "home").mkdir()
    done = place.cli("metrics", "--once", DAGSTER_HOME=str(tmp_path / "home"))
    found = told(done.stdout)
    status = json.loads(place.cli("status", "--json").stdout)[0]
    for outcome in ("ok", "empty", "failed", "missing"):
        assert found["stilt_assets_pixels", outcome] == status["outcomes"][outcome]
    assert found["stilt_assets_worker_seconds",] == pytest.approx(status["seconds"], abs=0.06)
    assert found["stilt_assets_pixels_per_second",] == pytest.approx(9 / 3600)
    assert found["stilt_assets_runs", "arrived", "queued"] == 0
