"""One day of the service, told in chapters: everything that it writes, claims, sweeps and reads at least once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import text
from twilio.request_validator import RequestValidator

from app.core import keys, sweeps
from app.core.deliveries import claims, send
from app.core.outbox import Lane
from app.core.pipeline import plan_events
from app.core.runtime import Runtime
from app.tenancy import Purpose, system, tenant
from tests.servers.http import Answer, HttpReceiver
from tests.servers.smtp import SmtpServer
from tests.servers.twilio import TwilioServer

PUBLIC_URL = "https://tidings.example.com"
API_KEY = "tdg_live_" + "r" * 40
AUTH = {"Authorization": f"Bearer {API_KEY}"}
ADA = {"userId": "ada", "name": "Ada", "email": "ada@example.com", "phone": "+15005550006"}
BOB = {"userId": "bob", "email": "bob@example.com", "phone": "+15005550007"}
GONE = {"userId": "gone", "email": "gone@example.com", "phone": "+15005550008"}
BUSY = {"userId": "busy", "email": "busy@example.com"}
ORDER = {"orderId": "A-1001", "total": 49.9, "currency": "EUR"}
NORMAL_WORK = (Lane.TRANSACTIONAL, Lane.NORMAL)

Chapter = Callable[[str], AbstractContextManager[None]]


class Api:
    """The API, from inside the process. Anything but a success ends the recording."""

    def __init__(self, app: Any) -> None:
        self._client = app.test_client()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The parsed answer."""
        answer = self._client.open(path, method=method, json=body, headers=AUTH | headers)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.get_data(as_text=True))
        return answer.json if answer.data else None

    def twilio(self, delivery: str, status: str, token: str) -> None:
        """Twilio's word about a delivery."""
        path, form = f"/callbacks/twilio/status?delivery={delivery}", {"MessageStatus": status, "MessageSid": "SM1"}
        signed = RequestValidator(token).compute_signature(PUBLIC_URL + path, form)
        answer = self._client.post(path, data=form, headers={"X-Twilio-Signature": signed})
        assert answer.status_code == 204


def live(
    runtime: Runtime, app: Any, chapter: Chapter, smtp: SmtpServer, twilio: TwilioServer, receiver: HttpReceiver
) -> None:
    """Live through all chapters; the next version's test names them."""
    api = Api(app)
    with chapter("set up"), runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        tenant_id = keys.bootstrap(session, runtime.vault, runtime.clock, api_key_secret=API_KEY)[0].id
    with chapter("edit"):
        _edit(api, receiver)
    with chapter("accept"):
        _accept(api)
    _refuse_some(smtp, twilio, receiver)
    with chapter("plan"):
        for lane in NORMAL_WORK:
            while plan_events(runtime, lane):
                pass
    with chapter("deliver"):
        _drain(runtime)
    with chapter("give back"):
        _give_back(api, runtime)
    with chapter("lose a worker"):
        _lose_a_worker(api, runtime, tenant_id)
    with chapter("hear back"):
        _hear_back(api, twilio)
    with chapter("read"):
        _read(api)
    with chapter("leave behind"):
        _leave_behind(api, runtime, tenant_id)


