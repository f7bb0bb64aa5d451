"""Email by SMTP: one kept connection for many messages, and every reply classified by who is to blame."""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from providers.contract import Accepted, Channel, OutboundMessage, ProviderError, Result, RetryableError
from providers.email import smtp_session
from providers.email.addresses import parse_address
from providers.email.mime import Mail, build
from providers.email.smtp_session import Dropped, Session, Settings

IDLE_S = 5.0  # after this long a kept connection is asked whether it still lives
MAX_IDLE_S = 60.0  # after this long it is not worth asking


class Smtp:
    """Sends by the server at `host`:`port`.

    `secure`: TLS from the start; otherwise STARTTLS where it is offered. `user` and `password` never go in clear to
    anything but loopback. `sender`: the From of messages without their own. `timeout_s`: for all of one
    message, dialling included.
    `ssl_context`: instead of the default one, which verifies certificates. `clock`: the time of day, for the record.
    """

    name = "smtp"
    channel = Channel.EMAIL

    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        secure: bool = False,
        user: str = "",
        password: str = "",
        timeout_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises PermanentError(invalid_address) when `sender` is no address."""
        self._sender = sender
        self._clock = clock
        self._settings = Settings(
            host=host,
            port=port,
            secure=secure,
            user=user,
            password=password,
            timeout_s=timeout_s,
            helo=parse_address(sender).domain,
            ssl_context=ssl_context or ssl.create_default_context(),
        )
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Session]] = []
        self._closed = False

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        """See Provider. One after the other on one connection; when no connection can be had, all that are left fail
        alike without dialling again for each."""
        line = _Line(self._take, self._settings)
        try:
            for message in messages:
                if time.monotonic() >= deadline:
                    return
                started_at, began = self._clock(), time.monotonic()
                outcome = self._send(line, message)
                yield Result(message, outcome, started_at, (time.monotonic() - began) * 1000)
        finally:
            self._give_back(line.session)

    def close(self) -> None:
        """Say goodbye on kept connections; calling it twice is harmless."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _since, session in idle:
            session.quit()

    def _send(self, line: _Line, message: OutboundMessage) -> Accepted | Exception:
        try:
            mail = build(message, self._sender)
            refused = line.send(mail)
        except ProviderError as error:
            return error
        except Exception as error:
            line.hang_up()  # our bug, in the middle of who knows what
            return error
        return Accepted(
            provider_id=mail.message_id,
            detail={"response": line.last_reply, "peer": line.peer, "recipients": len(mail.recipients)},
            refused=refused,
        )

    def _take(self) -> Session | None:
        """A kept connection that still lives, if there is one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, session = self._idle.pop()
            idle_s = time.monotonic() - since
            if idle_s < IDLE_S or (idle_s < MAX_IDLE_S and session.alive()):
                return session
            session.quit()

    def _give_back(self, session: Session | None) -> None:
        if session is None:
            return
        with self._lock:
            if not self._closed:
                self._idle.append((time.monotonic(), session))
                return
        session.quit()


class _Line:
    """The connection of one batch: dialled when first needed, and once more if it drops."""

    def __init__(self, take: Callable[[], Session | None], settings: Settings) -> None:
        self._take = take
        self._settings = settings
        self._broken: RetryableError | None = None
        self.session: Session | None = None
        self.last_reply = ""
        self.peer = ""

    def send(self, mail: Mail) -> dict[str, str]:
        """{address: the server's words} of those refused besides the main one. Raises ProviderError."""
        ends = time.monotonic() + self._settings.timeout_s
        try:
            return self._send(mail, ends)
        except Dropped as drop:
            if not drop.at_once:
                raise drop.error from drop
        # The server had not taken the message yet: sending it again doubles nothing.
        try:
            return self._send(mail, ends)
        except Dropped as drop:
            raise drop.error from drop

    def _send(self, mail: Mail, ends: float) -> dict[str, str]:
        if self._broken is not None:
            raise _again(self._broken)
        if self.session is None:
            self.session = self._take() or self._dial(ends)
        try:
            refused = self.session.send(mail, ends)
        except Dropped:
            self.hang_up()
            raise
        self.last_reply, self.peer = self.session.last_reply, self.session.peer
        return refused

    def hang_up(self) -> None:
        """Leave the connection; the next message dials again."""
        if self.session is not None:
            self.session.abort()
            self.session = None

    def _dial(self, ends: float) -> Session:
        try:
            return Session(self._settings, ends)
        except RetryableError as error:
            self._broken = error
            raise
        except (OSError, smtplib.SMTPException) as error:
            self._broken = smtp_session.connection_fault(error)
            raise self._broken from error


def _again(error: RetryableError) -> RetryableError:
    return RetryableError(error.code, error.message, error.detail, retry_after=error.retry_after, loud=error.loud)
