"""Who is told of scenes that failed and of runs that are stuck: once each, whatever is down or restarted meanwhile."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test, freeze_time
from place import KEY, Place
from receiver import Receiver, receiving

from stilt_assets import webhook
from stilt_assets.defs import alerts, failures
from stilt_assets.defs.metadata import in_one_line
from stilt_assets.defs.partitions import scenes
from stilt_assets.defs.resources import SettingsResource
from stilt_assets.errors import StoreError
from stilt_assets.settings import AlertSettings
from stilt_assets.webhook import Alert, Webhook

HOUR = 3600.0
KEYS = [f"201905{day:02d}T0958Z_tropomi_slc" for day in range(1, 31)]


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def folder(tmp_path: Path, there: Receiver, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for an instance; the webhook is set, and settings are not."""
    monkeypatch.setenv(webhook.VARIABLE, there.url)
    monkeypatch.delenv("STILT_ASSETS_CONFIG", raising=False)
    monkeypatch.setattr(webhook, "_PAUSE", 0.01)
    return tmp_path


@pytest.fixture
def instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        tick(instance)  # what failed before the first look is not told
        yield instance


def tick(instance: dg.DagsterInstance, ahead: float = 60.0) -> str:
    """One tick of the sensor, so many seconds from now; what it says."""
    clock = SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts, "time", clock)
        answer = alerts.alerts(dg.build_sensor_context(instance))
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message or ""


def fail(instance: dg.DagsterInstance, key: str, error: Exception, tags: dict[str, str] | None = None) -> str:
    """A scene's run that fails in one of its steps; the run's id."""

    @dg.asset(partitions_def=scenes)
    def footprints() -> None:
        with in_one_line():
            raise error

    instance.add_dynamic_partitions("scenes", [key])
    done = dg.materialize([footprints], instance=instance, partition_key=key, raise_on_error=False, tags=tags)
    assert not done.success
    return done.run_id


def denied(bucket: str = "b") -> StoreError:
    return StoreError(f"writing gs://{bucket}/scenes is forbidden (403)", "denied")


def waits(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, key: str = KEY, **tags: str) -> str:
    """A run of that status, made just now; its id."""
    given = {"dagster/partition": key} | {name.replace("__", "/"): value for name, value in tags.items()}
    code = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="127.0.0.1", port=9), "__repository__")
    origin = code.get_job_origin("scene")
    return create_run_for_test(instance, "scene", status=status, tags=given, remote_job_origin=origin).run_id


# ---- failures


def test_a_failed_scene_is_told_once_with_its_reason_and_what_to_do(
    instance: dg.DagsterInstance, there: Receiver
) -> None:
    run = fail(instance, KEY, denied())
    assert tick(instance) == "1 told, 0 wait"
    (body,) = there.got
    assert body["text"] == (
        f"{KEY} failed: denied: writing gs://b/scenes is forbidden (403) "
        "operator: mend the permissions or credentials. (see docs/runbook.md#denied)"
    )
    assert (body["kind"], body["reason"], body["scenes"], body["run"]) == ("failed", "denied", [KEY], run)
    assert there.heads[0]["Idempotency-Key"] == body["id"] == f"failed:{run}"
    for _ in range(3):
        assert tick(instance) == "0 told, 0 wait"
    assert len(there.got) == 1


def test_it_links_to_the_run_where_the_settings_name_a_page(
    instance: dg.DagsterInstance, there: Receiver, folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(folder / "place", shared, alerts__page="https://dagster.example.org/")
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    run = fail(instance, KEY, denied())
    tick(instance)
    assert there.got[0]["link"] == f"https://dagster.example.org/runs/{run}"
    assert there.got[0]["link"] in there.texts[0]


def test_a_failure_of_no_reason_is_told_in_its_first_words(instance: dg.DagsterInstance, there: Receiver) -> None:
    fail(instance, KEY, KeyError("no\nsuch key"))
    tick(instance)
    assert there.texts[0].startswith(f"{KEY} failed: KeyError: 'no\\nsuch key' Look at the run's log.")
    assert there.got[0]["reason"] == ""


def test_credentials_in_a_message_are_not_told(instance: dg.DagsterInstance, there: Receiver) -> None:
    fail(instance, KEY, ValueError("cannot read https://me:hunter2@host/file?X-Amz-Signature=abcdef0123456789"))
    tick(instance)
    assert "hunter2" not in there.texts[0]
    assert "abcdef0123456789" not in there.texts[0]


def test_a_blocking_check_that_fails_is_told_as_pixels_that_were_lost(
    instance: dg.DagsterInstance, there: Receiver
) -> None:
    @dg.asset(partitions_def=scenes)
    def footprints() -> None: ...

    @dg.asset_check(asset=footprints, blocking=True)
    def few_pixels_lost() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="3 of 7 pixels lost (42.9%): 3 timeout")

    instance.add_dynamic_partitions("scenes", [KEY])
    done = dg.materialize([footprints, few_pixels_lost], instance=instance, partition_key=KEY, raise_on_error=False)
    assert not done.success
    tick(instance)
    assert there.got[0]["reason"] == "pixels_lost"
    assert "few_pixels_lost: 3 of 7 pixels lost (42.9%): 3 timeout" in there.texts[0]


