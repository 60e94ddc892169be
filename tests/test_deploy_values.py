"""What the values put on a cluster: what Kubernetes takes, Dagster's own configuration, and no right too many."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_gcp.gcs.compute_log_manager import GCSComputeLogManager
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from deployment import ENVIRONMENTS, ROOT, Checkout, instance_of, misfits, objects, offline_chart, stub_chart, values_of
from kubernetes.client import ApiClient

from stilt_assets.catalog import register
from stilt_assets.defs.kubernetes import Pods
from stilt_assets.defs.pods import as_pod
from stilt_assets.demo import lay_out
from stilt_assets.pod import TYPICAL, requests_of_scene
from stilt_assets.recipes import desk_of
from stilt_assets.settings import load_settings
from stilt_assets.store import open_store

CLOUD = ("dev", "prod")
PACKS = "run_shard"
OFFICIAL = os.environ.get("STILT_DAGSTER_CHART")  # a folder with the official chart; no package registry has it


@dataclass(frozen=True)
class Release:
    """One environment as it would be deployed."""

    environment: str
    values: dict[str, Any]
    ours: list[dict[str, Any]]  # objects of `extraManifests`

    @property
    def namespace(self) -> str:
        return f"stilt-{self.environment}"

    @property
    def instance(self) -> dict[str, Any]:
        return instance_of(self.values, self.namespace)

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.ours if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        return found

    def all_of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {each["metadata"]["name"]: each for each in self.ours if each["kind"] == kind}

    def job(self, work: str = "") -> dict[str, Any]:
        """The Job of a run, or of a step that does some work."""
        step = step_of(self.one("ConfigMap", "environment")["data"], work) if work else {}
        given = self.instance["run_launcher"]["config"]
        raw = UserDefinedDagsterK8sConfig.from_dict(given["run_k8s_config"])
        names = ("image_pull_policy", "service_account_name", "env_config_maps", "env_vars", "volume_mounts", "volumes")
        context = K8sContainerContext(
            **{name: given[name] for name in (*names, "resources", "security_context")}, run_k8s_config=raw
        ).merge(K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(step)))
        config = DagsterK8sJobConfig(
            job_image=self.values["stilt"]["image"],
            dagster_home=given["dagster_home"],
            instance_config_map=given["instance_config_map"],
            postgres_password_secret=given["postgres_password_secret"],
        )
        made = construct_dagster_k8s_job(
            config,
            ["dagster", "api", "execute_run", "{}"],
            "dagster-run-1",
            context.run_k8s_config,
            component="step_worker" if step else "run_worker",
        )
        return ApiClient().sanitize_for_serialization(made)

    def pods(self) -> dict[str, dict[str, Any]]:
        """Specs of all pods, by who they are; of the chart's own, what the values say of them."""
        code = self.values["dagster-user-deployments"]["deployments"][0]
        chart = {"webserver": self.values["dagsterWebserver"], "daemon": self.values["dagsterDaemon"], "code": code}
        found = {
            name: {
                "securityContext": given["podSecurityContext"],
                "volumes": given["volumes"],
                "containers": [
                    {
                        "image": f"{given['image']['repository']}@{given['image']['digest']}",
                        **{key: given[key] for key in ("securityContext", "resources", "volumeMounts")},
                    }
                ],
            }
            for name, given in chart.items()
        }
        kinds = ("Deployment", "StatefulSet", "DaemonSet")
        templates = {each["metadata"]["name"]: each["spec"]["template"] for each in self.ours if each["kind"] in kinds}
        return found | {
            **{name: each["spec"] for name, each in templates.items()},
            "run": self.job()["spec"]["template"]["spec"],
            "step": self.job(PACKS)["spec"]["template"]["spec"],
        }


