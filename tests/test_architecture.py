"""The house plan, held against the code: who may import whom, and what must match what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from app.config import Settings
from app.core.deliveries.outcome import BORN, MOVES
from app.core.outbox import Job, Lane
from app.entrypoints import actors
from app.tenancy import Purpose
from providers.contract import DeliveryStatus

ROOT = Path(__file__).resolve().parent.parent
CORE_ORDER = (
    "outbox",
    "backlog",
    "names",
    "recipients",
    "topics",
    "dedupes",
    "erased",
    "inbox",
    "webhooks",
    "conditions",
    "rules",
    "keys",
    "idempotency",
    "preferences",
    "templating",
    "templates",
    "channels",
    "runtime",
    "admission",
    "deliveries",
    "direct",
    "pipeline",
    "events",
    "trials",
    "greetings",
    "retention",
    "erasures",
    "exports",
    "sweeps",
)
PLUMBING = {
    *(
        "app.broker",
        "app.clock",
        "app.config",
        "app.config_rules",
        "app.config_values",
        "app.crypto",
        "app.db",
        "app.engines",
        "app.tenancy",
        "app.errors",
        "app.ids",
        "app.logs",
    ),
    *("app.wire", "app.work"),
    *("app.metrics", "app.metrics_sharing", "app.paging", "app.patience"),
    *("app.readiness", "app.rows", "app.standing", "app.tracing"),
}
# Wiring may import everything: it is what puts the parts together.
WIRING = {"app", "app.wiring", "app.schema"}
DOOR_COMMON = {"app.entrypoints.auth"}


def modules(folder: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(name: str, path: Path) -> Iterator[str]:
    """Every module that a module imports, `from package import module` included."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            yield base
            for alias in node.names:
                if (ROOT / Path(*base.split("."), f"{alias.name}.py")).exists() or (
                    ROOT / Path(*base.split("."), alias.name)
                ).is_dir():
                    yield f"{base}.{alias.name}"


def ours(name: str, path: Path) -> set[str]:
    return {found for found in imports(name, path) if found.split(".")[0] in ("app", "providers")}


def box(name: str) -> str:
    """The place of a module in the fixed order of core."""
    return name.split(".")[2]


def test_core_imports_only_what_stands_before_it() -> None:
    wrong = []
    for name, path in modules("app/core"):
        if name == "app.core":
            continue
        for found in ours(name, path):
            if found.startswith("app.core.") and box(found) != box(name):
                if CORE_ORDER.index(box(found)) > CORE_ORDER.index(box(name)):
                    wrong.append(f"{name} -> {found}")
            elif not found.startswith(("app.core", "app.models", "providers")) and found not in PLUMBING | {"app"}:
                wrong.append(f"{name} -> {found}")
    assert not wrong


def test_only_channels_imports_concrete_providers() -> None:
    """Others know the contract, and the pure helpers that judge addresses, URLs and signatures."""
    pure = ("providers.contract", "providers.guard", "providers.sms.numbers", "providers.sms.segments")
    pure += ("providers.webhook.signature", "providers.email.addresses", "providers.email.headers", "providers.catcher")
    concrete = re.compile(r"providers\.(http|email\.smtp|sms\.twilio|webhook\.standard|in_app)")
    for name, path in modules("app"):
        for found in ours(name, path):
            if concrete.match(found):
                assert name in ("app.core.channels",), f"{name} -> {found}"
            elif found.startswith("providers."):
                assert found.startswith(pure) or found in ("providers.email", "providers.sms", "providers.webhook"), (
                    f"{name} -> {found}"
                )


def test_models_decide_nothing_and_know_only_the_plumbing() -> None:
    for name, path in modules("app/models"):
        for found in ours(name, path):
            assert found.startswith("app.models") or found in PLUMBING | {"app"}, f"{name} -> {found}"


def test_plumbing_knows_no_work() -> None:
    allowed = PLUMBING | {"app", "app.models", "app.models.base"}
    for name, path in modules("app"):
        if name in PLUMBING:
            assert ours(name, path) <= allowed, name


def test_providers_are_strangers() -> None:
    forbidden = {"flask", "sqlalchemy", "app", "dramatiq", "structlog"}
    for name, path in modules("providers"):
        assert not {found.split(".")[0] for found in imports(name, path)} & forbidden, name


