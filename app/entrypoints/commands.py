"""Commands that speak to a running Tidings over its API: `listen`, `send`, `event`."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

import click
import requests
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

_TIMEOUT_SECONDS = 30


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(1)


class Api:
    """The API of a running Tidings. Faults end the program with the answer's own words."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The parsed answer of one call."""
        try:
            answer = self._session.request(method, self._url + path, json=body, params=query, timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            _fail(f"{self._url} does not answer ({type(error).__name__}). Is it running? See --url.")
        if answer.ok:
            return answer.json() if answer.content else None
        try:
            problem = answer.json()
        except ValueError:
            _fail(f"{self._url}{path} answered {answer.status_code}.")
        lines = [problem.get("detail") or problem.get("title") or f"{answer.status_code}"]
        lines += [f"  {item.get('field')}: {item.get('message')}" for item in problem.get("errors") or ()]
        _fail("\n".join(lines))


def _with_api(command: Any) -> Any:
    command = click.option(
        "--key", envvar="TIDINGS_API_KEY", required=True, help="API key; also from TIDINGS_API_KEY."
    )(command)
    return click.option(
        "--url",
        envvar="TIDINGS_URL",
        default="http://127.0.0.1:8000",
        show_default=True,
        help="Where Tidings is; also from TIDINGS_URL.",
    )(command)


@click.command()
@click.option("--port", default=9000, show_default=True, help="Port to receive on.")
@click.option("--event-types", default="*", show_default=True, help="Types to receive, with commas between.")
@_with_api
def listen(url: str, key: str, port: int, event_types: str) -> None:
    """Receive webhooks here: make or update this receiver's configuration, verify and print what comes."""
    api = Api(url, key)
    here = f"http://127.0.0.1:{port}/"
    wanted = {"url": here, "eventTypes": event_types.split(","), "description": "tidings listen"}
    receiver = Receiver(port)
    receiver.webhook = Webhook(_secret_of(api, here, wanted))
    click.echo(f"Listening on {here} for {event_types}. Stop with Ctrl-C.")
    try:
        receiver.serve_forever()
    except KeyboardInterrupt:
        receiver.server_close()


def _secret_of(api: Api, here: str, wanted: dict[str, Any]) -> str:
    """Have the configuration of this address as wanted, and learn its secret."""
    after: str | None = None
    while True:
        page = api.call("GET", "/api/webhooks/configurations", limit=200, **({"after": after} if after else {}))
        for found in page["items"]:
            if found["url"] == here:
                path = f"/api/webhooks/configurations/{found['id']}"
                api.call("PUT", path, wanted | {"enabled": True})
                return str(api.call("POST", f"{path}/regenerate-secret")["secret"])
        after = page["nextCursor"]
        if not after:
            return str(api.call("POST", "/api/webhooks/configurations", wanted)["secret"])


class Receiver(ThreadingHTTPServer):
    """An HTTP server that verifies what it gets by the public Standard Webhooks library, and prints it."""

    daemon_threads = True
    webhook: Webhook

    def __init__(self, port: int) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            _fail(f"Port {port} cannot be used: {error.strerror}. Choose another with --port.")


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            payload = self.server.webhook.verify(body, headers)
            status, verdict = 204, "verified"
        except (WebhookVerificationError, ValueError) as error:
            payload, status, verdict = body.decode("utf-8", "replace"), 401, f"NOT VERIFIED: {error}"
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
        click.echo(f"{headers.get('webhook-id', '-')}  {verdict}")
        click.echo(json.dumps(payload, indent=2, ensure_ascii=False))

    def log_message(self, format: str, *args: Any) -> None:
        """What comes is printed above."""


@click.command()
@click.argument("event_type")
@click.option("--user", "users", multiple=True, help="User id of a recipient; may be repeated.")
@click.option("--data", default="{}", show_default=True, help="The event's data, as a JSON object.")
@_with_api
def event(url: str, key: str, event_type: str, users: tuple[str, ...], data: str) -> None:
    """Post an event."""
    try:
        parsed = json.loads(data)
    except ValueError as error:
        _fail(f"--data: is not JSON ({error})")
    body = {"eventType": event_type, "recipients": list(users), "data": parsed}
    _show(Api(url, key).call("POST", "/api/events", body))


@click.group()
def send() -> None:
    """Send one message directly."""


@send.command("email")
@click.option("--to", "addresses", multiple=True, required=True, help="Address; may be repeated.")
@click.option("--subject", required=True)
@click.option("--text", default="", help="Plain text; `-` reads it from standard input.")
@click.option("--html", default="")
@click.option("--from", "sender", help="Sender; default EMAIL_FROM of the service.")
@click.option("--reply-to")
@_with_api
def send_email(url: str, key: str, addresses: tuple[str, ...], **parts: str | None) -> None:
    """Send an email."""
    if parts["text"] == "-":
        parts["text"] = sys.stdin.read()
    names = {"sender": "from", "reply_to": "replyTo"}
    given = {names.get(name, name): value for name, value in parts.items() if value}
    _show(Api(url, key).call("POST", "/api/send/email", {"to": list(addresses)} | given))


@send.command("sms")
@click.option("--to", required=True, help="Number, as +15551234567.")
@click.option("--message", required=True)
@_with_api
def send_sms(url: str, key: str, to: str, message: str) -> None:
    """Send an SMS."""
    _show(Api(url, key).call("POST", "/api/send/sms", {"to": to, "message": message}))


@send.command("webhook")
@click.option("--to", "target", required=True, help="The receiver's URL.")
@click.option("--payload", default="{}", show_default=True, help="The body, as JSON.")
@_with_api
def send_webhook(url: str, key: str, target: str, payload: str) -> None:
    """Send a webhook, signed with the tenant's own secret."""
    try:
        parsed = json.loads(payload)
    except ValueError as error:
        _fail(f"--payload: is not JSON ({error})")
    _show(Api(url, key).call("POST", "/api/send/webhook", {"url": target, "payload": parsed}))


@send.command("in-app")
@click.option("--user", required=True, help="The person's user id.")
@click.option("--title", required=True)
@click.option("--message", required=True)
@click.option(
    "--type", "kind", default="info", show_default=True, type=click.Choice(["info", "success", "warning", "error"])
)
@click.option("--action-url")
@_with_api
def send_in_app(url: str, key: str, user: str, title: str, message: str, kind: str, action_url: str | None) -> None:
    """Put a notification into a person's bell."""
    body = {"userId": user, "title": title, "message": message, "type": kind}
    _show(Api(url, key).call("POST", "/api/send/in-app", body | ({"actionUrl": action_url} if action_url else {})))


def _show(answer: Any) -> None:
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
