"""The runbook has a section for each reason and each trouble of the platform, and names commands that exist."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from stilt_assets import cli
from stilt_assets.reasons import REASONS

HOME = Path(__file__).parents[1]
TEXT = (HOME / "docs" / "runbook.md").read_text()
PARTS = ("You see", "Make sure", "Do", "It is over when")
SECTION = re.compile(r"^### (.+)\n\n(.+(?:\n.+)*)\n\n((?:(?:- |  ).+\n)+)", re.MULTILINE)
SECTIONS = {title.strip("`"): (told, steps) for title, told, steps in SECTION.findall(TEXT)}
SPAN = re.compile(r"`((?:stilt-assets|dagster) [^`]+)`", re.DOTALL)


def anchors() -> set[str]:
    """What GitHub makes of the headings."""
    heads = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_each_reason_has_a_section_in_the_tables_order_and_words() -> None:
    assert [title for title in SECTIONS if title in REASONS] == list(REASONS)
    for name, each in REASONS.items():
        means = each.means[0].upper() + each.means[1:]
        assert SECTIONS[name][0] == f"*{means}. By itself: {each.remedy.value}. For the {each.reader}: {each.then}.*"


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_says_what_one_sees_how_to_make_sure_what_to_do_and_when_it_is_over(title: str) -> None:
    told, steps = SECTIONS[title]
    assert told.startswith("*")
    assert told.endswith("*")
    assert re.findall(r"^- \*\*(.+?)\*\*", steps, re.MULTILINE) == list(PARTS)


def test_every_heading_is_a_section_or_holds_some() -> None:
    assert len(re.findall("^### ", TEXT, re.MULTILINE)) == len(SECTIONS) > len(REASONS) + 15


def test_links_lead_to_sections() -> None:
    inside = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert len(inside) > 5
    assert set(inside) <= anchors()
    for file, _ in re.findall(r"\]\(\.\./([\w./]+)(#[\w-]+)?\)", TEXT):
        assert (HOME / file).exists()


def test_alerts_send_to_sections_that_are_there() -> None:
    sent = set()
    for path in (HOME / "stilt_assets" / "defs").glob("*.py"):
        text = path.read_text()
        if "RUNBOOK" in text:
            sent |= set(re.findall(r"""["']((?:a|the|runs|no)-[a-z-]+)["']""", text))
    assert len(sent) == 5
    assert sent <= anchors()


def commands() -> list[str]:
    """Commands of ours and of Dagster's that the runbook names, as one would type them."""
    spans = [" ".join(span.split()) for span in SPAN.findall(TEXT)]
    blocks = [line.split("#")[0].strip() for line in re.findall(r"^(stilt-assets .+)$", TEXT, re.MULTILINE)]
    return sorted({each for each in (*spans, *blocks) if "…" not in each})


@pytest.mark.parametrize("command", commands())
def test_its_commands_exist_with_their_options(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "dagster":
        from dagster._cli import cli as known
    else:
        known = typer.main.get_command(cli.app)
    while words and words[0] in getattr(known, "commands", {}):
        known = known.commands[words.pop(0)]  # pyright: ignore[reportAttributeAccessIssue]
    options = {name for each in known.params for name in (*each.opts, *each.secondary_opts)}
    assert {word for word in words if word.startswith("-")} - {"--version"} <= options, known.name
    assert words or not getattr(known, "no_args_is_help", False), known.name
    takes = any(each.param_type_name == "argument" for each in known.params)
    assert takes or all(_is_of_an_option(words, number) for number in range(len(words))), command


def _is_of_an_option(words: list[str], number: int) -> bool:
    return words[number].startswith("-") or (number > 0 and words[number - 1].startswith("-"))


def test_on_kubernetes_a_scene_runs_again_by_the_launcher_and_not_in_a_pod_that_is_there() -> None:
    (functions,) = re.findall(r"^On Kubernetes, first of all.*?```sh\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
    told = """
        kubectl() { printf '%s\\n' "$@"; }
        stilt-assets status KEY
        again KEY --config-json "$failed"
    """
    done = subprocess.run(["bash", "-uc", f"{functions}{told}"], check=True, capture_output=True, text=True)
    asked, again = done.stdout.split("-n\nstilt-prod\nexec\n")[1:]
    assert asked.split("\n", 1) == [
        "deploy/stilt-dagster-user-deployments-stilt-assets",
        "--\nstilt-assets\nstatus\nKEY\n",
    ]
    pod, *_, launched = again.split("\n", 5)
    assert pod == "deploy/stilt-dagster-webserver"
    words = launched.splitlines()
    assert words[:6] == ["-", "job", "launch", "-w", "workspace.yaml", "-j"]
    assert json.loads(words[8]) == {"dagster/partition": "KEY"}
    assert json.loads(words[10]) == {"ops": {"footprints": {"ops": {"plan": {"config": {"retry_failed": True}}}}}}