def test_settings_that_cannot_be_read_are_told_though_they_fail_before_any_step(
    instance: dg.DagsterInstance, there: Receiver
) -> None:
    @dg.asset(partitions_def=scenes)
    def pixels(settings: dg.ResourceParam[object]) -> None: ...

    instance.add_dynamic_partitions("scenes", [KEY])
    resources = {"settings": SettingsResource(location="/nowhere/settings.yaml")}
    dg.materialize([pixels], instance=instance, partition_key=KEY, resources=resources, raise_on_error=False)
    tick(instance)
    assert there.texts[0].startswith(f"{KEY} failed: settings: cannot read the settings /nowhere/settings.yaml: ")
    assert "user: mend the line that is named." in there.texts[0]


def test_a_worker_that_is_gone_is_told_with_what_the_daemon_says(instance: dg.DagsterInstance, there: Receiver) -> None:
    run = instance.get_run_by_id(waits(instance, dg.DagsterRunStatus.STARTED))
    assert run is not None
    instance.report_run_failed(run, "Run worker ended: OOMKilled, exit code 137")
    tick(instance)
    assert f"{KEY} failed: Run worker ended: OOMKilled, exit code 137" in there.texts[0]
    instance.report_run_failed(run, "once more, from somebody who is late")
    assert tick(instance) == "0 told, 0 wait"


def test_a_step_whose_pod_is_lost_is_told_by_the_executors_word(instance: dg.DagsterInstance, there: Receiver) -> None:
    fail(instance, KEY, RuntimeError("Step run_shard failed health check: pod_lost: Job dagster-step-1: evicted"))
    tick(instance)
    reason = "pod_lost" if "pod_lost" in failures.REASONS else ""
    assert there.got[0]["reason"] == reason
    assert "dagster-step-1: evicted" in there.texts[0]


def test_many_failures_of_one_reason_are_one_alert(instance: dg.DagsterInstance, there: Receiver) -> None:
    for key in KEYS[:7]:
        fail(instance, key, denied())
    fail(instance, KEYS[8], StoreError("no answer", "unreachable"))
    assert tick(instance) == "2 told, 0 wait"
    many, one = there.got
    assert (many["count"], many["scenes"], many["reason"]) == (7, KEYS[:7], "denied")
    assert many["text"].startswith(f"7 runs failed: {KEYS[0]}, {KEYS[1]}")
    assert one["reason"] == "unreachable"


def test_a_run_that_dagster_repeats_is_not_told_unless_it_is_not_repeated(
    instance: dg.DagsterInstance, there: Receiver
) -> None:
    repeated, forgotten, given_up = (
        fail(instance, key, denied(), {WILL_RETRY_TAG: "true"}) for key in (KEYS[0], KEYS[1], KEYS[2])
    )
    assert tick(instance) == "0 told, 0 wait"
    instance.add_run_tags(repeated, {AUTO_RETRY_RUN_ID_TAG: "another"})
    instance.add_run_tags(given_up, {WILL_RETRY_TAG: "false"})
    assert tick(instance) == "1 told, 0 wait"
    assert there.got[0]["run"] == given_up
    assert tick(instance, ahead=HOUR) == "1 told, 0 wait"
    assert there.got[1]["run"] == forgotten
    assert tick(instance, ahead=2 * HOUR) == "0 told, 0 wait"


def test_what_failed_just_now_waits_for_the_next_look(instance: dg.DagsterInstance, there: Receiver) -> None:
    fail(instance, KEY, denied())
    assert tick(instance, ahead=0.0) == "0 told, 0 wait"
    assert tick(instance) == "1 told, 0 wait"


def test_what_failed_before_the_first_look_is_not_told(folder: Path, there: Receiver) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        fail(instance, KEYS[0], denied())
        assert tick(instance) == "0 told, 0 wait"
        fail(instance, KEYS[1], denied())
        assert tick(instance) == "1 told, 0 wait"
    assert there.got[0]["scenes"] == [KEYS[1]]


# ---- a webhook that is down


