"""Where a scene runs on a cluster: the values of a deployment, Postgres, a store in a bucket, and the scene itself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
import helm_python
import pytest
import yaml
from deployment import ROOT, Checkout, instance_of, objects, stub_chart, values_of
from gcs_server import BUCKET, gcs_server
from place import KEY, Place, contents
from postgres import Postgres, postgres
from taxonomy import seen

from cluster import NAMESPACE, Cluster, Object, who_is
from cluster.deployment import Deployment, deployment
from stilt_assets.reasons import REASONS

HERE = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = {
    "simulation__transport": "still_air:StillAir",
    "simulation__particles": 4,
    "packs__pixels": 2,
    "packs__workers": 1,
    "packs__shards": 3,
}
LIFE = {  # what the environments of the tests say otherwise than those of a deployment
    "run_retries": {"max_retries": 9},
}


@dataclass(frozen=True)
class Release:
    """The values of a deployment, and what they put on the cluster."""

    instance: dict[str, Any]
    environment: dict[str, str]
    role: dict[str, Any]  # of runs
    objects: list[dict[str, Any]]  # that Helm makes of our own manifests


def release_of(folder: Path) -> Release:
    """That of the environment to try things in, with a checkout in a new folder."""
    checkout = Checkout.at(folder)
    values = values_of(checkout.deploy("dev"), checkout.folder)
    with helm_python.Chart.load(stub_chart(checkout.folder / "programs/chart", version="0.0.0")) as chart:
        found = objects(chart.render(values, name="stilt", namespace=NAMESPACE))
    ours = {(each["kind"], each["metadata"]["name"]): each for each in found}
    instance = instance_of(values, NAMESPACE)
    storage = yaml.safe_load((ROOT / "dagster_home/kubernetes/dagster.yaml").read_text())["storage"]
    storage["postgres"]["postgres_db"]["port"] = {"env": "DAGSTER_PG_PORT"}
    # The code location says it otherwise, and here that is no container.
    instance["run_launcher"]["config"]["job_image"] = values["stilt"]["image"]
    for block, changes in LIFE.items():
        instance[block] |= changes
    instance |= {"storage": storage}
    return Release(instance, ours["ConfigMap", "environment"]["data"], ours["Role", "jobs"], found)


def in_peace(folder: Path, shared: Path) -> dict[str, bytes]:
    """The Jacobian of the scene, made in one process with its store on a disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        place = Place(folder, shared, **SETTINGS)
        place.add()
        place.make()
        return contents(place.result("jacobian"))


@dataclass
class World:
    """What a scene on a cluster needs."""

    cluster: Cluster
    release: Release
    postgres: Postgres
    bucket: str  # URL of the server
    folder: Path
    shared: Path
    logs: Path  # where pods keep their logs until these are in the bucket

    @contextmanager
    def scene(self, name: str) -> Iterator["Scene"]:
        """A store, a database and an instance of its own, with the scene registered."""
        store = f"gs://{BUCKET}/{name}"
        place = Place(self.folder / name, self.shared, store=store, **SETTINGS)
        given = self.release.environment | {
            "STILT_ASSETS_STORE": store,
            "STILT_ASSETS_LOGS_BUCKET": BUCKET,
            "STILT_ASSETS_IMAGE_PATIENCE": "1",
            "STILT_ASSETS_NODE_PATIENCE": "1",
            "STILT_ASSETS_POD_LOOK": "1",
            "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": "0.2",
            "STORAGE_EMULATOR_HOST": self.bucket,
            "PYTHONPATH": str(HERE),
        }
        self.postgres.ask(f"CREATE DATABASE {name}")
        database = dict(self.postgres.environment) | {"DAGSTER_PG_DB": name}
        password = database.pop("DAGSTER_PG_PASSWORD")
        for kind in ("configmaps", "secrets"):
            self.cluster.objects.forget(kind)
        self.cluster.put_secret("db-secret", {"postgresql-password": password})
        self.cluster.put_config_map("environment", given | database)
        self.cluster.put_config_map("settings", {"settings.yaml": place.config.read_text()})
        here = given | database | {"DAGSTER_PG_PASSWORD": password, "STILT_ASSETS_CONFIG": str(place.config)}
        logs = self.release.instance["compute_logs"]
        logs = logs | {"config": logs["config"] | {"local_dir": str(self.logs)}}
        instance = self.release.instance | {"compute_logs": logs}
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in here.items():
                patch.setenv(variable, value)
            place.add()
            with deployment(self.folder / f"home-{name}", self.cluster, instance) as dagster:
                yield Scene(place, self.cluster, dagster)


@dataclass
class Scene:
    """One scene on a cluster."""

    place: Place
    cluster: Cluster
    dagster: Deployment

    def jobs(self) -> dict[str, Object]:
        """The last Job of each step, and of the run."""
        return {who_is(job): job for job in self.cluster.jobs()}

    def tried_again(self, run: dg.DagsterRun) -> dict[str, set[str]]:
        """Reasons for which steps of a run were tried again, by the step's key."""
        found: dict[str, set[str]] = {}
        for step, words in self.dagster.said(run, dg.DagsterEventType.STEP_UP_FOR_RETRY):
            found.setdefault(str(step), set()).update(seen(name) for name in REASONS if f"{name}: " in words)
        return found

    def jacobian(self) -> dict[str, bytes]:
        """The files of its current Jacobian in the bucket."""
        fs = fsspec.filesystem("gs", skip_instance_cache=True)
        folder = f"{self.place.settings['store']}/scenes/{KEY}".removeprefix("gs://")
        record = json.loads(fs.cat_file(f"{folder}/scene.json"))
        top = f"{folder}/{record['current']['jacobian']}"
        return {path.removeprefix(f"{top}/"): fs.cat_file(path) for path in fs.find(top)}


@contextmanager
def world_at(folder: Path, shared: Path, release: Release, running: Cluster) -> Iterator[World]:
    """A database and a bucket with nothing in them, beside a cluster."""
    with postgres() as database, gcs_server() as bucket:
        yield World(running, release, database, bucket.url, folder, shared, folder / "logs")
