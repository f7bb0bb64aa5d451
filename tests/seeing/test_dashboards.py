"""The dashboard and the alerts speak only of metrics and labels that exist, and each alert is explained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from app import metrics

ROOT = Path(__file__).resolve().parents[2]
_OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
_PROMETHEUS_OWN = {"up": {"job"}}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy/grafana/tidings.json").read_text())
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return panels + [rule["expr"] for rule in rules()]


def known() -> dict[str, set[str]]:
    """{name as Prometheus has it: its labels}."""
    found = dict(_PROMETHEUS_OWN)
    for metric in vars(metrics).values():
        if not hasattr(metric, "_labelnames"):
            continue
        labels = set(metric._labelnames)
        for family in metric.describe():
            if family.type == "histogram":
                found |= {family.name + end: labels | {"le"} for end in _OF_A_HISTOGRAM}
            else:
                found[family.name + ("_total" if family.type == "counter" else "")] = labels
    return found


def used(expression: str) -> dict[str, set[str]]:
    """The metrics of an expression, each with the labels that are asked of it in its braces."""
    found: dict[str, set[str]] = {}
    for name, asked in re.findall(r"\b(tidings_\w+|up)\b(?:\{([^}]*)\})?", expression):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", asked))
    return found


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_speaks_of_what_there_is(expression: str) -> None:
    metrics_used = used(expression)
    grouped = {label.strip() for found in re.findall(r"\bby \(([^)]*)\)", expression) for label in found.split(",")}

    assert metrics_used
    assert set(metrics_used) <= set(known())
    for name, labels in metrics_used.items():
        assert labels | grouped <= known()[name], name
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = " ".join(target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ()))
    families = {one.name for one in REGISTRY.collect() if one.name.startswith("tidings_")}

    assert families
    assert not [name for name in families if name not in shown]


def test_a_legend_names_labels_that_its_expression_keeps() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            grouped = {
                one.strip() for found in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for one in found.split(",")
            }
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped, panel["title"]


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    taken = [
        (x, y)
        for one in panels
        for x in range(one["gridPos"]["x"], one["gridPos"]["x"] + one["gridPos"]["w"])
        for y in range(one["gridPos"]["y"], one["gridPos"]["y"] + one["gridPos"]["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({one["id"] for one in panels}) == len(panels)


def test_each_alert_is_complete_and_explained_in_the_operations_page() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    explained = re.findall(r"^\| `(Tidings\w+)` \|", page, re.M)

    assert explained == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