@pytest.mark.parametrize("answer", [0, 500, 503, 429, 408])
def test_a_webhook_that_is_down_loses_nothing_and_is_not_pressed(
    instance: dg.DagsterInstance, there: Receiver, answer: int
) -> None:
    for key in KEYS[:3]:
        fail(instance, key, denied(key))
    there.answers += [answer] * 4
    for _ in range(2):
        said = tick(instance)
        assert said.startswith("0 told, 3 wait; the webhook at 127.0.0.1")
    assert there.tried == 4  # two tries of the first alert at each tick
    fail(instance, KEYS[3], denied(KEYS[3]))
    assert tick(instance) == "4 told, 0 wait"
    assert [body["scenes"] for body in there.got] == [[key] for key in KEYS[:4]]


def test_one_alert_that_is_refused_does_not_hold_up_the_others(instance: dg.DagsterInstance, there: Receiver) -> None:
    for key in KEYS[:3]:
        fail(instance, key, denied(key))
    there.refuses = KEYS[0]
    assert tick(instance).startswith("2 told, 1 wait; the webhook at 127.0.0.1 answers 400 to failed:")
    assert tick(instance).startswith("0 told, 1 wait")
    there.refuses = ""
    assert tick(instance) == "1 told, 0 wait"
    assert sorted(body["scenes"][0] for body in there.got) == KEYS[:3]


def test_a_redirection_is_not_followed(there: Receiver) -> None:
    there.answers += [302]
    answer = Webhook(there.url).post(Alert("a", "failed", "something"))
    assert (answer.told, answer.away, there.tried) == (False, False, 1)


