"""The walk of the README, end to end: one command, one event, four channels; then real providers, and no loss.

The service is started as `./run` starts it after its set-up, in a folder of its own with nothing in its environment.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.docs.examples import blocks
from tests.docs.service import Service
from tests.servers.process import find_program, free_port
from tests.servers.smtp import SmtpServer
from tests.servers.twilio import TwilioServer

pytestmark = pytest.mark.timeout(300)  # whole processes start and stop, several times
README = Path(__file__).resolve().parents[1] / "README.md"
PATIENCE_SECONDS = 60.0
ORDER = {
    "eventType": "order.created",
    "recipients": [{"userId": "ada", "name": "Ada", "email": "ada@example.com", "phone": "+15005550006"}],
    "data": {"orderId": "A-1001", "total": 49.9, "currency": "EUR"},
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """As `./run` starts it: no key is given, so it makes one and prints it."""
    with Service(tmp_path / "checkout", key=None) as started:
        yield started


@pytest.fixture
def listener(service: Service) -> Iterator[Path]:
    """`tidings listen` in a second window; the file is what it prints."""
    output = service.folder / "listen.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [".venv/bin/tidings", "listen", "--port", str(free_port())],
            cwd=service.folder,
            env=service.client_environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Listening on" in output.read_text() or process.poll(), PATIENCE_SECONDS)
        assert process.poll() is None, output.read_text()
        yield output
    finally:
        process.kill()
        process.wait()


def post_as_the_readme_says(service: Service) -> str:
    """Run the README's own curl line. Returns the event's id."""
    (line,) = [step.command for b in blocks(README) for step in b.steps if b.run and "/api/events" in step.command]
    done = subprocess.run(
        [find_program("bash"), "-c", line.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")],
        env=service.client_environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def deliveries(service: Service, event_id: str, *, settled: int) -> dict[str, dict[str, Any]]:
    """The deliveries of an event by channel, once `settled` of them are under way no more."""

    def found() -> list[dict[str, Any]]:
        items = service.call("GET", f"/api/deliveries?eventId={event_id}")["items"]
        done = [item for item in items if item["status"] not in ("pending", "sending")]
        return items if len(done) >= settled else []

    items = wait_until(found, PATIENCE_SECONDS)
    assert len({item["channel"] for item in items}) == len(items)
    return {item["channel"]: item for item in items}


def caught(service: Service) -> list[dict[str, str]]:
    """What the catcher has."""
    return list(json.loads(service.page("/dev/outbox/messages"))["items"])


def write_env(service: Service, **settings: str | int) -> None:
    """A `.env` in the folder where the service is started."""
    lines = [f"{name}={value}" for name, value in settings.items()]
    (service.folder / ".env").write_text("\n".join(lines) + "\n")


def test_one_event_reaches_four_channels_and_all_of_it_is_on_record(service: Service, listener: Path) -> None:
    assert service.printed_address() == service.url
    assert re.fullmatch(r"tdg_live_[A-Za-z0-9]{32,}", service.key)
    assert (service.folder / "var" / "tidings.db").is_file()

    welcome = service.page("/")
    assert all(f'href="{path}"' in welcome for path in ("/docs", "/openapi.json", "/dev/outbox"))
    assert json.loads(service.page("/openapi.json"))["openapi"].startswith("3.1")

    event_id = post_as_the_readme_says(service)

    made = deliveries(service, event_id, settled=4)
    assert {channel: one["status"] for channel, one in made.items()} == {
        "email": "sent",
        "sms": "sent",
        "webhook": "delivered",
        "in_app": "delivered",
    }
    assert all(one["attemptCount"] == 1 and one["provider"] and one["sentAt"] for one in made.values())

    email, sms = sorted(caught(service), key=lambda one: one["channel"])
    assert (email["to"], email["subject"]) == ("ada@example.com", "Your order A-1001")
    assert (sms["to"], "A-1001" in sms["preview"]) == ("+15005550006", True)
    assert "Thank you for your order" in service.page(f"/dev/outbox/{email['id']}/html")
    assert "ada@example.com" in service.page("/dev/outbox")

    (item,) = service.call("GET", "/api/notifications?userId=ada")["items"]
    assert (item["id"], item["title"]) == (made["in_app"]["id"], "Order A-1001 received")

    shown = wait_until(lambda: "verified" in listener.read_text() and listener.read_text(), PATIENCE_SECONDS)
    assert f"{made['webhook']['id']}  verified" in shown
    assert '"orderId": "A-1001"' in shown


def test_with_real_providers_in_env_the_same_event_goes_out(service: Service) -> None:
    assert service.stop() == 0
    key = service.key
    with SmtpServer(user="shop", password="secret") as smtp, TwilioServer() as twilio:
        write_env(
            service,
            EMAIL_HOST=smtp.host,
            EMAIL_PORT=smtp.port,
            EMAIL_USER="shop",
            EMAIL_PASSWORD="secret",
            EMAIL_FROM='"Example Shop <shop@example.com>"',
            TWILIO_ACCOUNT_SID=twilio.account_sid,
            TWILIO_AUTH_TOKEN=twilio.auth_token,
            TWILIO_PHONE_NUMBER="+15551234567",
            TWILIO_API_URL=twilio.base_url,
            PUBLIC_URL=service.url,
        )
        service.start()
        assert service.key == key, "the key of the first start still opens"

        event_id = post_as_the_readme_says(service)

        (mail,) = smtp.wait_for(1, PATIENCE_SECONDS)
        (sms,) = twilio.wait_for(1, PATIENCE_SECONDS)
        made = deliveries(service, event_id, settled=4)
        assert (mail.sender, mail.recipients) == ("shop@example.com", ("ada@example.com",))
        assert mail.message["subject"] == "Your order A-1001"
        assert (sms.to, sms.sender, "A-1001" in sms.body) == ("+15005550006", "+15551234567", True)
        assert (made["email"]["provider"], made["sms"]["provider"]) == ("smtp", "twilio")
        assert (made["webhook"]["status"], made["webhook"]["reason"]) == ("skipped", "no_endpoint")
        assert caught(service) == []

        assert twilio.call_back(sms.sid, "delivered") == 204
        assert service.call("GET", f"/api/deliveries/{made['sms']['id']}")["status"] == "delivered"


def test_a_second_start_on_the_same_data_is_refused_with_one_sentence(service: Service) -> None:
    second = subprocess.run(
        [".venv/bin/tidings", "up"],
        cwd=service.folder,
        env=service.environment | {"PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert second.returncode == 1
    assert "another `tidings up` is running" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert service.call("GET", "/api/deliveries")["items"] == []


def test_wrong_settings_are_all_named_at_once_and_nothing_starts(tmp_path: Path) -> None:
    wrong = Service(tmp_path / "wrong", EMAIL_PORT="many", WEBHOOK_TIMEOUT="10s", LOG_LEVEL="loud")

    done = wrong.run("up")

    assert done.returncode == 1
    assert all(name in done.stderr for name in ("EMAIL_PORT", "WEBHOOK_TIMEOUT", "LOG_LEVEL"))
    assert "Traceback" not in done.stderr
    assert not (wrong.folder / "var").exists()


def test_sigterm_ends_it_in_order_and_nothing_is_left_running(service: Service) -> None:
    event_id = service.call("POST", "/api/events", ORDER)["id"]
    deliveries(service, event_id, settled=4)

    assert service.stop() == 0

    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", service.port)) != 0
    assert "Traceback" not in service.log()
    service.start()
    assert set(deliveries(service, event_id, settled=4)) == {"email", "sms", "webhook", "in_app"}


def test_kill_9_between_accepting_and_delivering_loses_nothing(service: Service) -> None:
    assert service.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as silent, SmtpServer() as smtp:
        # Takes the connection and never says a word: the mail is under way when the power goes.
        write_env(service, EMAIL_HOST="127.0.0.1", EMAIL_PORT=silent.getsockname()[1])
        service.start()
        event_id = service.call("POST", "/api/events", ORDER)["id"]
        silent.settimeout(PATIENCE_SECONDS)
        silent.accept()
        service.kill()

        write_env(service, EMAIL_HOST=smtp.host, EMAIL_PORT=smtp.port)
        service.start()

        smtp.wait_for(1, PATIENCE_SECONDS)
        made = deliveries(service, event_id, settled=4)
        assert made["email"]["status"] == "sent"
        outcomes = [one["outcome"] for one in service.call("GET", f"/api/deliveries/{made['email']['id']}")["attempts"]]
        assert outcomes == ["lost", "accepted"]


def test_kill_9_right_after_the_answer_loses_no_event(service: Service) -> None:
    ids = [service.call("POST", "/api/events", ORDER)["id"] for _ in range(5)]
    service.kill()

    service.start()

    for event_id in ids:
        made = deliveries(service, event_id, settled=4)
        assert {one["status"] for one in made.values()} <= {"sent", "delivered", "skipped"}


def test_ctrl_c_ends_it_as_well(service: Service) -> None:
    # A terminal sends it to the whole group.
    assert service.stop(signal.SIGINT, group=True) == 0