def _edit(api: Api, receiver: HttpReceiver) -> None:
    for person in (ADA, BOB, GONE):
        body = {name: value for name, value in person.items() if name != "userId"}
        api.call("PUT", f"/api/recipients/{person['userId']}", body | {"attributes": {"vip": True}})
    api.call("PUT", "/api/recipients/left", {"email": "left@example.com"})
    api.call("DELETE", "/api/recipients/left")
    rule = {"eventType": "ticket.*", "category": "tickets", "condition": "data.total > 1"}
    rule["actions"] = [{"channel": "sms", "template": "ticket"}, {"channel": "in_app", "template": "ticket"}]
    for_sms = {"key": "ticket", "channel": "sms", "text": "Ticket {{data.orderId}}"}
    for_bell = {"key": "ticket", "channel": "in_app", "title": "Ticket", "text": "{{data.orderId}}"}
    for path, body in (("/api/templates", for_sms), ("/api/templates", for_bell), ("/api/rules", rule)):
        made = api.call("POST", path, body)
        api.call("PUT", f"{path}/{made['id']}", body)
        again = api.call("POST", path, body | ({"key": "spare"} if "key" in body else {}))
        api.call("DELETE", f"{path}/{again['id']}")
    path = "/api/webhooks/configurations"
    hook = api.call("POST", path, {"url": receiver.url("/hook"), "eventTypes": ["order.*"]})
    api.call("PUT", f"{path}/{hook['id']}", {"url": receiver.url("/hook"), "eventTypes": ["order.*", "ticket.*"]})
    api.call("POST", f"{path}/{hook['id']}/regenerate-secret")
    api.call("POST", f"{path}/{hook['id']}/test")
    spare = api.call("POST", path, {"url": receiver.url("/gone"), "eventTypes": ["order.created"]})
    api.call("POST", path, {"url": receiver.url("/busy"), "eventTypes": ["order.created"]})
    api.call("DELETE", f"{path}/{api.call('POST', path, {'url': receiver.url('/x')})['id']}")
    api.call("POST", "/api/webhooks/regenerate-secret")
    assert spare["enabled"]
    choice = {"category": "tickets", "channel": "sms", "enabled": False}
    api.call("PUT", "/api/notifications/preferences?userId=bob", {"items": [choice]})
    api.call("PUT", "/api/notifications/preferences?userId=ada", {"items": [choice]})
    api.call("PUT", "/api/notifications/preferences?userId=ada", {"items": [choice | {"enabled": None}]})
    api.call("PUT", "/api/preference-defaults", {"items": [{"category": "spam", "channel": "email", "enabled": False}]})
    key = api.call("POST", "/api/api-keys", {"name": "spare", "scopes": ["events:write"]})
    api.call("PUT", f"/api/api-keys/{key['id']}", {"name": "spare", "scopes": ["events:read"]})
    api.call("DELETE", f"/api/api-keys/{key['id']}")
    signing = api.call("POST", "/api/signing-keys", {"name": "spare", "algorithm": "HS256"})
    api.call("PUT", f"/api/signing-keys/{signing['id']}", {"name": "other"})
    api.call("DELETE", f"/api/signing-keys/{signing['id']}")


def _accept(api: Api) -> None:
    order = {"eventType": "order.created", "data": ORDER}
    once = {"Idempotency-Key": "order-1001"}
    first = api.call("POST", "/api/events", order | {"recipients": [ADA, BUSY, "gone", "nobody"]}, **once)
    assert api.call("POST", "/api/events", order | {"recipients": [ADA, BUSY, "gone", "nobody"]}, **once) == first
    tickets = [{"eventType": "ticket.opened", "data": ORDER, "recipients": [user]} for user in ("ada", "bob", "gone")]
    api.call("POST", "/api/events/batch", {"events": [*tickets, {"eventType": "nobody.cares", "data": {}}]})
    mail = {"to": ["ada@example.com", "gone@example.com"], "subject": "Hello", "text": "Words", "html": "<b>Words</b>"}
    api.call("POST", "/api/send/email", mail, **{"Idempotency-Key": "mail-1"})
    api.call("POST", "/api/send/sms", {"to": "+15005550006", "message": "Hello"})
    api.call("POST", "/api/send/in-app", {"userId": "ada", "title": "Hello", "message": "Words"})
    late = api.call("POST", "/api/send/sms", {"to": "+15005550006", "message": "Called off"})["deliveries"][0]
    api.call("POST", f"/api/deliveries/{late['id']}/cancel")


def _refuse_some(smtp: SmtpServer, twilio: TwilioServer, receiver: HttpReceiver) -> None:
    smtp.refuse["gone@example.com"] = "550 5.1.1 no such user"
    smtp.refuse["busy@example.com"] = "450 4.2.0 come back later"
    twilio.fail("+15005550008", 400, 21211)
    receiver.on("/gone", Answer(410))
    receiver.on("/busy", Answer(503, {"retry-after": "1"}))