def test_the_contract_imports_nothing_of_ours() -> None:
    assert not ours("providers.contract", ROOT / "providers/contract.py")


def test_nobody_imports_a_door_and_doors_do_not_import_each_other() -> None:
    """`cli` and `commands` are one door; what runs processes may start them."""

    def door(name: str) -> str:
        last = name.split(".")[2] if name.count(".") >= 2 else ""
        return "cli" if last == "commands" else last

    for name, path in modules("app"):
        for found in ours(name, path):
            if not found.startswith("app.entrypoints.") or found in DOOR_COMMON:
                continue
            inside = name.startswith("app.entrypoints") and door(found) == door(name)
            shared = name.startswith("app.entrypoints.") and found.startswith("app.entrypoints.api.")
            assert inside or shared or name in WIRING, f"{name} -> {found}"


def test_only_wiring_and_the_command_line_read_the_environment() -> None:
    allowed = {"app.wiring", "app.entrypoints.cli", "app.metrics_sharing"}  # the last hears of a folder from the cli
    for folder in ("app", "providers"):
        for name, path in modules(folder):
            if re.search(r"\bos\.(environ|getenv)\b", path.read_text()):
                assert name in allowed, name


def test_no_import_inside_a_function_dodges_a_cycle() -> None:
    """Gunicorn's hooks and those named here import late on purpose: they say why."""
    late = {"app.create_app", "app.core.templating.grammar.load_grammar"}
    for folder in ("app", "providers"):
        for name, path in modules(folder):
            if name.startswith("app.running.gunicorn_"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    inner = [item for item in ast.walk(node) if isinstance(item, ast.Import | ast.ImportFrom)]
                    assert not inner or f"{name}.{node.name}" in late


def test_functions_that_take_a_session_do_not_commit() -> None:
    for name, path in modules("app/core"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and "session" in {argument.arg for argument in node.args.args}:
                calls = [c.func.attr for c in ast.walk(node) if isinstance(c, ast.Call) and hasattr(c.func, "attr")]
                assert not {"commit", "transaction"} & set(calls), f"{name}.{node.name}"


def test_every_job_has_an_actor_and_every_lane_a_queue() -> None:
    assert set(actors.ACTORS) == set(Job)
    assert {lane.value for lane in Lane}


def test_env_example_names_exactly_the_settings() -> None:
    named = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert named == [item.name.upper() for item in fields(Settings)]


def test_every_status_can_be_reached_and_left_only_by_the_table() -> None:
    reached = set(BORN)
    while True:
        further = {target for target, origins in MOVES.items() if origins & reached} | reached
        if further == reached:
            break
        reached = further
    assert reached == set(DeliveryStatus)
    assert set(MOVES) == set(DeliveryStatus)


def test_the_purposes_that_see_every_tenant_are_these() -> None:
    """Law 12: a short list. Who adds to it must say why here."""
    assert {purpose.value for purpose in Purpose} == {
        "authenticate",
        "callback",
        "claim",
        "sweep",
        "migrate",
        "admit",  # reads how much waits in the whole installation; no tenant's rows
    }
    users: dict[str, set[str]] = {}
    for name, path in modules("app"):
        for purpose in re.findall(r"system\(Purpose\.([A-Z_]+)\)", path.read_text()):
            users.setdefault(purpose, set()).add(name)
    assert users["AUTHENTICATE"] == {"app.entrypoints.auth"}
    assert users["CALLBACK"] == {"app.core.deliveries.status"}
    # The third notes what a batch has learned of a provider: breakers are the installation's.
    assert users["CLAIM"] == {"app.core.deliveries.send", "app.core.pipeline", "app.core.deliveries.watch"}
    assert users["ADMIT"] == {"app.core.admission"}
    assert users["SWEEP"] == {"app.core.sweeps"}
    assert users["MIGRATE"] == {"app.schema", "app.partitions", "app.entrypoints.cli", "app.running.start"}


def test_nothing_but_the_syntax_of_tags_imports_pybars() -> None:
    users = {
        name
        for name, path in modules("app")
        for found in imports(name, path)
        if found.split(".")[0] in ("pybars", "pymeta")
    }
    assert users == {"app.core.templating.syntax"}
