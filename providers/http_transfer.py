"""One exchange of the safe HTTP client: what goes in, what comes out, and the curl handle that carries it."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pycurl

from providers.guard import Guard, Target

BODY_KEPT = 16 * 1024  # bytes of an answer's body that are kept for the record
BODY_READ = 256 * 1024  # bytes after which we hang up
HEADERS_READ = 64 * 1024  # bytes of headers after which the answer is refused


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `timeout_ms` bounds everything from the look-up of the name to the last byte, by the clock on
    the wall; None takes the client's. `tag` is the caller's own and comes back untouched."""

    url: str
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    method: str = "POST"
    timeout_ms: int | None = None
    tag: Any = None


@dataclass(frozen=True)
class Response:
    """A complete answer, whatever its status.

    `body` holds at most 16 KiB as they came (never decompressed); `truncated` says that there was more. `peer` is
    `address:port`. `times` are milliseconds: `dns`, `connect`, `tls` are how long each phase took (0 on a kept
    connection), `firstByte` and `total` count from the start.
    """

    status: int
    raw_headers: Sequence[bytes]
    body: bytes
    truncated: bool
    peer: str
    times: Mapping[str, float]

    @cached_property
    def headers(self) -> dict[str, str]:
        """Names in lower case; repeated ones joined by a comma."""
        found: dict[str, str] = {}
        for line in self.raw_headers:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                key, text = name.strip().lower(), value.strip()
                found[key] = f"{found[key]}, {text}" if key in found else text
        return found

    @property
    def text(self) -> str:
        """The kept body as text; what is not UTF-8, and NUL, which databases refuse, is replaced."""
        return self.body.decode("utf-8", "replace").replace("\0", "\ufffd")


class HttpFault(Exception):  # noqa: N818 - a fault of the exchange, not of ours
    """There was no complete answer.

    `code` is stable: dns_error, connection_refused, connection_reset, unreachable, timeout, tls_error,
    blocked_address, truncated (closed inside the headers or the body), response_too_large (headers without end),
    bad_response, invalid_url, invalid_header, transport_error. `message` never tells what answered at which
    address. `detail`: `times`, and `peer` and `status` where they are known.
    """

    def __init__(self, code: str, message: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail: dict[str, Any] = dict(detail or {})


MESSAGES = {
    "dns_error": "the host name could not be resolved",
    "connection_refused": "the connection was refused",
    "connection_reset": "the connection was closed before an answer came",
    "unreachable": "the host could not be reached",
    "timeout": "no complete answer within the time allowed",
    "tls_error": "the TLS connection could not be made",
    "blocked_address": "the address is not allowed",
    "truncated": "the connection was closed inside the answer",
    "response_too_large": "the answer's headers are too large",
    "bad_response": "the answer is not HTTP",
    "invalid_url": "the URL is not valid",
    "invalid_header": "a header holds a line break or NUL",
    "transport_error": "the exchange failed",
}

_CODES = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns_error",
    pycurl.E_COULDNT_CONNECT: "unreachable",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SSL_CONNECT_ERROR: "tls_error",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls_error",
    pycurl.E_SSL_CERTPROBLEM: "tls_error",
    pycurl.E_SSL_CIPHER: "tls_error",
    pycurl.E_SSL_CACERT_BADFILE: "tls_error",
    pycurl.E_SSL_ISSUER_ERROR: "tls_error",
    pycurl.E_SSL_INVALIDCERTSTATUS: "tls_error",
    pycurl.E_GOT_NOTHING: "connection_reset",
    pycurl.E_RECV_ERROR: "connection_reset",
    pycurl.E_SEND_ERROR: "connection_reset",
    pycurl.E_PARTIAL_FILE: "truncated",
    100: "response_too_large",  # CURLE_TOO_LARGE: more headers than curl takes
    pycurl.E_URL_MALFORMAT: "invalid_url",
    pycurl.E_UNSUPPORTED_PROTOCOL: "bad_response",
    pycurl.E_HTTP2: "bad_response",
    8: "bad_response",  # CURLE_WEIRD_SERVER_REPLY
}


def fault(code: str, detail: Mapping[str, Any] | None = None) -> HttpFault:
    """The fault of this code with its own text."""
    return HttpFault(code, MESSAGES[code], detail)


@dataclass
class _Received:
    """What has come so far."""

    status: int = 0
    lines: list[bytes] = field(default_factory=list)
    header_bytes: int = 0
    in_headers: bool = True
    block_open: bool = False
    chunks: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    blocked: bool = False
    headers_too_large: bool = False
    hung_up: bool = False


