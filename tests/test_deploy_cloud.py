"""Terraform and the values mean the same things by the same names, and the guide's words are those of the programs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deployment import FAKE, ROOT

TERRAFORM = {
    path.relative_to(ROOT / "terraform").as_posix(): path.read_text() for path in ROOT.glob("terraform/**/*.tf")
}
VALUES = {name: (ROOT / f"helm-values/{name}.yaml").read_text() for name in ("base", "gke", "dev", "prod")}
GUIDE = (ROOT / "docs/deploy.md").read_text()


def entries(name: str, file: str) -> list[str]:
    """The keys of a map among a file's locals."""
    block = re.search(rf"^  {name}\s+= {{\n(.*?)^  }}", TERRAFORM[file], re.MULTILINE | re.DOTALL)
    assert block is not None
    return re.findall(r"^    (\w+)\s+=", block[1], re.MULTILINE)


def test_each_account_of_kubernetes_has_one_of_google() -> None:
    manifests = {**yaml.safe_load(VALUES["base"])["extraManifests"], **yaml.safe_load(VALUES["gke"])["extraManifests"]}
    ours = {name.removeprefix("account-") for name in manifests if name.startswith("account-")} - {"reader"}
    assert ours == set(entries("roles", "environment/accounts.tf"))
    assert 'account_id   = "stilt-${var.environment}-${each.key}"' in TERRAFORM["environment/accounts.tf"]
    assert "svc.id.goog[stilt-${var.environment}/${each.key}]" in TERRAFORM["environment/accounts.tf"]


def test_each_bucket_is_made_and_used() -> None:
    text = "".join(VALUES.values())
    used = set(re.findall(r"-stilt-\{\{ \.Values\.stilt\.stage \}\}-(\w+)\"", text)) - set(
        entries("roles", "environment/accounts.tf")
    )
    assert used == set(entries("buckets", "environment/buckets.tf")) == {"store", "retrievals", "logs"}
    assert 'name     = "${var.project}-stilt-${var.environment}-${each.key}"' in TERRAFORM["environment/buckets.tf"]


def test_each_pool_that_steps_ask_for_is_made_with_its_label_and_its_taint() -> None:
    data = yaml.safe_load(VALUES["gke"])["extraManifests"]["environment"]["data"]
    asked = {value for name, value in data.items() if name.startswith("STILT_ASSETS_POOL_")}
    made = entries("pools", "cluster/pools.tf")
    assert asked == set(made) - {"system"}
    assert '"stilt-assets/pool" = each.key' in TERRAFORM["cluster/pools.tf"]
    assert 'key    = "stilt-assets/pool"' in TERRAFORM["cluster/pools.tf"]
    spot = re.findall(r"(\w+)\s+= { size = \S+, spot = true", TERRAFORM["cluster/pools.tf"])
    assert spot == ["packs"]


def test_googles_prometheus_reads_the_page_that_is_there_and_may() -> None:
    asked = yaml.safe_load((ROOT / "helm-values/monitoring.yaml").read_text())["spec"]
    ours = yaml.safe_load(VALUES["base"])["extraManifests"]
    pod = ours["metrics"]["spec"]["template"]
    assert asked["selector"]["matchLabels"] == pod["metadata"]["labels"] == {"app": "metrics"}
    ports = {each["name"]: each["containerPort"] for each in pod["spec"]["containers"][0]["ports"]}
    (rule,) = ours["network-metrics"]["spec"]["ingress"]
    assert [ports[each["port"]] for each in asked["endpoints"]] == [each["port"] for each in rule["ports"]]
    (namespaces,) = rule["from"][0]["namespaceSelector"]["matchExpressions"]
    assert {"gke-gmp-system", "gmp-system"} <= set(namespaces["values"])


def test_nothing_is_public_and_no_pool_is_googles_own() -> None:
    text = "".join(TERRAFORM.values())
    assert "0.0.0.0/0" not in re.sub(r"description\s+= .*", "", text)
    for line in (
        'public_access_prevention    = "enforced"',
        "ipv4_enabled    = false # no public address",
        "enable_private_nodes    = true",
        "remove_default_node_pool = true",
    ):
        assert line in text, line
    (provisioning,) = re.findall(r"cluster_autoscaling {\n\s+enabled\s+= (\w+)", text)
    assert provisioning == "false"
    assert not re.search(r"\bpassword\b\s*=", text)


def test_the_database_takes_the_connections_of_all_pods() -> None:
    given = (ROOT / "terraform/environment/prod.tfvars").read_text()
    connections = int(re.findall(r"connections = (\d+)", given)[0])
    pods = int(re.findall(r'pods: "(\d+)"', VALUES["prod"])[0])
    # Of dagster_home/kubernetes/dagster.yaml: 63 of the webserver, 40 of the daemon, one of each pod.
    assert connections >= 2 * 63 - 63 + 40 + pods - 10


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """A copy of terraform/ beside programs that write down how they are called."""
    shutil.copytree(ROOT / "terraform", tmp_path / "terraform")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("terraform", "gcloud"):
        (programs / name).write_text(f"#!{sys.executable} -IS\n{FAKE}")
        (programs / name).chmod(0o755)
    quotas = {"quotas": [{"metric": "CPUS", "limit": 72.0, "usage": 8.0}]}
    answers = {
        "gcloud compute regions describe": (json.dumps(quotas), 0),
        "gcloud compute instances list": ("", 0),
        "terraform -chdir=cluster output": ("projects/p/global/networks/stilt", 0),
    }
    (programs / "answers").write_text(json.dumps(answers))
    return tmp_path