def test_the_address_is_a_secret(there: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_PAUSE", 0.01)
    there.answers += [0, 0, 403]
    hook = Webhook(there.url)
    for _ in range(2):
        answer = hook.post(Alert("a", "failed", "something"))
        assert "s3cr3t" not in answer.line + repr(hook) + str(hook)
        assert "127.0.0.1" in answer.line
    nobody = Webhook("http://127.0.0.1:9/services/T000/B000/s3cr3t")  # the library's own message would name the path
    assert (
        nobody.post(Alert("a", "failed", "something")).line
        == "the webhook at 127.0.0.1 does not answer (ConnectionError)"
    )


@pytest.mark.parametrize("url", ["hooks.example.org/x", "ftp://host/s3cr3t", "https://", "http://host:port/s3cr3t"])
def test_what_is_no_address_is_told_without_repeating_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv(webhook.VARIABLE, url)
    said = tick(instance)
    assert said == f"{webhook.VARIABLE} is no address of the form https://host/path"


def test_without_a_webhook_nothing_is_done_and_the_sensor_is_off(
    instance: dg.DagsterInstance, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(webhook.VARIABLE)
    fail(instance, KEY, denied())
    assert tick(instance) == f"{webhook.VARIABLE} is not set: nobody is told"
    assert there.tried == 0
    assert alerts.alerts.default_status == dg.DefaultSensorStatus.STOPPED


# ---- restarts


def test_a_daemon_that_dies_at_any_alert_neither_loses_nor_doubles_one(folder: Path, there: Receiver) -> None:
    """It dies as the second of three alerts has been taken, with whatever it had not kept."""
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        tick(instance)
        for key in KEYS[:3]:
            fail(instance, key, denied(key))
        with pytest.raises(KeyboardInterrupt):
            tick_until(instance, 2)
        assert len(there.got) == 2
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        fail(instance, KEYS[3], denied(KEYS[3]))
        assert tick(instance) == "2 told, 0 wait"
    assert [body["scenes"][0] for body in there.got] == KEYS[:4]
    assert len({body["id"] for body in there.got}) == 4


def tick_until(instance: dg.DagsterInstance, number: int) -> None:
    """A tick that ends by force after so many alerts were taken and kept."""
    real: Callable[..., None] = alerts.Ledger.keep
    left = [number + 1]  # the ledger is kept once before the first alert

    def keep(ledger: alerts.Ledger, instance: dg.DagsterInstance) -> None:
        real(ledger, instance)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts.Ledger, "keep", keep)
        tick(instance)


def test_a_flood_is_told_in_bounded_ticks_and_whole(
    instance: dg.DagsterInstance, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_POSTS", 2)
    monkeypatch.setattr(alerts, "_MOST", 3)
    monkeypatch.setattr(failures, "_AT_ONCE", 4)
    for number, key in enumerate(KEYS[:11]):
        fail(instance, key, denied() if number % 2 else StoreError("no answer", "unreachable"))
    said = []
    while not said or (len(said) < 12 and not said[-1].startswith("0 told")):
        said.append(tick(instance))
    assert sum(body["count"] for body in there.got) == 11
    assert sorted(scene for body in there.got for scene in body["scenes"]) == KEYS[:11]
    assert all(int(line.split()[0]) <= 2 for line in said)


# ---- stuck runs


def test_a_run_without_an_event_is_told_once_and_again_after_it_went_on(
    instance: dg.DagsterInstance, there: Receiver
) -> None:
    run = waits(instance, dg.DagsterRunStatus.STARTED)
    said = instance.get_run_by_id(run)
    assert said is not None
    instance.report_engine_event("begun", said)
    assert tick(instance, ahead=2 * HOUR) == "0 told, 0 wait"
    assert tick(instance, ahead=4 * HOUR) == "1 told, 0 wait"
    assert there.texts[0].startswith(f"{KEY} runs and has told nothing for 4.0 h.")
    assert there.got[0]["kind"] == "stuck"
    assert tick(instance, ahead=5 * HOUR) == "0 told, 0 wait"
    assert tick(instance, ahead=1 * HOUR) == "0 told, 0 wait"  # as if it had told something since
    assert tick(instance, ahead=6 * HOUR) == "1 told, 0 wait"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
def test_a_run_that_never_starts_is_told(
    instance: dg.DagsterInstance, there: Receiver, status: dg.DagsterRunStatus
) -> None:
    waits(instance, status)
    assert tick(instance, ahead=0.9 * HOUR) == "0 told, 0 wait"
    assert tick(instance, ahead=1.5 * HOUR) == "1 told, 0 wait"
    assert "was to start 1.5 h ago and has not" in there.texts[0]
    assert there.got[0]["runbook"] == "docs/runbook.md#a-run-that-does-not-start"


def test_a_queue_that_stands_is_one_alert_whatever_waits_in_it(instance: dg.DagsterInstance, there: Receiver) -> None:
    for key in KEYS[:5]:
        waits(instance, dg.DagsterRunStatus.QUEUED, key, stilt_assets__origin="backfill")
    assert tick(instance, ahead=0.5 * HOUR) == "0 told, 0 wait"
    assert tick(instance, ahead=2 * HOUR) == "1 told, 0 wait"
    assert there.texts[0].startswith("The queue stands: nothing runs, and its first run has waited for 2.0 h.")
    waits(instance, dg.DagsterRunStatus.QUEUED, KEYS[6])
    assert tick(instance, ahead=3 * HOUR) == "0 told, 0 wait"


def test_a_backfill_that_waits_its_turn_is_not_stuck_and_an_arrival_that_waits_as_long_is(
    instance: dg.DagsterInstance, there: Receiver
) -> None:
    running = instance.get_run_by_id(waits(instance, dg.DagsterRunStatus.STARTED, KEYS[9]))
    assert running is not None
    for key in KEYS[:5]:
        waits(instance, dg.DagsterRunStatus.QUEUED, key, stilt_assets__origin="backfill")
    wanted = AlertSettings(silent=1000.0)  # pyright: ignore[reportCallIssue]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts, "_wanted", lambda: wanted)
        assert tick(instance, ahead=50 * HOUR) == "0 told, 0 wait"
        waits(instance, dg.DagsterRunStatus.QUEUED, KEYS[5], stilt_assets__origin="arrival")
        waits(instance, dg.DagsterRunStatus.QUEUED, KEYS[6])
        assert tick(instance, ahead=5 * HOUR) == "0 told, 0 wait"
        assert tick(instance, ahead=7 * HOUR) == "1 told, 0 wait"
    assert there.texts[0].startswith("2 runs have waited for more than 6 h, the first for 7.0 h.")


def test_runs_that_somebody_paused_wait_as_they_should(instance: dg.DagsterInstance, there: Receiver) -> None:
    waits(instance, dg.DagsterRunStatus.QUEUED, stilt_assets__origin="backfill", stilt_assets__paused="yes")
    assert tick(instance, ahead=1000 * HOUR) == "0 told, 0 wait"
    assert there.tried == 0


def test_a_queue_in_which_something_ended_lately_moves(instance: dg.DagsterInstance, there: Receiver) -> None:
    waits(instance, dg.DagsterRunStatus.QUEUED, stilt_assets__origin="backfill")
    ended = instance.get_run_by_id(waits(instance, dg.DagsterRunStatus.STARTED, KEYS[9]))
    assert ended is not None
    with freeze_time(datetime.now(UTC) + timedelta(hours=1)):
        instance.report_run_canceled(ended)
    assert tick(instance, ahead=1.5 * HOUR) == "0 told, 0 wait"
    assert tick(instance, ahead=2.5 * HOUR) == "1 told, 0 wait"
    assert there.texts[0].startswith("The queue stands")
