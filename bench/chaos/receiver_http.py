"""HTTP receivers that take every request, unless they were told to misbehave: webhooks, and Twilio's Messages API."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from twilio.request_validator import RequestValidator

from bench.chaos.receiver import BUSY, CUT, DRIP, ERROR, HUNG, SLOW, SLOW_SECONDS, Connection

TOKEN = "a token for chaos only"
ACCOUNT = "AC" + "0" * 32
DEDUPE_PATH = "/dedupe"
_LATEST_CALLBACK_SECONDS = 0.5
_callbacks = ThreadPoolExecutor(max_workers=4, thread_name_prefix="callback")


def _whole(status: str, body: bytes, extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


_FAULTY = {
    ERROR: _whole("500 Broken", b'{"status": 500, "message": "broken"}'),
    BUSY: _whole("429 Too Many Requests", b'{"status": 429, "code": 20429, "message": "busy"}', "Retry-After: 1\r\n"),
    CUT: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n",
}


class HttpConnection(Connection):
    """One caller; its requests come one after the other."""

    def data_received(self, data: bytes) -> None:
        """Pieces of requests."""
        self.waiting += data
        while not self.stuck and (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            length = int(headers.get("content-length", 0))
            if len(self.waiting) < end + 4 + length:
                return
            body, self.waiting = self.waiting[end + 4 : end + 4 + length], self.waiting[end + 4 + length :]
            self._take(head[0].split(" ")[1], headers, body)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """Take the message and say what is answered."""
        raise NotImplementedError

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        mode = self.receiver.mode
        if mode == HUNG:
            self.stick()
        elif mode == DRIP:
            self.transport.write(b"HTTP/1.1 200 OK\r\n")
            self.drip(b"x-more: 1\r\n")
        elif mode == SLOW:
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._answer, path, headers, body)
        elif mode in _FAULTY:
            self.transport.write(_FAULTY[mode])
            if mode == CUT:
                self.stick()
                self.transport.close()
        else:
            self._answer(path, headers, body)

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> None:
        if self.is_heard():
            self.transport.write(self.answer(path, headers, body))


class WebhookConnection(HttpConnection):
    """Webhooks: whoever posts below DEDUPE_PATH is served by a receiver that knows what it has seen."""

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> bytes:  # noqa: ARG002
        """Take a webhook."""
        self.receiver.accept(headers.get("webhook-id", "?"), dedupe=path.startswith(DEDUPE_PATH))
        return _whole("200 OK", b"{}")


class TwilioConnection(HttpConnection):
    """Twilio's Messages API. What it took it reports as delivered a little later, once."""

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> bytes:  # noqa: ARG002
        """Take a message."""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        callback = form.get("StatusCallback", "")
        delivery_id = parse_qs(urlsplit(callback).query).get("delivery", ["?"])[0]
        self.receiver.accept(delivery_id, dedupe=False)
        sid = "SM" + random.randbytes(16).hex()
        said = {"MessageSid": sid, "MessageStatus": "delivered", "To": form.get("To", ""), "AccountSid": ACCOUNT}
        after = random.uniform(0, _LATEST_CALLBACK_SECONDS)
        asyncio.get_running_loop().call_later(after, _callbacks.submit, _call_back, callback, said)
        return _whole("201 Created", json.dumps({"sid": sid, "status": "queued"}).encode())


def _call_back(url: str, said: dict[str, Any]) -> None:
    """As Twilio does it: signed, and not again if nobody is there."""
    request = urllib.request.Request(url, urlencode(said).encode(), method="POST")
    request.add_header("X-Twilio-Signature", RequestValidator(TOKEN).compute_signature(url, said))
    with contextlib.suppress(OSError, http.client.HTTPException):  # killed, or restarting: Twilio would not mind either
        urllib.request.urlopen(request, timeout=5).close()