def step_of(environment: dict[str, str], work: str) -> dict[str, Any]:
    """What a step that does this work asks of Kubernetes in an environment with these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        tags, pods = as_pod(work)["dagster-k8s/config"], Pods.from_environment()
    return tags | {"pod_spec_config": tags["pod_spec_config"] | pods.spec(work)}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    checkout = Checkout.at(tmp_path_factory.mktemp("deploy") / "checkout")
    chart = stub_chart(checkout.folder / "programs/chart", version="0.0.0")
    made = {}
    for name in ENVIRONMENTS:
        values = values_of(checkout.deploy(name), checkout.folder)
        with helm_python.Chart.load(chart) as loaded:
            made[name] = Release(name, values, objects(loaded.render(values, name="stilt", namespace=f"stilt-{name}")))
    return made


@pytest.fixture(params=ENVIRONMENTS)
def release(request: pytest.FixtureRequest, releases: dict[str, Release]) -> Release:
    return releases[request.param]


# ---- Kubernetes takes it


def test_every_object_fits_kubernetes_schemas(release: Release) -> None:
    assert len(release.ours) >= 25
    assert misfits(release.ours) == []
    assert misfits([release.job(), release.job(PACKS)]) == []


def test_an_object_that_does_not_fit_is_noticed(releases: dict[str, Release]) -> None:
    wrong = releases["prod"].one("PodDisruptionBudget", "webserver") | {"spec": {"maxUnavailible": 1}}
    (line,) = misfits([wrong])
    assert line.startswith("PodDisruptionBudget webserver: ")


def test_what_an_object_names_is_there(release: Release) -> None:
    accounts = {"launcher", "code", "run", "pack", "reader"} | ({"postgres"} if release.environment in CLOUD else set())
    assert set(release.all_of("ServiceAccount")) == accounts
    named = {pod["serviceAccountName"] for pod in release.pods().values() if "serviceAccountName" in pod}
    chart = {
        release.values["serviceAccount"]["name"],
        release.values["dagster-user-deployments"]["serviceAccount"]["name"],
    }
    assert named | chart <= accounts
    of_the_chart = {release.values["global"]["dagsterInstanceConfigMap"]}
    maps = {
        each["configMap"]["name"]
        for pod in release.pods().values()
        for each in pod.get("volumes", [])
        if "configMap" in each
    }
    assert maps <= set(release.all_of("ConfigMap")) | of_the_chart
    made_by_the_chart = release.values["generatePostgresqlPasswordSecret"]
    assert made_by_the_chart == ("db-secret" not in release.all_of("Secret"))
    services = {
        name for name, each in release.all_of("Service").items() if each["spec"].get("type", "ClusterIP") == "ClusterIP"
    }
    assert services == {release.values["postgresql"]["postgresqlHost"]}


def test_volumes_and_their_mounts_match(release: Release) -> None:
    for name, pod in release.pods().items():
        given = {volume["name"] for volume in pod.get("volumes", [])} | ({"data"} if name == "postgres" else set())
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= given, name


def test_the_local_lists_are_those_of_base_with_the_store(releases: dict[str, Release]) -> None:
    store = {"name": "store", "persistentVolumeClaim": {"claimName": "store"}}
    local, cloud = (releases[name].pods() for name in ("local", "dev"))
    for name in ("webserver", "daemon", "code", "run", "step"):
        assert local[name]["volumes"] == [*cloud[name]["volumes"], store]
        ours, theirs = (each[name]["containers"][0] for each in (local, cloud))
        assert ours["volumeMounts"] == [*theirs["volumeMounts"], {"name": "store", "mountPath": "/store"}]
        assert (ours["securityContext"], local[name]["securityContext"]) == (
            theirs["securityContext"],
            cloud[name]["securityContext"],
        )
    here, there = (releases[name].values["dagster-user-deployments"]["deployments"][0] for name in ("local", "dev"))
    assert {name for name in there if here.get(name) != there[name]} == {
        "resources",
        "volumes",
        "volumeMounts",
        "annotations",
    }


# ---- Dagster takes it


def test_dagsters_own_types_take_every_block(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in release.one("ConfigMap", "environment")["data"].items():
        monkeypatch.setenv(name, value)  # what a block reads from the environment is in the environment
    found = process_config(dagster_instance_config_schema(), release.instance)
    assert found.success, found.errors
    kinds = {"K8sRunLauncher": K8sRunLauncher, "GCSComputeLogManager": GCSComputeLogManager}
    for block in ("run_launcher", "compute_logs"):
        kind = release.instance[block]["class"]
        if kind in kinds:
            checked = process_config(
                resolve_to_config_type(kinds[kind].config_type()), release.instance[block]["config"]
            )
            assert checked.success, checked.errors
    assert release.instance["compute_logs"]["class"] == (
        "GCSComputeLogManager" if release.environment in CLOUD else "LocalComputeLogManager"
    )


@pytest.mark.parametrize("block", ["run_monitoring", "run_retries", "retention", "concurrency", "backfills"])
def test_a_misspelt_value_is_noticed(releases: dict[str, Release], block: str) -> None:
    instance = releases["prod"].instance
    assert not process_config(
        dagster_instance_config_schema(), instance | {block: instance[block] | {"limmit": 1}}
    ).success


def test_the_numbers_are_those_of_the_instance_that_tests_run(releases: dict[str, Release]) -> None:
    there = yaml.safe_load((ROOT / "dagster_home/kubernetes/dagster.yaml").read_text())
    here = releases["prod"].instance
    for block in ("run_monitoring", "run_retries", "concurrency", "run_coordinator", "backfills", "sensors"):
        assert here[block] == there[block], block
    assert here["retention"]["schedule"] == there["retention"]["schedule"]
    assert (
        here["retention"]["sensor"]["purge_after_days"] | there["retention"]["sensor"]["purge_after_days"]
        == (here["retention"]["sensor"]["purge_after_days"])
    )
    ours, theirs = (each["run_launcher"]["config"] for each in (here, there))
    assert ours["resources"] == theirs["run_k8s_config"]["container_config"]["resources"]
    spec = {
        re.sub(r"(?=[A-Z])", "_", name).lower(): each
        for name, each in ours["run_k8s_config"]["job_spec_config"].items()
    }
    assert spec == theirs["run_k8s_config"]["job_spec_config"]
    for name in ("image_pull_policy", "postgres_password_secret", "env_config_maps"):
        assert ours[name] == theirs[name]
    database = there["storage"]["postgres"]["postgres_db"]
    assert releases["prod"].values["postgresql"]["postgresqlScheme"] == database["scheme"]
    assert releases["prod"].values["postgresql"]["postgresqlParams"] == {
        k: str(v) for k, v in database["params"].items()
    }
    assert here["compute_logs"]["config"]["bucket"] == there["compute_logs"]["config"]["bucket"]


def test_small_environments_run_less_at_a_time(releases: dict[str, Release]) -> None:
    runs = {name: each.instance["concurrency"]["runs"] for name, each in releases.items()}
    assert [runs[name]["max_concurrent_runs"] for name in ENVIRONMENTS] == [1, 4, 25]
    for name in CLOUD:
        limits = {each["key"]: each["limit"] for each in runs[name]["tag_concurrency_limits"]}
        assert 0 < limits["dagster/backfill"] < runs[name]["max_concurrent_runs"]
        assert limits["stilt_assets/paused"] == 0


# ---- and so do we


def test_the_settings_are_ours(release: Release, tmp_path: Path) -> None:
    data = release.one("ConfigMap", "settings")["data"]
    (tmp_path / "settings.yaml").write_text(data["settings.yaml"])
    settings = load_settings(str(tmp_path / "settings.yaml"))
    where = "/store/results" if release.environment == "local" else f"gs://my-project-stilt-{release.environment}-store"
    assert settings.store == where
    assert settings.targets


def test_every_variable_is_one_that_something_reads(release: Release) -> None:
    code = "".join(path.read_text() for path in (ROOT / "stilt_assets").rglob("*.py")) + str(release.instance)
    container = release.job()["spec"]["template"]["spec"]["containers"][0]
    ours = {*release.one("ConfigMap", "environment")["data"], *(each["name"] for each in container["env"])}
    for name in {name for name in ours if name.startswith("STILT_ASSETS_")}:
        known = name in code or (re.sub(r"_(PACKS|STEPS|METEOROLOGY)$", "_{kind}", name) in code)
        assert known, name


def test_what_runs_names_the_image_that_it_is(release: Release) -> None:
    image = release.values["stilt"]["image"]
    code = release.values["dagster-user-deployments"]["deployments"][0]
    assert code["env"] == [{"name": "STILT_ASSETS_IMAGE", "value": image}]
    for job in (release.job(), release.job(PACKS)):
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == image
        assert {"name": "STILT_ASSETS_IMAGE", "value": image} in container["env"]


def quantity(text: str) -> float:
    """Cores, or bytes."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi|)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return float(number) * {"m": 1e-3, "Mi": 2**20, "Gi": 2**30, "": 1}[unit]


