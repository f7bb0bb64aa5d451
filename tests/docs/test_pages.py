"""What the pages say of settings, reasons, metrics and dependencies, held against the code."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from app import metrics
from app.config import Settings
from app.core.deliveries.schedule import SCHEDULES
from app.core.keys import RESOURCES
from providers.contract import DeliveryStatus
from providers.http_transfer import MESSAGES
from providers.sms.twilio import PERMANENT

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_FAULTS = {"PermanentError", "RetryableError", "HttpFault"}
_UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (ROOT / "docs" / name).read_text()


def trees() -> Iterator[ast.AST]:
    """The code that decides about deliveries."""
    for folder in ("app/core", "providers"):
        for path in (ROOT / folder).rglob("*.py"):
            yield from ast.walk(ast.parse(path.read_text()))


def reasons_in_the_code() -> set[str]:
    """Every literal code that a fault or a skip is made with; of those made up of a number, what stands before it."""
    found = set(PERMANENT.values()) | {"preference_person", "preference_tenant", "test_key", "no_address"}
    for node in trees():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        at = 0 if name in _FAULTS else 1 if name == "skipped" else None
        if at is None or len(node.args) <= at:
            continue
        for part in ast.walk(node.args[at]):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and re.match("[a-z]", part.value):
                found.add(part.value)
    return found


def cells(text: str) -> Iterator[list[str]]:
    """The rows of every table of a page."""
    for line in text.split("\n"):
        if line.startswith("|") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_settings_page_has_every_setting_with_its_default_and_its_sentence() -> None:
    shown = {row[0].split("`")[1]: row for row in cells(page("settings.md")) if re.match("`[A-Z]", row[0])}
    example = (ROOT / ".env.example").read_text()

    assert set(shown) == {item.name.upper() for item in fields(Settings)}
    for item in fields(Settings):
        name = item.name.upper()
        default = re.search(rf'^#{name}="?(.*?)"?$', example, re.M)
        assert default
        assert shown[name][0].endswith("(secret)") == item.metadata["secret"], name
        assert shown[name][1].strip("` ") == default[1], name
        assert shown[name][2] == item.metadata["about"], name


def test_the_settings_page_has_every_retry_schedule_with_its_end() -> None:
    shown = {row[0]: row for row in cells(page("settings.md")) if row[0] in set(SCHEDULES)}

    assert set(shown) == {channel.value for channel in SCHEDULES}
    for channel, delays in SCHEDULES.items():
        _, listed, tries, end = shown[channel.value]
        units = dict(_UNITS)
        told = [float(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", listed)]
        assert told == list(delays)
        assert int(tries) == len(delays) + 1
        assert end == f"{sum(delays) / 3600:.1f} h"


def test_the_operations_page_explains_every_reason() -> None:
    text = page("operations.md")

    missing = [code for code in reasons_in_the_code() if f"`{code}" not in text]

    assert not missing


def test_the_operations_page_explains_every_status() -> None:
    assert all(f"| `{status.value}` |" in page("operations.md") for status in DeliveryStatus)


def test_the_operations_page_has_every_metric() -> None:
    ours = {one.name for one in REGISTRY.collect() if one.name.startswith("tidings_")}

    assert len(ours) >= len([one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)])
    assert all(f"`{name}" in page("operations.md") for name in ours)


def test_the_operations_page_explains_every_line_of_the_log() -> None:
    said = set()
    for path in (ROOT / "app").rglob("*.py"):
        said |= set(
            re.findall(r'(?:log|get_logger\(\))\.(?:warning|error|exception|info)\(\s*"(\w+)"', path.read_text())
        )
        said |= set(re.findall(r'_log\("(\w+)"', path.read_text()))

    assert said
    assert not [event for event in said if f"`{event}`" not in page("operations.md")]


def test_the_api_page_names_every_code_of_a_problem() -> None:
    codes = set()
    for path in (ROOT / "app").rglob("*.py"):
        codes |= set(re.findall(r'\bcode(?:: str)? ?= ?"([a-z_]+)"', path.read_text()))

    assert not [code for code in codes - {"worker_lost"} if f"`{code}`" not in page("api.md")]


def test_the_api_page_names_every_resource_of_a_scope() -> None:
    assert all(f"`{resource}`" in page("api.md") for resource in RESOURCES)


def test_the_webhooks_page_says_why_there_may_be_no_answer() -> None:
    made = {"invalid_url", "invalid_header", "transport_error"}  # refused when saved, or of no use to a receiver

    assert not [code for code in set(MESSAGES) - made if f"`{code}`" not in page("webhooks.md")]


def test_the_architecture_page_says_why_each_dependency_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [re.split(r"[\[<>=]", wanted)[0] for wanted in project["project"]["dependencies"]]

    assert not [name for name in names if not re.search(rf"\b{re.escape(name)}\b", page("architecture.md"))]


def test_the_files_that_the_architecture_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:app|providers|tests)/[\w/.]+\.py)`", page("architecture.md")))

    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match("[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.is_file() or (anchor and anchor not in anchors(there)):
            broken.append(target)

    assert not broken


def anchors(path: Path) -> set[str]:
    """Where links into a page may lead."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