class Transfer:
    """A curl handle, used for one exchange after the other; its connection lives in the multi handle."""

    def __init__(self, guard: Guard, ca_file: str) -> None:
        self._guard = guard
        self._got = _Received()
        self._resolve: list[str] = []
        self.request = Request("")
        self.began = 0.0
        self.dns_ms = 0.0
        self.curl = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.CAINFO, ca_file),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.HEADERFUNCTION, self._on_header),
            (pycurl.WRITEFUNCTION, self._on_body),
            (pycurl.OPENSOCKETFUNCTION, self._on_socket),
        ):
            self.curl.setopt(option, value)

    def prepare(self, target: Target, addresses: Sequence[str], headers: list[bytes], timeout_ms: int) -> None:
        """Load the handle with `self.request`. `addresses` are what the name means (none for a literal)."""
        self._got = _Received()
        curl, request = self.curl, self.request
        curl.setopt(pycurl.URL, target.url)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, timeout_ms))
        if request.method == "GET":
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDS, request.body)
        resolve = [_pin(target, addresses)] if addresses else []
        if resolve or self._resolve:
            curl.setopt(pycurl.RESOLVE, resolve)
            self._resolve = resolve

    def result(self, curl_code: int) -> Response | HttpFault:
        """What became of the exchange that curl ended with this code."""
        got = self._got
        code = self._fault_code(curl_code)
        if code is None:
            body = b"".join(got.chunks)
            truncated = got.hung_up or got.body_bytes > BODY_KEPT
            return Response(got.status, got.lines, body[:BODY_KEPT], truncated, self._peer(), self._times())
        detail: dict[str, Any] = {"times": self._times()}
        if code != "blocked_address" and (peer := self._peer()):
            detail["peer"] = peer
        if got.status and not got.in_headers:
            detail["status"] = got.status
        return fault(code, detail)

    def close(self) -> None:
        self.curl.close()

    def _fault_code(self, curl_code: int) -> str | None:
        got = self._got
        if got.blocked:
            return "blocked_address"
        if got.headers_too_large:
            return "response_too_large"
        if curl_code == 0 or got.hung_up:
            # curl takes a close inside the headers for the end of the answer, and reports its status.
            if got.in_headers:
                return "truncated"
            return None if got.status else "bad_response"
        if curl_code == pycurl.E_COULDNT_CONNECT and self.curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED:
            return "connection_refused"
        return _CODES.get(curl_code, "transport_error")

    def _on_header(self, line: bytes) -> int | None:
        got = self._got
        if not got.in_headers:
            return None  # a trailer
        got.header_bytes += len(line)
        if got.header_bytes > HEADERS_READ:
            got.headers_too_large = True
            return -1
        if not got.block_open:
            got.block_open = True
            got.status = _status(line)
            got.lines = []
        elif line in (b"\r\n", b"\n"):
            got.block_open = False
            got.in_headers = 100 <= got.status < 200
        else:
            got.lines.append(line)
        return None

    def _on_body(self, chunk: bytes) -> int | None:
        got = self._got
        if got.body_bytes < BODY_KEPT:
            got.chunks.append(chunk)
        got.body_bytes += len(chunk)
        if got.body_bytes > BODY_READ:
            got.hung_up = True
            return -1
        return None

    def _on_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, place = address
        if self._got.blocked or family not in (socket.AF_INET, socket.AF_INET6) or not self._guard.admits(place[0]):
            self._got.blocked = True
            return int(pycurl.SOCKET_BAD)
        return socket.socket(family, kind, protocol)

    def _peer(self) -> str:
        address = self.curl.getinfo(pycurl.PRIMARY_IP)
        if not address:
            return ""
        shown = f"[{address}]" if ":" in address else address
        return f"{shown}:{self.curl.getinfo(pycurl.PRIMARY_PORT)}"

    def _times(self) -> dict[str, float]:
        info = self.curl.getinfo
        looked_up, connected, secured = (
            info(pycurl.NAMELOOKUP_TIME_T),
            info(pycurl.CONNECT_TIME_T),
            info(pycurl.APPCONNECT_TIME_T),
        )
        return {
            "dns": round(self.dns_ms, 3),
            "connect": max(0, connected - looked_up) / 1000,
            "tls": max(0, secured - connected) / 1000,
            "firstByte": round(info(pycurl.STARTTRANSFER_TIME_T) / 1000 + self.dns_ms, 3),
            "total": round((time.monotonic() - self.began) * 1000, 3),
        }


def _pin(target: Target, addresses: Sequence[str]) -> str:
    """curl's way to say which addresses a name means. The plus lets the entry grow old."""
    shown = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    return f"+{target.host}:{target.port}:{shown}"


def _status(line: bytes) -> int:
    """The number in `HTTP/1.1 200 OK`; 0 when there is none of three digits."""
    words = line.split(None, 2)
    return int(words[1]) if len(words) > 1 and len(words[1]) == 3 and words[1].isdigit() else 0
