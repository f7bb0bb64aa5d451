"""One SMTP connection: how it is opened, how a message goes through it, and what each reply means."""

from __future__ import annotations

import ipaddress
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from providers.contract import PermanentError, ProviderError, RetryableError
from providers.email.mime import Mail

_AUTH_CODES = frozenset({530, 534, 535, 538})
_ENHANCED = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_TEXT_LIMIT = 500
_NOOP_S = 2.0


@dataclass(frozen=True)
class Settings:
    """Where to dial and who we are there. `helo`: the name we greet with. `timeout_s`: for all of one message."""

    host: str
    port: int
    secure: bool
    user: str
    timeout_s: float
    helo: str
    ssl_context: ssl.SSLContext
    password: str = field(repr=False)


class Dropped(Exception):  # noqa: N818 - what happened to the connection; `error` is the fault to report
    """The connection is of no use any more.

    `at_once`: another connection is worth trying now. Not when the message may have been taken all the same, nor
    when the wait for this one has already cost the whole timeout.
    """

    def __init__(self, error: RetryableError, *, at_once: bool) -> None:
        super().__init__(error.code)
        self.error = error
        self.at_once = at_once


class Session:
    """An open connection, greeted, under TLS where it can be, and logged in."""

    def __init__(self, settings: Settings, ends: float) -> None:
        """Dial until `ends`, a `time.monotonic()`. Raises RetryableError, OSError or SMTPException."""
        self.last_reply = ""
        self.peer = ""
        self._ends = ends
        self._smtp = _dial(settings, _left(ends))
        try:
            self._open(settings)
        except BaseException:
            self.abort()
            raise

    def send(self, mail: Mail, ends: float) -> dict[str, str]:
        """Hand over one mail until `ends`. Answers {address: reply} of the refused when the main one was taken.

        Raises ProviderError for the message's own fault, Dropped when the connection died.
        """
        taking, self._ends = False, ends
        try:
            refused = self._negotiate(mail)
            taking = True
            self._patience()
            self._smtp.send(_stuffed(mail.content))
            code, text = self._heard()
        except (OSError, smtplib.SMTPException) as error:
            at_once = not taking and not _timed_out(error)
            raise Dropped(connection_fault(error), at_once=at_once) from error
        if code != 250:
            self._refuse(code, text, "data")
        self.last_reply = f"{code} {text}"
        return refused

    def alive(self) -> bool:
        """Ask with NOOP."""
        self._ends = time.monotonic() + _NOOP_S
        try:
            self._patience()
            return self._smtp.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def quit(self) -> None:
        """Say goodbye and hang up, whatever the other side says."""
        with suppress(OSError, smtplib.SMTPException):
            self._smtp.quit()
        self.abort()

    def abort(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._smtp.close()

    def _open(self, settings: Settings) -> None:
        smtp = self._smtp
        sock: socket.socket = smtp.sock  # type: ignore[assignment]  # None only before the greeting
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = sock.getpeername()
        self.peer = f"{peer[0]}:{peer[1]}"
        self._patience()
        smtp.ehlo_or_helo_if_needed()
        if not settings.secure and smtp.has_extn("starttls"):
            self._patience()
            smtp.starttls(context=settings.ssl_context)
            self._patience()
            smtp.ehlo_or_helo_if_needed()
        if settings.user:
            if not isinstance(smtp.sock, ssl.SSLSocket) and not _is_loopback(str(peer[0])):
                raise RetryableError("insecure_auth", "the server offers no TLS: credentials are not sent", loud=True)
            self._patience()
            smtp.login(settings.user, settings.password)

    def _patience(self) -> None:
        """Let the next step last as long as this message still has. Raises TimeoutError when it has nothing left."""
        if self._smtp.sock is not None:
            self._smtp.sock.settimeout(_left(self._ends))

    def _heard(self) -> tuple[int, str]:
        self._patience()
        return self._reply(*self._smtp.getreply())

    def _negotiate(self, mail: Mail) -> dict[str, str]:
        """MAIL, RCPT and DATA. Answers {address: reply} of the refused once the server waits for the content."""
        lines = [self._mail_line(mail), *(f"RCPT TO:<{address}>" for address in mail.recipients), "DATA"]
        # With several recipients DATA waits: were the main one refused, a DATA already taken could not be undone.
        ahead = 3 if len(lines) == 3 else len(lines) - 1
        replies = self._ask(lines[:ahead], lines[ahead:])
        code, text = next(replies)
        if code != 250:
            self._refuse(code, text, "mail")
        refused = {}
        for address in mail.recipients:
            code, text = next(replies)
            if code not in (250, 251):
                if address == mail.to or code in _AUTH_CODES:
                    self._refuse(code, text, "rcpt")
                refused[address] = f"{code} {text}"
        code, text = next(replies)
        if code != 354:
            self._refuse(code, text, "data")
        return refused

    def _mail_line(self, mail: Mail) -> str:
        smtp = self._smtp
        options = [f"SIZE={len(mail.content)}"] if smtp.has_extn("size") else []
        if mail.needs_utf8:
            if not smtp.has_extn("smtputf8"):
                raise PermanentError("smtputf8_unsupported", "the server cannot carry this non-ASCII address")
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        limit = smtp.esmtp_features.get("size", "")
        if limit.isdigit() and 0 < int(limit) < len(mail.content):
            raise PermanentError("message_too_large", f"the server takes at most {limit} bytes")
        return " ".join([f"MAIL FROM:<{mail.sender}>", *options])

    def _ask(self, ahead: list[str], rest: list[str]) -> Iterator[tuple[int, str]]:
        """The replies to these commands. Those of `ahead` go out together where the server allows (RFC 2920)."""
        smtp = self._smtp
        if smtp.has_extn("pipelining"):
            smtp.send("".join(line + "\r\n" for line in ahead).encode())
            replies = [self._heard() for _ in ahead]
            if replies[-1][0] == 354 and any(code not in (250, 251) for code, _text in replies[:-1]):
                smtp.send(b".\r\n")  # it waits for a content that has nowhere to go
                smtp.getreply()
            yield from replies
        else:
            rest = ahead + rest
        for line in rest:
            smtp.send(line.encode() + b"\r\n")
            yield self._heard()

    def _reply(self, code: int, text: bytes) -> tuple[int, str]:
        shown = text.decode("utf-8", "replace").replace("\0", "\ufffd")[:_TEXT_LIMIT]
        if code in (421, -1):
            error = RetryableError(f"smtp_{code}" if code > 0 else "connection_reset", shown, _facts(code, shown))
            raise Dropped(error, at_once=True)
        return code, shown

    def _refuse(self, code: int, text: str, stage: str) -> NoReturn:
        """Take the transaction back and raise what the reply means."""
        try:
            self._smtp.rset()
        except (OSError, smtplib.SMTPException):
            self.abort()  # the next message finds it closed and dials again
        raise classify(code, text, stage)


def classify(code: int, text: str, stage: str) -> ProviderError:
    """Whose fault a refusal is. `stage`: mail (our sender), rcpt, data."""
    detail = {**_facts(code, text), "stage": stage}
    if code in _AUTH_CODES:
        return RetryableError("auth_failed", "the server wants other credentials", detail, loud=True)
    enhanced = _ENHANCED.search(text)
    if 500 <= code < 600:
        if stage == "mail" and not (code == 552 or (enhanced and enhanced[0] == "5.3.4")):
            return RetryableError("sender_refused", f"the server refuses our sender: {text}", detail, loud=True)
        # A full mailbox is emptied some day, whatever digit the server put first (RFC 5321, 4.5.3.1.10).
        if not (enhanced and enhanced[0] == "5.2.2") and not (code == 552 and stage == "rcpt"):
            return PermanentError(f"smtp_{code}", text, detail)
    return RetryableError(f"smtp_{code}", text, detail)


def connection_fault(error: Exception) -> RetryableError:
    """What went wrong with the line itself. Always worth another try; loud when only an operator can mend it."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        text = _words(error)
        transient = 400 <= error.smtp_code < 500
        return RetryableError("auth_failed", text, _facts(error.smtp_code, text), loud=not transient)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return RetryableError("auth_unsupported", "the server offers no way to log in", loud=True)
    if isinstance(error, smtplib.SMTPResponseException):
        text = _words(error)
        return RetryableError(f"smtp_{error.smtp_code}", text, _facts(error.smtp_code, text))
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "TLS failed"
        return RetryableError("tls_error", str(reason), loud=isinstance(error, ssl.SSLCertVerificationError))
    if isinstance(error, socket.gaierror):
        return RetryableError("dns_error", "the server's name could not be resolved")
    if _timed_out(error):
        return RetryableError("timeout", "the server did not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return RetryableError("connection_refused", "the server refused the connection")
    return RetryableError("connection_reset", "the connection to the server broke")


def _timed_out(error: Exception) -> bool:
    """smtplib tells of a time-out as of a disconnect; the cause is in the context."""
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("the message's time is over")
    return left


def _dial(settings: Settings, timeout: float) -> smtplib.SMTP:
    host, port = settings.host, settings.port
    if settings.secure:
        return smtplib.SMTP_SSL(host, port, settings.helo, timeout=timeout, context=settings.ssl_context)
    return smtplib.SMTP(host, port, settings.helo, timeout=timeout)


def _stuffed(content: bytes) -> bytes:
    """The mail as DATA wants it: a dot before leading dots, and the lone dot that ends it (RFC 5321, 4.5.2)."""
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _facts(code: int, text: str) -> dict[str, object]:
    enhanced = _ENHANCED.search(text)
    return {"smtpCode": code, "smtpText": text, **({"enhancedCode": enhanced[0]} if enhanced else {})}


def _words(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))[:_TEXT_LIMIT]


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