def applied(infra: Path, part: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    programs = infra / "programs"
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "FAKES": str(programs)} | variables
    done = subprocess.run(
        [infra / "terraform/apply.sh", part], env=environment, capture_output=True, text=True, check=False
    )
    (programs / "calls").touch()
    calls = [json.loads(line) for line in (programs / "calls").read_text().splitlines()]
    return done, [words[2] for words in calls if words[0] == "terraform" and words[2] != "output"]


def test_nothing_is_applied_before_a_plan_was_shown_and_confirmed(infra: Path) -> None:
    place = {"PROJECT": "p", "REGION": "r", "ZONE": "r-b", "AUTHORIZED": '{"me": "192.0.2.1/32"}'}
    done, calls = applied(infra, "cluster", **place)
    assert (done.returncode, calls) == (2, ["init", "plan"])
    assert "nothing was changed; read the plan, then say CONFIRM=stilt-cluster" in done.stderr
    told = json.loads((infra / "terraform/cluster/quota.auto.tfvars.json").read_text())
    assert told == {"limits": {"CPUS": 72.0}, "used": {"CPUS": 8.0}}
    (infra / "programs/calls").unlink()
    done, calls = applied(infra, "cluster", **place, CONFIRM="stilt-cluster")
    assert (done.returncode, calls) == (0, ["init", "plan", "apply"])


def test_dev_and_prod_have_states_and_variables_of_their_own(infra: Path) -> None:
    for part in ("dev", "prod"):
        applied(infra, part, PROJECT="p", REGION="r", CONFIRM="stilt-cluster")
        lines = (infra / "programs/calls").read_text()
        assert f'"prefix={part}"' in lines
        assert f'"{part}.tfvars"' in lines
        assert '"apply"' not in lines
        assert '"network=projects/p/global/networks/stilt"' in lines


def test_a_part_goes_only_by_a_word_of_its_own(infra: Path) -> None:
    place = {"PROJECT": "p", "REGION": "r", "REMOVE": "yes"}
    done, calls = applied(infra, "dev", **place, CONFIRM="stilt-dev")
    assert (done.returncode, calls) == (2, ["init", "init", "plan"])
    assert "say CONFIRM=remove-stilt-dev" in done.stderr
    assert '"-destroy"' in (infra / "programs/calls").read_text()
    (infra / "programs/calls").unlink()
    done, calls = applied(infra, "dev", **place, CONFIRM="remove-stilt-dev")
    assert (done.returncode, calls) == (0, ["init", "init", "plan", "apply"])


@pytest.mark.parametrize(
    ("part", "given", "why"),
    [
        ("", {}, "'' is no part: say PART=cluster, dev or prod"),
        ("dev", {"PROJECT": "p"}, "say PROJECT=… and REGION=…"),
        ("cluster", {"PROJECT": "p", "REGION": "r", "ZONE": "r-b"}, "say ZONE=… and AUTHORIZED="),
        ("dev", {"PROJECT": "p", "REGION": "r", "REMOVE": "no"}, "REMOVE=no means nothing"),
    ],
)
def test_what_is_missing_is_said_in_one_line(infra: Path, part: str, given: dict[str, str], why: str) -> None:
    done, calls = applied(infra, part, **given)
    assert (done.returncode, calls) == (2, [])
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"infra: refused: {why}")


# ---- the guide


def test_the_guide_names_files_targets_and_objects_that_there_are() -> None:
    files = re.findall(r"`((?:docker|helm-values|terraform|dagster_home)/[\w./-]*)`", GUIDE)
    assert [name for name in files if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"\bmake ([a-z_-]+)", GUIDE))
    said = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= said
    assert {"deploy", "deploy_local", "push_images", "infra"} <= targets


def test_the_guides_variables_are_terraforms() -> None:
    text = "".join(TERRAFORM.values())
    given = dict(re.findall(r"TF_VAR_(\w+)=('\{.*?\}'|\w+)", GUIDE))
    assert {"packs", "system", "meteorology", "disk", "protected"} <= set(given)
    for name, value in given.items():
        kinds = re.findall(rf'variable "{name}" {{\n.*\n\s+type\s+= (.+)\n', text)
        assert kinds, name
        if value.startswith("'"):
            assert set(json.loads(value.strip("'"))) == set(re.findall(r"(\w+) = ", kinds[0])), name
    confirmed = set(re.findall(r"CONFIRM=([\w-]+)", GUIDE))
    assert confirmed == {"stilt-cluster", "stilt-", "stilt-prod", "remove-stilt-cluster", "remove-stilt-"}


def test_the_guide_knows_every_refusal_of_production() -> None:
    script = (ROOT / "helm-values/deploy.sh").read_text()
    for word in ("stilt-assets/environment", "CONFIRM=stilt-prod", "build/image", "deploy: refused:"):
        assert word in GUIDE, word
    assert "deploy: refused: " in script
