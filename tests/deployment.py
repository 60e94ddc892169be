"""A checkout that is deployed by programs that only write down how they are called, and what Helm would make of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[1]
DIGEST = "sha256:" + "0123456789abcdef" * 4
KUBERNETES = "1.33"  # whose schemas every object must fit
FAKE = """\
import json, os, sys
from pathlib import Path
place = Path(os.environ["FAKES"])
words = [Path(sys.argv[0]).name, *sys.argv[1:]]
with (place / "calls").open("a") as file:
    file.write(json.dumps(words) + "\\n")
for start, (said, code) in json.loads((place / "answers").read_text()).items():
    if " ".join(words).startswith(start):
        print(said)
        sys.exit(code)
"""
ENVIRONMENTS = ("local", "dev", "prod")


@dataclass
class Checkout:
    """A copy of what deploys, as a clean commit of its own, beside the programs that it calls."""

    folder: Path
    answers: dict[str, tuple[str, int]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path) -> "Checkout":
        shutil.copytree(ROOT / "helm-values", folder / "helm-values")
        shutil.copytree(ROOT / "docker", folder / "docker")
        shutil.copy2(ROOT / "Makefile", folder)
        (folder / ".gitignore").write_text("/build/\n/programs/\n")
        programs = folder / "programs"
        programs.mkdir()
        for name in ("kubectl", "helm", "docker"):
            (programs / name).write_text(f"#!{sys.executable} -IS\n{FAKE}")
            (programs / name).chmod(0o755)
        made = cls(folder)
        made.git("init", "--quiet")
        made.commit()
        return made

    def git(self, *words: str) -> str:
        who = [part for name in ("name", "email") for part in ("-c", f"user.{name}={name}@example.org")]
        return subprocess.run(
            ["git", *who, *words], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "one")

    def change(self, name: str) -> None:
        """Let a file be another than that of the commit."""
        file = self.folder / name
        file.write_text(f"{file.read_text()}# changed\n")

    @property
    def head(self) -> str:
        return self.git("rev-parse", "--short=12", "HEAD")

    def on(self, context: str, namespace: str = "", label: str | None = None) -> None:
        """Let kubectl be at a cluster: its context, that context's namespace, and how the target is labelled."""
        self.answers = {
            "kubectl config current-context": (context, 0),
            "kubectl config view": (namespace, 0),
            f"kubectl --context {context} get namespace": ("", 1) if label is None else (label, 0),
        }

    def pushed(self, commit: str | None = None) -> None:
        """Let this commit's image be in the registry."""
        (self.folder / "build").mkdir(exist_ok=True)
        (self.folder / "build/image").write_text(f"place:5000/stilt-assets@{DIGEST} {commit or self.head}\n")

    def make(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "programs/answers").write_text(json.dumps(self.answers))
        (self.folder / "programs/calls").unlink(missing_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "IMAGE"}}
        environment = kept | {
            "PATH": f"{self.folder}/programs:{os.environ['PATH']}",
            "FAKES": f"{self.folder}/programs",
        }
        return subprocess.run(
            ["make", *words],
            cwd=self.folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self, program: str) -> list[list[str]]:
        file = self.folder / "programs/calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [words for words in map(json.loads, lines) if words[0] == program]

    def deploy(self, environment: str) -> list[str]:
        """The one call of helm that puts an environment into service."""
        namespace = f"stilt-{environment}"
        self.on("kind-here" if environment == "local" else "gke_my-project_there", namespace, environment)
        self.pushed()
        done = self.make(
            "deploy",
            f"ENVIRONMENT={environment}",
            PROJECT="my-project",
            REGION="europe-west1",
            CONFIRM=namespace,
        )
        assert done.returncode == 0, done.stderr
        (call,) = self.calls("helm")
        return call


# ---- what Helm makes of it


def merged(onto: Any, by: Any) -> Any:
    """Values as Helm joins them: maps key by key, all else whole; of `--set`, lists place by place."""
    if isinstance(onto, dict) and isinstance(by, dict):
        return onto | {name: merged(onto.get(name), value) for name, value in by.items()}
    if isinstance(onto, list) and isinstance(by, list) and any(isinstance(each, dict | None) for each in by):
        longest = max(len(onto), len(by))
        padded = [[*values, *[None] * (longest - len(values))] for values in (onto, by)]
        return [merged(old, new) for old, new in zip(*padded, strict=True)]
    return onto if by is None else by


