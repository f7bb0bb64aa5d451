"""A look-alike of Twilio's Messages API on loopback.

    with TwilioServer("AC1", "token") as twilio:
        twilio.fail("+15005550001", 400, 21211)
        ... send with base_url=twilio.base_url ...
        twilio.wait_for(1)[0].body
        twilio.call_back(sid, "delivered")      # posts to the message's StatusCallback, signed

What it accepts is in `ledger`; `refusals` has the numbers it turned down.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlencode

from twilio.request_validator import RequestValidator

from tests.servers.http import Answer, HttpReceiver, Received


@dataclass(frozen=True)
class ReceivedSms:
    """One accepted message."""

    sid: str
    to: str
    sender: str
    body: str
    status_callback: str | None


class TwilioServer:
    """See the module. Other credentials than these get Twilio's 401."""

    def __init__(self, account_sid: str = "AC" + "0" * 32, auth_token: str = "token") -> None:
        self.account_sid, self.auth_token = account_sid, auth_token
        self.ledger: list[ReceivedSms] = []
        self.refusals: list[str] = []
        self._failures: dict[str, list[Answer]] = {}
        self._changed = threading.Condition()
        self.http = HttpReceiver()
        self.http.default = self._answer

    def __enter__(self) -> Self:
        self.http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.__exit__(kind, error, trace)

    @property
    def base_url(self) -> str:
        """What to give to the provider in the API's place."""
        return self.http.url("")

    def fail(
        self, to: str, status: int, code: int, headers: Mapping[str, str] | None = None, times: int = 1_000
    ) -> None:
        """Refuse messages to this number, with Twilio's error code, the next `times` times."""
        body = {"code": code, "message": f"scripted {code}", "status": status, "more_info": ""}
        self._failures[to] = [_json(status, body, headers)] * times

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[ReceivedSms]:
        """Wait until `count` messages are accepted, and give them. Raises AssertionError when they are not."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.ledger) >= count, timeout_s)
            assert came, f"{len(self.ledger)} of {count} messages came"
            return list(self.ledger)

    def call_back(self, sid: str, status: str, error_code: int | None = None, signature: str | None = None) -> int:
        """Post a status to the message's StatusCallback, as Twilio does; answers the HTTP status it got."""
        sms = next(sms for sms in self.ledger if sms.sid == sid)
        assert sms.status_callback, "the message has no StatusCallback"
        params = {"MessageSid": sid, "MessageStatus": status, "To": sms.to, "AccountSid": self.account_sid}
        if error_code is not None:
            params["ErrorCode"] = str(error_code)
        signed = signature or RequestValidator(self.auth_token).compute_signature(sms.status_callback, params)
        request = urllib.request.Request(sms.status_callback, urlencode(params).encode(), method="POST")
        request.add_header("X-Twilio-Signature", signed)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)

    def _answer(self, request: Received) -> Answer:
        expected = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return _json(401, {"code": 20003, "message": "Authenticate", "status": 401, "more_info": ""})
        if request.path != f"/2010-04-01/Accounts/{self.account_sid}/Messages.json":
            return _json(404, {"code": 20404, "message": "not found", "status": 404, "more_info": ""})
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        with self._changed:
            if self._failures.get(form["To"]):
                self.refusals.append(form["To"])
                return self._failures[form["To"]].pop()
            sid = f"SM{len(self.ledger) + 1:032x}"
            self.ledger.append(ReceivedSms(sid, form["To"], form["From"], form["Body"], form.get("StatusCallback")))
            self._changed.notify_all()
        return _json(201, {"sid": sid, "status": "queued", "to": form["To"], "body": form["Body"]})


def _json(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {"content-type": "application/json", **(headers or {})}, json.dumps(body).encode())