def asked(pod: dict[str, Any]) -> tuple[float, float]:
    """Cores and bytes of memory that a pod asks for."""
    wanted = [container["resources"]["requests"] for container in pod["containers"]]
    cores, memory = (sum(quantity(each[name]) for each in wanted) for name in ("cpu", "memory"))
    return cores, memory


def test_a_local_scene_fits_4_cores_and_10_gb(releases: dict[str, Release], tmp_path: Path) -> None:
    local = releases["local"]
    text = local.one("ConfigMap", "settings")["data"]["settings.yaml"].replace("/store/", f"{tmp_path}/")
    lay_out(tmp_path)
    (tmp_path / "settings.yaml").write_text(text)
    settings = load_settings(str(tmp_path / "settings.yaml"))
    store = open_store(settings.store)
    (found,) = register(str(next((tmp_path / "inbox").iterdir())), settings, store)
    assert found.scene is not None
    steps = requests_of_scene(desk_of(found.scene.key, settings, store))
    there = [asked(pod) for name, pod in local.pods().items() if name not in {"step", "metrics"}]
    at_once = max(
        [(settings.packs.shards * steps[PACKS].cpu, settings.packs.shards * steps[PACKS].memory)],
        *[[(step.cpu, step.memory)] for step in steps.values()],
        key=lambda each: each[0][1],
    )
    cores, memory = (sum(each) for each in zip(*there, *at_once, strict=True))
    quota = local.values["stilt"]["quota"]
    assert cores <= quantity(quota["cpu"]) == 4
    assert memory <= min(quantity(quota["memory"]), 10e9)