def layered(onto: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    """A file of values on top of others: only maps are joined."""
    both = {name: value for name, value in by.items() if isinstance(value, dict) and isinstance(onto.get(name), dict)}
    return onto | by | {name: layered(onto[name], value) for name, value in both.items()}


def values_of(call: list[str], folder: Path) -> dict[str, Any]:
    """The values that a call of helm gives to the chart."""
    pairs = list(pairwise(call))
    files = [yaml.safe_load((folder / word).read_text()) for flag, word in pairs if flag == "--values"]
    given = [helm_python.parse_set_string(word) for flag, word in pairs if flag == "--set-string"]
    return reduce(merged, given, reduce(layered, files, {}))


def objects(rendered: dict[str, str]) -> list[dict[str, Any]]:
    """The Kubernetes objects of rendered templates."""
    texts = [text for name, text in sorted(rendered.items()) if name.endswith((".yaml", ".yml"))]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def misfits(found: list[dict[str, Any]]) -> list[str]:
    """What does not fit the schemas of Kubernetes, a line each; a field that Kubernetes does not know is one."""
    wrong = []
    for each in found:
        try:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            wrong.append(f"{each['kind']} {each['metadata']['name']}: {str(error).splitlines()[0]}")
    return wrong


def stub_chart(folder: Path, version: str) -> Path:
    """A chart of the official one's name that renders only `extraManifests`, as the official one does."""
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: dagster\nversion: {version}\n")
    (folder / "templates/extra-manifests.yaml").write_text(
        "{{- range .Values.extraManifests }}\n---\n{{ tpl (toYaml .) $ }}\n{{- end }}\n"
    )
    return folder


def offline_chart(chart: Path, folder: Path) -> Path:
    """A copy of the official chart whose schemas hold the definitions that they would fetch from the web."""
    shutil.copytree(chart, folder)
    schemas = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    definitions = json.loads((schemas / f"v{KUBERNETES}.0-local" / "_definitions.json").read_text())["$defs"]
    for file in folder.rglob("values.schema.json"):
        schema = json.loads(re.sub(r"https://[^\"#]*_definitions\.json#/definitions/", "#/$defs/", file.read_text()))
        schema["$defs"] = definitions | schema.get("$defs", {})
        file.write_text(json.dumps(schema).replace("/api/_definitions.json#/$defs/", "#/$defs/"))
    return folder


# ---- what Dagster makes of it


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def snaked(value: Any) -> Any:
    """Values of the chart as Dagster's own configuration names them; what is empty is left out, as the chart does."""
    if isinstance(value, dict):
        return {snake(name): snaked(each) for name, each in value.items() if each not in (None, [], {})}
    return [snaked(each) for each in value] if isinstance(value, list) else value


def instance_of(values: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The parts of dagster.yaml that the chart writes from values of the same names."""
    daemon, given = values["dagsterDaemon"], values["runLauncher"]["config"]["k8sRunLauncher"]
    raw = given["runK8sConfig"]  # of Kubernetes, whose own names stay
    launcher = {snake(name): each for name, each in given.items() if name not in {"envConfigMaps", "runK8sConfig"}}
    logs = values["computeLogManager"]
    ((_, settings),) = logs["config"].items()
    kind, queue = logs["type"], daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    home = {"GCSComputeLogManager": "dagster_gcp.gcs.compute_log_manager"}
    return {
        "run_launcher": {
            "module": "dagster_k8s",
            "class": values["runLauncher"]["type"],
            "config": launcher
            | {
                "load_incluster_config": True,
                "job_namespace": namespace,
                "service_account_name": values["serviceAccount"]["name"],
                "dagster_home": values["global"]["dagsterHome"],
                "instance_config_map": values["global"]["dagsterInstanceConfigMap"],
                "postgres_password_secret": values["global"]["postgresqlSecretName"],
                "env_config_maps": [each["name"] for each in given["envConfigMaps"]],
                "run_k8s_config": {snake(name): each for name, each in raw.items()},
            },
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": snaked(queue),
        },
        "compute_logs": {
            "module": home.get(kind, "dagster.core.storage.local_compute_log_manager"),
            "class": kind,
            "config": snaked(settings),
        },
        **{snake(name): snaked(daemon[name]) for name in ("runMonitoring", "runRetries", "sensors", "backfills")},
        **{
            name: {snake(key): each for key, each in snaked(values[name]).items() if key != "enabled"}
            for name in ("retention", "concurrency")
        },
        "telemetry": values["telemetry"],
        **values["additionalInstanceConfig"],
    }
