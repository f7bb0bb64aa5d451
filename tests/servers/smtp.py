"""An SMTP server on loopback (aiosmtpd) that keeps what it accepts and misbehaves on request.

    with SmtpServer() as server:
        server.refuse["gone@example.com"] = "550 5.1.1 no such user"
        ... send to server.host, server.port ...
        server.wait_for(1)
        server.ledger[0].content

`refuse` answers RCPT, `refuse_sender` answers MAIL, `refuse_data` the end of DATA; each is the whole reply. `drop_at`
lists stages (`mail`, `rcpt`, `data`) at which the connection is cut, one entry each time.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass(frozen=True)
class ReceivedMail:
    """One accepted mail. `connection` numbers the connections from 1; `user` is who had logged in."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    connection: int
    tls: bool
    user: str | None

    @property
    def message(self) -> EmailMessage:
        """Parsed."""
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


class SmtpServer:
    """See the module.

    `starttls`: a server context to offer STARTTLS with; `tls`: one to speak TLS with from the start. `user` and
    `password`: offer a log-in, over clear connections too when `auth_in_clear`; otherwise insist on it.
    `smtputf8`, `pipelining`: offer them. `size_limit`: bytes.
    """

    def __init__(
        self,
        *,
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
        user: str | None = None,
        password: str = "",
        auth_in_clear: bool = True,
        smtputf8: bool = True,
        size_limit: int = 33_554_432,
        pipelining: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        self.ledger: list[ReceivedMail] = []
        self.connections = 0
        self.logins: list[tuple[str, bool]] = []
        self.refuse: dict[str, str] = {}
        self.refuse_sender: str | None = None
        self.refuse_data: str | None = None
        self.drop_at: list[str] = []
        self.delay_s = 0.0  # before each answer to MAIL, RCPT and DATA
        self.host, self.port = host, 0
        self._user, self._password = user, password
        self._pipelining = pipelining
        self._tls = tls
        self._options: dict[str, Any] = {
            "data_size_limit": size_limit,
            "enable_SMTPUTF8": smtputf8,
            "hostname": "localhost",
            "tls_context": starttls,
            # aiosmtpd warns when it must have a log-in and may have it in clear.
            "auth_required": user is not None and not auth_in_clear,
            "auth_require_tls": not auth_in_clear,
            "authenticator": self._log_in if user is not None else None,
        }
        self._changed = threading.Condition()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(60), "the SMTP server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[ReceivedMail]:
        """Wait until `count` mails are accepted, and give them. Raises AssertionError when they are not."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.ledger) >= count, timeout_s)
            assert came, f"{len(self.ledger)} of {count} mails came"
            return list(self.ledger)

    # aiosmtpd calls these by name.

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return ["250-PIPELINING", *responses] if self._pipelining else responses

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        await asyncio.sleep(self.delay_s)
        if self._dropped("mail", server):
            return "451 never read"
        if self.refuse_sender:
            return self.refuse_sender
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        await asyncio.sleep(self.delay_s)
        if self._dropped("rcpt", server):
            return "451 never read"
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        await asyncio.sleep(self.delay_s)
        if self._dropped("data", server):
            return "451 never read"
        if self.refuse_data:
            return self.refuse_data
        user = session.auth_data.login.decode() if session.authenticated and session.auth_data else None
        received = ReceivedMail(
            sender=envelope.mail_from,
            recipients=tuple(envelope.rcpt_tos),
            content=envelope.original_content,
            connection=server.number,
            tls=server.transport.get_extra_info("ssl_object") is not None,
            user=user,
        )
        with self._changed:
            self.ledger.append(received)
            self._changed.notify_all()
        return "250 2.0.0 kept"

    def _dropped(self, stage: str, server: SMTP) -> bool:
        if self.drop_at and self.drop_at[0] == stage:
            self.drop_at.pop(0)
            server.transport.abort()
            return True
        return False

    def _log_in(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login.decode(), data.password.decode()) == (self._user, self._password)
        self.logins.append((data.login.decode(), right))
        return AuthResult(success=right, handled=False, message=None if right else "535 5.7.8 wrong", auth_data=data)

    def _protocol(self) -> SMTP:
        self.connections += 1
        protocol = SMTP(self, loop=self._loop, **self._options)
        protocol.number = self.connections
        return protocol

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(self._protocol, self.host, 0, ssl=self._tls, backlog=256)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()