def test_the_largest_hour_fits_the_namespaces_quota(releases: dict[str, Release]) -> None:
    for name in CLOUD:
        release = releases[name]
        concurrency, quota = release.instance["concurrency"], release.values["stilt"]["quota"]
        packs, runs = concurrency["pools"]["default_limit"], concurrency["runs"]["max_concurrent_runs"]
        cores = packs * TYPICAL[PACKS].cpu + runs * TYPICAL["run"].cpu
        memory = packs * TYPICAL[PACKS].memory + runs * TYPICAL["run"].memory
        assert cores <= quantity(quota["cpu"])
        assert memory <= quantity(quota["memory"])
        assert packs + runs <= int(quota["pods"])


def test_packs_lie_on_spot_nodes_and_runs_do_not(releases: dict[str, Release]) -> None:
    for name in CLOUD:
        run, packs, fetch = (
            releases[name].job(work)["spec"]["template"]["spec"] for work in ("", PACKS, "meteorology")
        )
        assert ("nodeSelector" in run, "tolerations" in run) == (False, False)
        for pod, pool in ((packs, "packs"), (fetch, "meteorology")):
            assert pod["nodeSelector"] == {"stilt-assets/pool": pool}
            taint = {"key": "stilt-assets/pool", "operator": "Equal", "value": pool, "effect": "NoSchedule"}
            assert pod["tolerations"] == [taint]
    assert "nodeSelector" not in releases["local"].job(PACKS)["spec"]["template"]["spec"]


def test_a_run_and_its_steps_have_accounts_of_their_own_and_are_never_replaced(release: Release) -> None:
    for work, account, token in (("", "run", True), (PACKS, "pack", False), ("jacobian", "pack", False)):
        job = release.job(work)["spec"]
        pod = job["template"]["spec"]
        assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == (account, token)
        assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")


# ---- no right too many


def test_no_pod_is_root_or_writes_to_its_image_and_all_are_limited(release: Release) -> None:
    for name, pod in release.pods().items():
        for container in containers(pod):
            context = pod.get("securityContext", {}) | container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True), name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert (context["runAsUser"] == 0) == (name == "scratch"), name
            assert context.get("runAsNonRoot", False) == (name != "scratch"), name
            assert {"memory"} <= set(container["resources"]["limits"]), name
            assert {"cpu"} <= set(container["resources"]["requests"]), name
            assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"]), name
    assert release.values["busybox"]["image"]["tag"].count("@sha256:") == 1


def test_only_who_starts_jobs_may_speak_to_kubernetes(release: Release) -> None:
    assert (release.values["rbacEnabled"], release.values["dagster-user-deployments"]["rbacEnabled"]) == (False, False)
    bound = {
        (each["roleRef"]["name"], subject["name"])
        for each in release.all_of("RoleBinding").values()
        for subject in each["subjects"]
    }
    assert bound == {("jobs", "launcher"), ("jobs", "run"), ("look", "reader")}
    assert {
        subject["namespace"] for each in release.all_of("RoleBinding").values() for subject in each["subjects"]
    } == {release.namespace}
    tokens = {name for name, pod in release.pods().items() if pod.get("automountServiceAccountToken") is True}
    assert tokens == {"run"}
    assert {each["automountServiceAccountToken"] for each in release.all_of("ServiceAccount").values()} == {False}
    rules = [(name, rule) for name, role in release.all_of("Role").items() for rule in role["rules"]]
    verbs = {verb for _, rule in rules for verb in rule["verbs"]}
    resources = {each for _, rule in rules for each in rule["resources"]}
    assert verbs <= {"create", "get", "list", "watch", "delete"}
    assert not resources & {"*", "secrets", "pods/exec", "serviceaccounts", "roles", "rolebindings"}
    assert {
        each for name, rule in rules if name == "look" and "create" in rule["verbs"] for each in rule["resources"]
    } == {"pods/portforward"}


