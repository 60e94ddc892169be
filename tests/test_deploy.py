"""What is deployed is what was pushed, and nobody deploys to production by accident."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from deployment import DIGEST, Checkout

DEV, KIND = "gke_my-project_europe-west1_stilt", "kind-stilt"
PLACE = {"PROJECT": "my-project", "REGION": "europe-west1"}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.at(tmp_path / "checkout")


def refused(checkout: Checkout, *words: str, **variables: str) -> str:
    """Why a deployment is refused; helm is not called and kubectl changes nothing."""
    done = checkout.make(*words, **variables)
    assert done.returncode != 0
    assert checkout.calls("helm") == []
    changes = {"create", "apply", "label", "delete", "patch"}
    assert [words for words in checkout.calls("kubectl") if changes & set(words)] == []
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("deploy: refused: ")]
    return line.removeprefix("deploy: refused: ")


def after(call: list[str], flag: str) -> list[str]:
    return [word for before, word in pairwise(call) if before == flag]


def test_dev_is_deployed_where_kubectl_is_and_by_digest(checkout: Checkout) -> None:
    checkout.on(DEV, "stilt-dev", "dev")
    checkout.pushed()
    done = checkout.make("deploy", **PLACE)
    assert done.returncode == 0, done.stderr
    (call,) = checkout.calls("helm")
    assert call[:4] == ["helm", "upgrade", "stilt", "dagster"]
    assert (after(call, "--kube-context"), after(call, "--namespace")) == ([DEV], ["stilt-dev"])
    assert after(call, "--values") == [f"helm-values/{name}.yaml" for name in ("base", "gke", "dev")]
    said = dict(word.split("=", 1) for word in after(call, "--set-string"))
    digests = {name: value for name, value in said.items() if name.endswith(".digest")}
    assert (len(digests), set(digests.values())) == (4, {DIGEST})
    assert said["stilt.image"] == f"place:5000/stilt-assets@{DIGEST}"
    assert said["postgresql.postgresqlUsername"] == "stilt-dev-postgres@my-project.iam"
    assert "--atomic" in call


@pytest.mark.parametrize(
    "word", ["--namespace stilt-prod", "--namespace=stilt-prod", "-n stilt-prod", "-in stilt-prod", "--kube-context x"]
)
def test_words_of_ones_own_lead_nowhere_else(checkout: Checkout, word: str) -> None:
    checkout.on(DEV, "stilt-dev", "dev")
    checkout.pushed()
    assert "would deploy elsewhere than dev" in refused(checkout, "deploy", f"ARGS={word}", **PLACE)


def test_the_project_is_the_one_of_the_cluster(checkout: Checkout) -> None:
    checkout.on(DEV, "stilt-dev", "dev")
    checkout.pushed()
    elsewhere = PLACE | {"PROJECT": "another"}
    assert "is of the project 'my-project', PROJECT says 'another'" in refused(checkout, "deploy", **elsewhere)


def test_the_chart_is_of_the_version_of_the_library(checkout: Checkout) -> None:
    call = checkout.deploy("dev")
    lock = (checkout.folder / "docker/requirements.lock").read_text()
    assert after(call, "--version") == re.findall(r"^dagster==(\S+)", lock, re.MULTILINE)
    assert re.findall(r"^dagster-k8s==0\.(\d+)\.(\d+)", lock, re.MULTILINE) == [
        (str(int(minor) + 16), patch) for minor, patch in re.findall(r"^dagster==1\.(\d+)\.(\d+)", lock, re.MULTILINE)
    ]


def test_words_of_ones_own_reach_helm(checkout: Checkout) -> None:
    checkout.on(DEV, "", "dev")
    checkout.pushed()
    checkout.make("deploy", "ARGS=--dry-run=server", **PLACE)
    assert checkout.calls("helm")[0][-1] == "--dry-run=server"


@pytest.mark.parametrize("image", ["place:5000/stilt-assets:latest", f"place/stilt-assets@{DIGEST[:-1]}", "x y"])
def test_an_image_without_its_digest_is_refused(checkout: Checkout, image: str) -> None:
    checkout.on(DEV, "stilt-dev", "dev")
    assert "is not named by its digest" in refused(checkout, "deploy", IMAGE=image, **PLACE)


def test_no_image_and_no_place_are_refused(checkout: Checkout) -> None:
    checkout.on(DEV, "stilt-dev", "dev")
    assert "run make push_images" in refused(checkout, "deploy", **PLACE)
    checkout.pushed()
    assert "say PROJECT=… and REGION=…" in refused(checkout, "deploy")
    checkout.answers = {"kubectl config current-context": ("", 1)}
    assert refused(checkout, "deploy", **PLACE) == "kubectl has no context"
    checkout.answers = {"kubectl config view": ("", 1)}
    assert refused(checkout, "deploy", KUBE_CONTEXT="gone", **PLACE) == "kubectl has no context 'gone'"
    assert "'produktion' is no environment" in refused(checkout, "deploy", "ENVIRONMENT=produktion", **PLACE)


@pytest.mark.parametrize(
    ("environment", "context", "namespace", "label", "why"),
    [
        ("dev", KIND, "stilt-dev", "dev", "is a local cluster, dev is not"),
        ("local", DEV, "stilt-local", "local", "is no local cluster"),
        ("dev", DEV, "stilt-prod", "dev", "points at the namespace 'stilt-prod', not at 'stilt-dev'"),
        ("dev", DEV, "", None, "kubectl cannot read the namespace 'stilt-dev'"),
        ("dev", DEV, "", "prod", "is labelled stilt-assets/environment='prod', not 'dev'"),
        ("dev", DEV, "", "", "is labelled stilt-assets/environment='', not 'dev'"),
    ],
)
def test_the_wrong_cluster_or_namespace_is_refused(
    checkout: Checkout, environment: str, context: str, namespace: str, label: str | None, why: str
) -> None:
    checkout.on(context, namespace, label)
    checkout.pushed()
    assert why in refused(checkout, "deploy", f"ENVIRONMENT={environment}", **PLACE)


def test_production_wants_its_name_typed_its_namespace_chosen_and_a_clean_commit(checkout: Checkout) -> None:
    checkout.on(DEV, "stilt-prod", "prod")
    checkout.pushed()
    words = ("deploy", "ENVIRONMENT=prod")
    for typed in ({}, {"CONFIRM": "yes"}, {"CONFIRM": "stilt-dev"}):
        assert refused(checkout, *words, **PLACE, **typed) == "production wants its name typed: CONFIRM=stilt-prod"
    sure = PLACE | {"CONFIRM": "stilt-prod"}
    checkout.on(DEV, "", "prod")
    assert "wants its namespace chosen" in refused(checkout, *words, **sure)
    checkout.on(DEV, "stilt-prod", "prod")
    checkout.pushed(f"{checkout.head}-dirty-0123abcd")
    assert "an image of a clean commit" in refused(checkout, *words, **sure)
    checkout.pushed()
    checkout.change("helm-values/prod.yaml")
    assert "the checkout is not the clean commit" in refused(checkout, *words, **sure)
    checkout.commit()
    assert "the checkout is not the clean commit" in refused(checkout, *words, **sure)
    checkout.pushed()
    assert checkout.make(*words, **sure).returncode == 0
    (call,) = checkout.calls("helm")
    assert after(call, "--namespace") == ["stilt-prod"]
    assert after(call, "--values")[-1] == "helm-values/prod.yaml"


def test_one_command_builds_pushes_and_deploys_on_this_machine(checkout: Checkout) -> None:
    checkout.on(KIND, "", "local")
    name = f"localhost:32000/stilt-assets@{DIGEST}"
    checkout.answers["docker image inspect"] = (f"elsewhere/stilt-assets@{DIGEST}\n{name}\n", 0)
    done = checkout.make("deploy_local", REGISTRY="localhost:32000")
    assert done.returncode == 0, done.stderr
    tag = f"localhost:32000/stilt-assets:{checkout.head}"
    built, pushed, _ = of_images(checkout)
    assert (built[1], after(built, "--tag"), after(built, "--file")) == ("build", [tag], ["docker/Dockerfile"])
    assert pushed == ["docker", "push", tag]
    assert (checkout.folder / "build/image").read_text() == f"{name} {checkout.head}\n"
    (call,) = checkout.calls("helm")
    assert f"stilt.image={name}" in after(call, "--set-string")
    assert after(call, "--values") == ["helm-values/base.yaml", "helm-values/local.yaml"]
    labelled = ["kubectl", "--context", KIND, "label", "namespace", "stilt-local", "stilt-assets/environment=local"]
    assert [words[:7] for words in checkout.calls("kubectl") if "label" in words] == [labelled]


def of_images(checkout: Checkout) -> list[list[str]]:
    """What the engine was asked for, but for its version."""
    return [words for words in checkout.calls("docker") if words[1:] != ["--version"]]


def test_an_image_of_changed_files_has_a_name_of_its_own(checkout: Checkout) -> None:
    def tag() -> str:
        checkout.make("build_images", REGISTRY="r")
        ((name,),) = [after(words, "--tag") for words in of_images(checkout)]
        return name

    checkout.change("Makefile")
    first = tag()
    assert re.fullmatch(rf"r/stilt-assets:{checkout.head}-dirty-[0-9a-f]{{8}}", first)
    assert tag() == first
    (checkout.folder / "new.py").touch()
    assert tag() != first
    assert checkout.git("diff", "--cached", "--name-only") == ""


def test_the_image_of_a_commit_that_the_registry_has_is_taken(checkout: Checkout) -> None:
    name = f"r/stilt-assets@{DIGEST}"
    checkout.answers = {"docker push": ("tag is immutable", 1), "docker image inspect": (name, 0)}
    done = checkout.make("push_images", REGISTRY="r")
    assert done.returncode == 0, done.stderr
    assert [words[1] for words in of_images(checkout)] == ["build", "push", "pull", "image"]
    assert (checkout.folder / "build/image").read_text() == f"{name} {checkout.head}\n"
    checkout.change("Makefile")
    done = checkout.make("push_images", REGISTRY="r")
    assert "docker could not push r/stilt-assets" in done.stderr
    assert not (checkout.folder / "build/image").exists()


def test_podman_is_asked_for_the_digest_that_it_pushed(checkout: Checkout) -> None:
    checkout.answers = {"docker --version": ("podman version 4.3.1", 0)}
    (checkout.folder / "build").mkdir()
    checkout.make("push_images", REGISTRY="localhost:32000")
    pushed = of_images(checkout)[1]
    assert pushed[1:-1] == ["push", "--digestfile", "build/digest", "--tls-verify=false"]


@pytest.mark.parametrize("registry", ["http://localhost:32000", "localhost:32000/", "Place/x", "a b"])
def test_what_is_no_registry_is_said_so(checkout: Checkout, registry: str) -> None:
    assert f"'{registry}' is no registry" in checkout.make("build_images", REGISTRY=registry).stderr
    assert of_images(checkout) == []


def test_an_image_that_has_no_digest_or_no_registry_is_not_noted(checkout: Checkout) -> None:
    checkout.answers["docker image inspect"] = (f"elsewhere/stilt-assets@{DIGEST}\n", 0)
    done = checkout.make("push_images", REGISTRY="r")
    assert (done.returncode, (checkout.folder / "build/image").exists()) == (2, False)
    assert "knows no digest of r/stilt-assets" in done.stderr
    assert "no registry" in checkout.make("push_images").stderr


def test_help_lists_every_target_that_is_said(checkout: Checkout) -> None:
    listed = {line.split()[1] for line in checkout.make("help").stdout.splitlines()}
    said = set(re.findall(r"^([\w-]+):.*## ", (checkout.folder / "Makefile").read_text(), re.MULTILINE))
    assert listed == said >= {"deploy", "build_images", "push_images", "deploy_local", "check-lock"}