def _drain(runtime: Runtime) -> None:
    for lane in NORMAL_WORK:
        while send.deliver(runtime, lane):
            pass


def _give_back(api: Api, runtime: Runtime) -> None:
    """A batch whose deadline is over before it begins."""
    api.call("POST", "/api/send/email", {"to": "ada@example.com", "subject": "Later", "text": "Words"})
    seconds, send.BATCH_SECONDS = send.BATCH_SECONDS, -1.0
    send.deliver(runtime, Lane.TRANSACTIONAL)
    send.BATCH_SECONDS = seconds


def _lose_a_worker(api: Api, runtime: Runtime, tenant_id: str) -> None:
    """Claimed, and nobody there: the lease ends, the sweep takes it back."""
    api.call("POST", "/api/send/sms", {"to": "+15005550006", "message": "Twice at most"})
    _claim(runtime, tenant_id)
    for table in ("notification_logs", "event_logs"):
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            past = "UPDATE {} SET lease_until = now() - interval '1 hour' WHERE lease_until IS NOT NULL"
            session.execute(text(past.format(table)))
    sweeps.sweep(runtime)
    _drain(runtime)


def _claim(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        assert claims.claim_due(session, Lane.TRANSACTIONAL, tenant_id, "sms", runtime.clock.now(), 60.0)


def _hear_back(api: Api, twilio: TwilioServer) -> None:
    found = api.call("GET", "/api/deliveries?channel=sms&status=sent")["items"]
    for delivery, status in zip(found, ("delivered", "undelivered"), strict=False):
        api.twilio(delivery["id"], "sent", twilio.auth_token)
        api.twilio(delivery["id"], status, twilio.auth_token)
    (failed, *_) = api.call("GET", "/api/deliveries?channel=email&status=failed")["items"]
    api.call("POST", f"/api/deliveries/{failed['id']}/retry")
    api.call("POST", "/api/notifications/test?userId=ada", {"channels": ["in_app"]})
    bell = api.call("GET", "/api/notifications?userId=ada")["items"]
    assert len(bell) >= 3
    api.call("POST", "/api/notifications/mark-as-read?userId=ada", {"ids": [bell[0]["id"]]})
    api.call("POST", "/api/notifications/delete?userId=ada", {"ids": [bell[-1]["id"]]})
    api.call("POST", "/api/notifications/mark-all-as-read?userId=ada")


def _read(api: Api) -> None:
    for path in ("events", "deliveries", "rules", "templates", "recipients", "api-keys", "signing-keys"):
        items = api.call("GET", f"/api/{path}")["items"]
        last = items[-1].get("id") or items[-1]["userId"]
        api.call("GET", f"/api/{path}/{last}")
        api.call("GET", f"/api/{path}?limit=1")
    (hook, *_) = api.call("GET", "/api/webhooks/configurations")["items"]
    api.call("GET", f"/api/webhooks/configurations/{hook['id']}")
    api.call("GET", f"/api/webhooks/configurations/{hook['id']}/logs")
    api.call("GET", "/api/notifications?userId=ada")
    api.call("GET", "/api/notifications/unread-count?userId=ada")
    api.call("GET", "/api/notifications/preferences?userId=bob")
    api.call("GET", "/api/preference-defaults")


def _leave_behind(api: Api, runtime: Runtime, tenant_id: str) -> None:
    """What stands in the database when the old version goes: received, pending, and held by a worker that is gone."""
    order = {"eventType": "order.created", "data": ORDER | {"orderId": "B-2002"}}
    api.call("POST", "/api/events", order | {"recipients": ["ada", "bob"]}, **{"Idempotency-Key": "order-2002"})
    api.call("POST", "/api/events/batch", {"events": [{"eventType": "ticket.opened", "data": ORDER, "userId": "ada"}]})
    api.call("POST", "/api/send/sms", {"to": "+15005550006", "message": "Held"})
    _claim(runtime, tenant_id)
    api.call("POST", "/api/send/email", {"to": "ada@example.com", "subject": "Left behind", "text": "Words"})