def test_each_account_is_one_of_googles_for_its_role(releases: dict[str, Release]) -> None:
    for name in CLOUD:
        accounts = releases[name].all_of("ServiceAccount")
        told = {
            account: each["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account")
            for account, each in accounts.items()
        }
        assert told.pop("reader") is None
        assert told == {account: f"stilt-{name}-{account}@my-project.iam.gserviceaccount.com" for account in told}


def test_nothing_is_reached_but_by_a_rule_and_nothing_from_outside(release: Release) -> None:
    policies = {name: each["spec"] for name, each in release.all_of("NetworkPolicy").items()}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    sources = [source for each in policies.values() for rule in each.get("ingress", []) for source in rule["from"]]
    assert sources
    assert [source for source in sources if "ipBlock" in source] == []
    (outside,) = policies["outside"]["egress"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(outside["to"][0]["ipBlock"]["except"])
    assert outside["ports"] == [{"protocol": "TCP", "port": 443}]
    assert release.values["dagsterWebserver"]["service"]["type"] == "ClusterIP"


def test_on_google_the_database_has_no_password_and_no_public_address(releases: dict[str, Release]) -> None:
    for name in CLOUD:
        release = releases[name]
        assert not release.values["postgresql"]["enabled"]
        assert release.one("Secret", "db-secret")["stringData"] == {"postgresql-password": "not-used"}
        proxy = release.one("Deployment", "postgres")["spec"]
        words = proxy["template"]["spec"]["containers"][0]["args"]
        assert {"--private-ip", "--auto-iam-authn", f"my-project:europe-west1:stilt-{name}"} <= set(words)
        assert release.values["postgresql"]["postgresqlUsername"] == f"stilt-{name}-postgres@my-project.iam"
        assert proxy["replicas"] > release.one("PodDisruptionBudget", "postgres")["spec"]["minAvailable"]
        metadata = release.one("NetworkPolicy", "metadata")["spec"]["egress"]
        assert {rule["to"][0]["ipBlock"]["cidr"] for rule in metadata} == {"169.254.169.252/32", "169.254.169.254/32"}


def test_results_outlive_the_release(releases: dict[str, Release]) -> None:
    kept = {"annotations": {"helm.sh/resource-policy": "keep"}}
    assert releases["local"].one("PersistentVolumeClaim", "store")["metadata"] == {"name": "store", **kept}
    assert all(release.all_of("PersistentVolumeClaim") == {} for name, release in releases.items() if name in CLOUD)


def test_no_secret_is_in_the_values(releases: dict[str, Release]) -> None:
    for name in CLOUD:
        text = yaml.safe_dump(releases[name].values)
        assert not re.search(r"postgresqlPassword|private_key|BEGIN [A-Z ]*KEY|hooks\.slack", text)
        assert not releases[name].values["generatePostgresqlPasswordSecret"]


# ---- the whole chart


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_chart_renders_what_kubernetes_and_dagster_take(
    releases: dict[str, Release], environment: str, tmp_path: Path
) -> None:
    """Of the official chart where STILT_DAGSTER_CHART names one; else of what stands in for it, which has less."""
    release, folder = releases[environment], tmp_path / "chart"
    chart = offline_chart(Path(OFFICIAL), folder) if OFFICIAL else stub_chart(folder, "0.0.0")
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(release.values)
        found = objects(loaded.render(release.values, name="stilt", namespace=release.namespace))
    assert misfits(found) == []
    assert {each["metadata"]["name"] for each in found} >= {each["metadata"]["name"] for each in release.ours}
    written = [each for each in found if each["metadata"]["name"] == "stilt-dagster-instance"]
    assert len(written) == (1 if OFFICIAL else 0)
    for each in written:
        instance = yaml.safe_load(each["data"]["dagster.yaml"])
        assert {block: instance.get(block) for block in release.instance} == release.instance
