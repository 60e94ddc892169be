"""The alert rules parse as Prometheus parses them, and speak of metrics and of sections that are there."""

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from test_runbook import anchors

from stilt_assets.defs import metrics as queue
from stilt_assets.metrics import metrics_of
from stilt_assets.tally import Count

HOME = Path(__file__).parents[1]
GROUPS = yaml.safe_load((HOME / "helm-values" / "alerts.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
DURATION = re.compile(r"\d+[smhd]")


def names() -> set[str]:
    """What the page may hold: of a store, of an instance, and of the looks themselves."""
    of_store = {each.name for each in metrics_of(Count())}
    of_instance = set(re.findall(r'Metric(?:\.of|\.by)?\(\s*(?:"\w+", )?"(\w+)"', Path(queue.__file__).read_text()))
    return {f"stilt_assets_{name}" for name in of_store | of_instance} | {
        "stilt_assets_looks_total",
        "stilt_assets_last_look_timestamp_seconds",
        "stilt_assets_last_look_duration_seconds",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_parses_and_names_what_is_there(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    assert set(re.findall(r"stilt_assets_\w+", rule["expr"])) <= names()
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert DURATION.fullmatch(rule.get("for", "1m"))
    assert rule["annotations"]["summary"].endswith(".")
    page, _, section = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/runbook.md"
    assert section in anchors()


def test_the_parser_refuses_what_prometheus_would() -> None:
    for wrong in ("sum(rate(a[5m)", "a > > 3", "rate(a)", "a{state=queued}"):
        with pytest.raises(ValueError, match=r"\w"):
            promql_parser.parse(wrong)


def test_alerts_have_one_name_each() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
    assert all(rule.keys() <= {"alert", "expr", "for", "labels", "annotations"} for rule in RULES)
