"""The files of deploy/: they can be read, and what they name is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import yaml

from app import create_app
from app.config import Settings
from app.core.runtime import Runtime
from app.entrypoints.cli import main
from app.running.observer import Observer
from app.running.worker import stop_seconds
from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
SECRETS = {item.name.upper() for item in fields(Settings) if item.metadata["secret"]}
KNOWN = {item.name.upper() for item in fields(Settings)} | {f"{name}_FILE" for name in SECRETS}
OTHERS = {"POSTGRES_DB", "POSTGRES_PASSWORD_FILE", "PATH", "PYTHONDONTWRITEBYTECODE"}
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted([*(DEPLOY / "systemd").glob("*.service"), *(DEPLOY / "systemd").glob("*.timer")])
STOP = stop_seconds(Settings()) + 10  # what the parent waits, and a little


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())


def manifests() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def kind(*names: str) -> Iterator[dict[str, Any]]:
    return (one for one in manifests() if one["kind"] in names)


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's specification, by the name of what makes it."""
    for one in kind("Deployment", "Job", "CronJob"):
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
        yield one["metadata"]["name"], spec["template"]["spec"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every call of `tidings` in deploy/: where it stands, and its arguments."""
    for name, service in compose()["services"].items():
        if "entrypoint" in service:
            yield name, re.findall(r"tidings ([a-z -]+?) &&", service["command"][0])[0].split()
        elif "build" in service:
            yield name, service["command"]
    for name, pod in pods():
        yield name, pod["containers"][0]["args"]
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=\S+/tidings (.*)$", unit.read_text(), re.M):
            yield unit.name, line.split()
    yield "Dockerfile", re.findall(r'^CMD \["(\w+)"\]', (DEPLOY / "Dockerfile").read_text(), re.M)


def variables() -> Iterator[tuple[str, str]]:
    """Every variable of the environment that deploy/ sets."""
    for name, service in compose()["services"].items():
        yield from ((name, variable) for variable in service.get("environment", {}))
    for one in kind("ConfigMap"):
        yield from ((one["metadata"]["name"], variable) for variable in one["data"])
    for name, pod in pods():
        yield from ((name, variable["name"]) for variable in pod["containers"][0].get("env", []))
    for unit in UNITS:
        for line in re.findall(r"^Environment=(.*)$", unit.read_text(), re.M):
            yield from ((unit.name, word.partition("=")[0]) for word in line.split())
    for line in re.findall(r"^ENV (.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)[1:]:
        yield from (("Dockerfile", word.partition("=")[0]) for word in line.split())


@pytest.mark.parametrize(("where", "variable"), sorted(set(variables())))
def test_every_variable_is_a_setting(where: str, variable: str) -> None:
    assert variable in KNOWN | OTHERS


@pytest.mark.parametrize(("where", "arguments"), list(commands()), ids=lambda value: str(value))
def test_every_command_is_one_of_ours(where: str, arguments: list[str]) -> None:
    command = main.commands[arguments[0]]
    options = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
    assert set(arguments[1:]) <= options


def test_only_those_that_migrate_know_the_owner() -> None:
    owners = {name for name, service in compose()["services"].items() if "migration_database_url" in str(service)}
    owners |= {name for name, pod in pods() if "migration_database_url" in str(pod)}
    owners |= {unit.name for unit in UNITS if "migration_database_url" in unit.read_text()}
    assert owners == {
        *("migrate", "maintain", "tidings-migrate", "tidings-maintain"),
        *("tidings-migrate.service", "tidings-maintain.service"),
    }


def test_the_probes_ask_what_is_answered(runtime: Runtime) -> None:
    app, told = create_app(runtime=runtime), next(kind("ConfigMap"))["data"]
    for name, pod in pods():
        container = pod["containers"][0]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if name in ("tidings-migrate", "tidings-maintain"):
                assert probe not in container
                continue
            path = container[probe]["httpGet"]["path"]
            assert app.test_client().get(path).status_code in (200, 503)
            assert hasattr(Observer, path.rpartition("/")[2])
        for port in container.get("ports", []):
            assert str(port["containerPort"]) == told["PORT" if name == "tidings-web" else "WORKER_PORT"]
    tests = str([service.get("healthcheck") for service in compose()["services"].values()])
    assert re.findall(r":(\d+)/health/ready", tests) == [told["PORT"], told["WORKER_PORT"]]


def test_everybody_has_the_time_to_stop() -> None:
    for name in ("web", "worker"):
        assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) >= STOP
        (pod,) = (pod for found, pod in pods() if found == f"tidings-{name}")
        pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
        assert pod["terminationGracePeriodSeconds"] >= STOP + int(pause[1])
        unit = (DEPLOY / "systemd" / f"tidings-{name}.service").read_text()
        assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.M)[0]) >= STOP


def test_what_a_manifest_refers_to_is_there() -> None:
    there = {(one["kind"], one["metadata"]["name"]) for one in manifests() if "metadata" in one}
    for one in kind("ScaledObject", "HorizontalPodAutoscaler"):
        assert ("Deployment", one["spec"]["scaleTargetRef"]["name"]) in there
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in kind("Deployment")]
    for one in kind("PodDisruptionBudget"):
        assert one["spec"]["selector"]["matchLabels"] in labels
    for one in kind("Service"):
        assert one["spec"]["selector"] in labels
    listed = next(kind("Kustomization"))["resources"]
    assert {*listed, "migrate.yaml", "kustomization.yaml"} == {path.name for path in MANIFESTS}
    for _, pod in pods():
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert mounts.keys() == volumes.keys()
        files = {f"{mounts['secrets']}/{item['path']}" for item in volumes["secrets"]["secret"]["items"]}
        wanted = [value for name, value in next(kind("ConfigMap"))["data"].items() if name.endswith("_FILE")]
        wanted += [variable["value"] for variable in pod["containers"][0].get("env", [])]
        assert set(wanted) == files


def test_nothing_runs_with_more_rights_than_it_needs() -> None:
    for name, pod in pods():
        inside, outside = pod["containers"][0]["securityContext"], pod["securityContext"]
        assert (outside["runAsNonRoot"], inside["readOnlyRootFilesystem"]) == (True, True), name
        assert (inside["allowPrivilegeEscalation"], inside["capabilities"]) == (False, {"drop": ["ALL"]}), name
        assert pod["automountServiceAccountToken"] is False, name
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text()


def test_workers_are_scaled_by_a_figure_that_exists() -> None:
    (scaled,) = kind("ScaledObject")
    metrics = (ROOT / "app" / "metrics.py").read_text()
    for name in re.findall(r"tidings_\w+", scaled["spec"]["triggers"][0]["metadata"]["query"]):
        assert f'"{name}"' in metrics


def test_kustomize_takes_the_manifests() -> None:
    program = shutil.which("kubectl") or shutil.which("kustomize")
    if program is None:  # the files are read by the other tests all the same
        return
    verb = ["kustomize"] if program.endswith("kubectl") else ["build"]
    done = subprocess.run([program, *verb, str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "image: registry.example.com/tidings:" in done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(unit)
    assert "Unit" in parsed
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    for one in UNITS:  # a program that is there, in place of the installed one
        made = one.read_text().replace("/opt/tidings/.venv/bin/tidings", "/bin/true")
        (tmp_path / one.name).write_text(made.replace("/opt/tidings/docs", str(ROOT / "docs")))
    done = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_gets_all_that_runs_and_nothing_else() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = {
        word.rstrip("/") for line in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.M) for word in line.split()
    }
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert copied == let_in == {name for name in copied if (ROOT / name).exists()}
    assert {"app", "providers", "migrations", "templates", "wsgi.py", "requirements.lock"} <= copied


def test_the_secrets_of_compose_are_made_once_and_fit_together(tmp_path: Path) -> None:
    # given the folder somewhere else
    folder = shutil.copytree(DEPLOY / "compose", tmp_path / "compose")
    # when the secrets are made twice
    made = [_made(folder) for _ in range(2)]
    # then the second time nothing is new, and each file of compose is there
    assert made[0] == made[1]
    assert made[0].keys() == {Path(one["file"]).name for one in compose()["secrets"].values()}
    assert len(made[0]["secret_key"]) >= 32
    assert made[0]["app_password"] in made[0]["database_url"]
    assert made[0]["owner_password"] in made[0]["migration_database_url"]
    assert folder.joinpath("secrets").stat().st_mode & 0o077 == 0


def _made(folder: Path) -> dict[str, str]:
    subprocess.run([folder / "make-secrets"], check=True)
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def test_the_roles_of_compose_are_those_that_the_service_needs(postgres: PostgresServer, tmp_path: Path) -> None:
    # given the script of the image, with secrets that it finds here, and roles that are not the tests' own
    script = (DEPLOY / "compose" / "roles.sh").read_text().replace("/run/secrets", str(tmp_path))
    script = script.replace("tidings_owner", "compose_owner").replace("tidings_app", "compose_app")
    for name in ("owner_password", "app_password"):
        (tmp_path / name).write_text(f"it's {name}")
    postgres.create_database("compose_tidings")
    environ = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "POSTGRES_DB": "compose_tidings"}
    try:
        # when it runs
        subprocess.run(["sh", "-c", script], env=environ | {"PATH": "/usr/bin:/bin"}, check=True, capture_output=True)
        # then the roles are there, with as little as they need
        with psycopg.connect(postgres.url_for("postgres", "compose_tidings")) as connection:
            query = (
                "SELECT rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname LIKE %s"
            )
            assert connection.execute(query, ["compose_%"]).fetchall() == [(False,), (False,)]
            owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'compose_tidings'"
            assert connection.execute(owner).fetchone() == ("compose_owner",)
    finally:
        postgres.drop_database("compose_tidings")
        with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS compose_app")
            connection.execute("DROP ROLE IF EXISTS compose_owner")
