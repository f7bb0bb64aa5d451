"""The commands that speak to a running service, and those that work on the machine itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.entrypoints.cli import main
from tests.conftest import wait_until
from tests.docs.service import Service
from tests.servers.http import HttpReceiver
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("commands")) as started:
        yield started


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that a command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def settled(service: Service, delivery_id: str) -> dict[str, Any]:
    """A delivery that is under way no more."""

    def found() -> dict[str, Any] | None:
        one: dict[str, Any] = service.call("GET", f"/api/deliveries/{delivery_id}")
        return one if one["status"] not in ("pending", "sending") else None

    return wait_until(found)  # type: ignore[no-any-return]


def test_send_email_goes_out_as_it_was_given(service: Service) -> None:
    command = ("send", "email", "--to", "ada@example.com", "--to", "Bob <bob@example.com>", "--subject", "Hello")
    done = service.run(*command, "--text", "Words", "--html", "<b>Words</b>", "--from", "Shop <shop@example.com>")

    one, other = answer(done)["deliveries"]

    assert (one["to"], other["to"]) == ("ada@example.com", "Bob <bob@example.com>")
    sent = settled(service, one["id"])
    assert (sent["status"], sent["trigger"]) == ("sent", "direct")
    assert sent["content"] == {
        "subject": "Hello",
        "text": "Words",
        "html": "<b>Words</b>",
        "sender": "Shop <shop@example.com>",
    }


def test_send_email_reads_the_text_from_standard_input(service: Service) -> None:
    done = subprocess.run(
        [".venv/bin/tidings", "send", "email", "--to", "ada@example.com", "--subject", "Piped", "--text", "-"],
        cwd=service.folder,
        env=service.client_environment,
        input="From a pipe, übrigens",
        capture_output=True,
        text=True,
        timeout=60,
    )

    (one,) = answer(done)["deliveries"]

    assert settled(service, one["id"])["content"]["text"] == "From a pipe, übrigens"


def test_send_sms(service: Service) -> None:
    (one,) = answer(service.run("send", "sms", "--to", "+15005550006", "--message", "Hello"))["deliveries"]

    assert settled(service, one["id"])["status"] == "sent"


def test_send_webhook_posts_the_payload_as_it_stands(service: Service) -> None:
    with HttpReceiver() as receiver:
        done = service.run("send", "webhook", "--to", receiver.url("/hook"), "--payload", '{"b": 1, "a": [null]}')
        (one,) = answer(done)["deliveries"]
        receiver.wait_for(1)

        assert settled(service, one["id"])["status"] == "delivered"
        assert receiver.ledger[0].headers["webhook-id"] == one["id"]
        assert json.loads(receiver.ledger[0].body) == {"b": 1, "a": [None]}


def test_send_in_app_is_in_the_bell(service: Service) -> None:
    command = ("send", "in-app", "--user", "carol", "--title", "Done", "--message", "Fetch it")
    (one,) = answer(service.run(*command, "--type", "success", "--action-url", "/exports/7"))["deliveries"]

    settled(service, one["id"])

    (item,) = service.call("GET", "/api/notifications?userId=carol")["items"]
    assert (item["id"], item["type"], item["actionUrl"]) == (one["id"], "success", "/exports/7")


def test_event_is_accepted_and_planned(service: Service) -> None:
    made = answer(service.run("event", "user.registered", "--user", "dan", "--data", '{"name": "Dan"}'))

    planned = wait_until(
        lambda: (found := service.call("GET", f"/api/events/{made['id']}"))["status"] == "planned" and found
    )
    assert (planned["userIds"], planned["data"]) == (["dan"], {"name": "Dan"})


def test_a_token_opens_what_belongs_to_the_person_and_nothing_else(service: Service) -> None:
    done = service.run("token", "--user", "carol", "--hours", "0.5")
    assert done.returncode == 0, done.stderr
    person = Service(service.folder)
    person.port, person.key = service.port, done.stdout.strip()

    assert "items" in person.call("GET", "/api/notifications")
    with pytest.raises(AssertionError, match="403"):
        person.call("GET", "/api/events")
    with pytest.raises(AssertionError, match="403"):
        person.call("GET", "/api/notifications?userId=ada")


def test_a_key_made_on_the_machine_opens_what_its_scopes_say(service: Service) -> None:
    done = service.run("keys", "create", "--name", "reader", "--scope", "deliveries:read", "--test")
    assert done.returncode == 0, done.stderr
    reader = Service(service.folder)
    reader.port, reader.key = service.port, done.stdout.strip()

    assert reader.key.startswith("tdg_test_")
    assert "items" in reader.call("GET", "/api/deliveries")
    with pytest.raises(AssertionError, match="missing_scope"):
        reader.call("GET", "/api/events")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("send", "sms", "--to", "12", "--message", "x"), "to: is not a phone number"),
        (("send", "webhook", "--to", "http://192.168.0.1/", "--payload", "{}"), "url: this address is not allowed"),
        (("send", "webhook", "--to", "https://example.com/", "--payload", "{"), "--payload: is not JSON"),
        (("event", "order created"), "eventType: must be words"),
        (("event", "order.created", "--data", "[1]"), "data: is not an object"),
        (("keys", "create", "--scope", "everything"), "is not a scope"),
        (("token", "--user", ""), "userId: is not 1 to 255 characters"),
        (("web",), "use `tidings up`"),
        (("worker",), "use `tidings up`"),
    ],
)
def test_a_fault_is_told_in_words_and_as_the_exit_status(service: Service, command: tuple[str, ...], said: str) -> None:
    done = service.run(*command)

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_at_the_address_is_told_in_words(service: Service) -> None:
    done = service.run("event", "order.created", "--url", f"http://127.0.0.1:{free_port()}")

    assert (done.returncode, "Is it running?" in done.stderr) == (1, True)


def test_a_wrong_key_is_told_in_words(service: Service) -> None:
    done = service.run("event", "order.created", "--key", "tdg_live_" + "x" * 40)

    assert (done.returncode, done.stderr.strip()) == (1, "The API key is not valid.")


def test_listen_takes_up_its_own_configuration_again(service: Service) -> None:
    port = str(free_port())
    for types in ("order.*", "user.registered,order.created"):
        listening = subprocess.Popen(
            [".venv/bin/tidings", "listen", "--port", port, "--event-types", types],
            cwd=service.folder,
            env=service.client_environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert listening.stdout
            assert "Listening on" in listening.stdout.readline()
        finally:
            listening.kill()
            listening.wait()

    (one,) = service.call("GET", "/api/webhooks/configurations")["items"]
    assert (one["url"], one["eventTypes"]) == (f"http://127.0.0.1:{port}/", ["user.registered", "order.created"])


@pytest.mark.parametrize(
    "command", ["", "up", "web", "worker", "migrate", "keys create", "token", "listen", "send email", "event"]
)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(main, [*command.split(), "--help"], prog_name="tidings")

    assert done.exit_code == 0
    assert f"Usage: tidings {command}".strip() in done.output


@pytest.mark.parametrize("lanes", ["", " ", "normal", "normal=0", "urgent=2", "normal=1,normal=2"])
def test_a_worker_is_not_started_on_lanes_that_are_not_said_clearly(lanes: str) -> None:
    done = CliRunner().invoke(main, ["worker", "--lanes", lanes])
    assert (done.exit_code, "--lanes:" in done.output) == (1, True), done.output


def test_migrate_goes_back_and_forth_embedded(tmp_path: Path) -> None:
    still = Service(tmp_path / "still", key=None)

    first, back, again = still.run("migrate"), still.run("migrate", "--down", "base", "--yes"), still.run("migrate")

    assert "API key (shown once): tdg_live_" in first.stdout
    assert back.stdout.strip() == "The database is back at base."
    assert "up to date" in again.stdout
