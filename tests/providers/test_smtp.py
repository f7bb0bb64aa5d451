"""SMTP against a real server: what goes over the wire, and whose fault each reply is."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.contract import Accepted, Channel, PermanentError, Provider, RetryableError
from providers.email.smtp import Smtp
from providers.email.smtp_session import classify
from tests.conftest import wait_until
from tests.providers.messages import message, outcome, send
from tests.servers.certificates import Certificate, make_certificate
from tests.servers.http import HttpReceiver
from tests.servers.smtp import SmtpServer

SENDER = "Tidings <no-reply@tidings.example>"


@pytest.fixture(params=[True, False], ids=["pipelining", "step by step"])
def server(request: pytest.FixtureRequest) -> Iterator[SmtpServer]:
    with SmtpServer(pipelining=request.param) as running:
        yield running


@pytest.fixture
def provider(server: SmtpServer) -> Iterator[Smtp]:
    made = smtp(server)
    yield made
    made.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def smtp(server: SmtpServer, **options: Any) -> Smtp:
    return Smtp(server.host, server.port, **{"sender": SENDER, "timeout_s": 30.0, **options})


def mail(to: str = "jo@example.com", number: int = 1, **fields: Any) -> Any:
    given = {"delivery_id": f"d-{number}", "subject": "Hello", "text": "Hi", "html": "<p>Hi</p>"}
    return message(Channel.EMAIL, to, **{**given, **fields})


def test_it_is_a_provider(provider: Smtp) -> None:
    assert isinstance(provider, Provider)


def test_a_mail_arrives_with_its_envelope(server: SmtpServer, provider: Smtp) -> None:
    result = outcome(provider, mail("Jo <jo@example.com>", cc=("cc@example.com",), bcc=("bcc@example.com",)))

    got = server.ledger[0]
    assert isinstance(result, Accepted)
    assert result.provider_id == "<d-1@tidings.example>" == got.message["Message-ID"]
    assert result.detail["response"] == "250 2.0.0 kept"
    assert got.sender == "no-reply@tidings.example"
    assert got.recipients == ("jo@example.com", "cc@example.com", "bcc@example.com")
    assert b"bcc@example.com" not in got.content
    assert got.message["Cc"] == "cc@example.com"


@pytest.mark.parametrize("text", [".", "..", ".\n.\n", "a\n.\nb", ".a\n..b\n", "Zoë 🎉\n", "x" * 3000])
def test_every_text_arrives_as_it_left(server: SmtpServer, provider: Smtp, text: str) -> None:
    outcome(provider, mail(text=text, html=""))

    assert server.ledger[0].message.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")


def test_two_attempts_are_the_same_bytes(server: SmtpServer, provider: Smtp) -> None:
    send(provider, mail(attempt=1), mail(attempt=2))

    assert server.ledger[0].content == server.ledger[1].content


def test_many_mails_take_one_connection(server: SmtpServer, provider: Smtp) -> None:
    send(provider, *(mail(number=number) for number in range(20)))
    send(provider, *(mail(number=number) for number in range(20)))

    assert (len(server.ledger), server.connections) == (40, 1)


def test_what_was_not_begun_before_the_deadline_has_no_result(server: SmtpServer, provider: Smtp) -> None:
    assert list(provider.send_batch([mail()], time.monotonic() - 1)) == []
    assert server.connections == 0


@pytest.mark.parametrize("stage", ["mail", "rcpt"])
def test_a_connection_that_drops_before_the_mail_is_taken_is_dialled_again(
    server: SmtpServer, provider: Smtp, stage: str
) -> None:
    server.drop_at = [stage]

    results = send(provider, *(mail(number=number) for number in range(3)))

    assert all(isinstance(result.outcome, Accepted) for result in results)
    assert [got.message["Message-ID"] for got in server.ledger] == [f"<d-{n}@tidings.example>" for n in range(3)]
    assert server.connections == 2


def test_a_connection_that_drops_when_the_mail_may_be_taken_is_left_to_the_next_attempt(
    server: SmtpServer, provider: Smtp
) -> None:
    server.drop_at = ["data"]

    first, second = send(provider, mail(number=1), mail(number=2))

    assert isinstance(first.outcome, RetryableError)
    assert first.outcome.code == "connection_reset"
    assert isinstance(second.outcome, Accepted)


def test_a_kept_connection_that_died_in_between_is_replaced(provider: Smtp, server: SmtpServer) -> None:
    outcome(provider, mail())
    provider._idle[0][1].abort()

    assert isinstance(outcome(provider, mail()), Accepted)
    assert server.connections == 2


def test_an_old_kept_connection_is_asked_before_it_is_used(provider: Smtp, server: SmtpServer) -> None:
    outcome(provider, mail())
    since, session = provider._idle[0]
    provider._idle[0] = (since - 30, session)

    assert isinstance(outcome(provider, mail()), Accepted)
    assert server.connections == 1


def test_a_refused_address_is_permanent_and_harms_no_other(server: SmtpServer, provider: Smtp) -> None:
    server.refuse["gone@example.com"] = "550 5.1.1 no such user"

    first, bad, last = send(provider, mail(number=1), mail("gone@example.com", 2), mail(number=3))

    assert isinstance(bad.outcome, PermanentError)
    assert bad.outcome.code == "smtp_550"
    assert bad.outcome.detail["enhancedCode"] == "5.1.1"
    assert isinstance(first.outcome, Accepted)
    assert isinstance(last.outcome, Accepted)
    assert server.connections == 1


def test_a_refused_copy_is_told_and_the_rest_goes(server: SmtpServer, provider: Smtp) -> None:
    server.refuse["cc@example.com"] = "550 5.1.1 no such user"

    result = outcome(provider, mail(cc=("cc@example.com", "ok@example.com")))

    assert isinstance(result, Accepted)
    assert result.refused == {"cc@example.com": "550 5.1.1 no such user"}
    assert server.ledger[0].recipients == ("jo@example.com", "ok@example.com")


def test_the_main_address_refused_sends_to_nobody(server: SmtpServer, provider: Smtp) -> None:
    server.refuse["jo@example.com"] = "450 4.7.1 greylisted"

    result = outcome(provider, mail(cc=("ok@example.com",)))

    assert isinstance(result, RetryableError)
    assert server.ledger == []


@pytest.mark.parametrize(
    ("code", "text", "stage", "kind", "name", "loud"),
    [
        (550, "5.1.1 unknown", "rcpt", PermanentError, "smtp_550", False),
        (553, "bad mailbox", "rcpt", PermanentError, "smtp_553", False),
        (554, "5.7.1 spam", "data", PermanentError, "smtp_554", False),
        (552, "5.2.2 full", "rcpt", RetryableError, "smtp_552", False),
        (550, "5.2.2 full", "rcpt", RetryableError, "smtp_550", False),
        (552, "5.3.4 too big", "data", PermanentError, "smtp_552", False),
        (552, "5.3.4 too big", "mail", PermanentError, "smtp_552", False),
        (450, "4.2.1 busy", "rcpt", RetryableError, "smtp_450", False),
        (451, "later", "data", RetryableError, "smtp_451", False),
        (452, "no room", "mail", RetryableError, "smtp_452", False),
        (550, "5.7.1 sender unknown", "mail", RetryableError, "sender_refused", True),
        (530, "5.7.0 log in first", "mail", RetryableError, "auth_failed", True),
        (535, "5.7.8 wrong", "rcpt", RetryableError, "auth_failed", True),
    ],
)
def test_each_reply_has_one_meaning(code: int, text: str, stage: str, kind: type, name: str, loud: bool) -> None:
    error = classify(code, text, stage)

    assert (type(error), error.code, getattr(error, "loud", False)) == (kind, name, loud)
    assert error.detail["smtpCode"] == code


def test_a_sender_that_is_refused_is_ours_to_mend(server: SmtpServer, provider: Smtp) -> None:
    server.refuse_sender = "550 5.7.1 you may not send as this"

    result = outcome(provider, mail())

    assert isinstance(result, RetryableError)
    assert (result.code, result.loud) == ("sender_refused", True)


def test_a_server_that_wants_content_for_nobody_gets_none() -> None:
    # RFC 2920, 3.1 allows it: DATA was sent before the refusal was known.
    lines = "250-here\r\n250 PIPELINING", "250 ok", "550 5.1.1 no", "354 go", "554 nobody", "250 reset"
    more = "250 ok", "250 ok", "354 go", "250 kept"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []
        thread = threading.Thread(target=_play, args=(listener, [*lines, *more], heard))
        thread.start()
        provider = Smtp("127.0.0.1", listener.getsockname()[1], sender=SENDER)

        bad, good = send(provider, mail(number=1), mail(number=2))
        provider.close()
        thread.join()

    assert isinstance(bad.outcome, PermanentError)
    assert isinstance(good.outcome, Accepted)
    assert [line[:4] for line in heard[:7]] == [b"ehlo", b"MAIL", b"RCPT", b"DATA", b".\r\n", b"rset", b"MAIL"]


def _play(listener: socket.socket, replies: list[str], heard: list[bytes]) -> None:
    """A server that says one prepared thing to each command, and listens to content after a 354."""
    conn, _address = listener.accept()
    with conn, conn.makefile("rb") as stream:
        conn.sendall(b"220 hello\r\n")
        for number, reply in enumerate(replies):
            if number and replies[number - 1].startswith("354"):
                while (line := stream.readline()) not in (b".\r\n", b""):
                    pass
            else:
                line = stream.readline()
            heard.append(line)
            conn.sendall(reply.encode() + b"\r\n")


def test_content_that_is_refused_is_permanent(server: SmtpServer, provider: Smtp) -> None:
    server.refuse_data = "554 5.7.1 looks like spam"

    assert outcome(provider, mail()).code == "smtp_554"


def test_a_server_that_goes_away_in_the_middle_is_dialled_again(server: SmtpServer, provider: Smtp) -> None:
    server.refuse["jo@example.com"] = "421 4.3.2 shutting down"

    result = outcome(provider, mail())

    assert isinstance(result, RetryableError)
    assert (result.code, server.connections) == ("smtp_421", 2)


def test_a_mail_larger_than_the_server_takes_is_not_sent() -> None:
    with SmtpServer(size_limit=2000) as server:
        result = outcome(smtp(server), mail(text="x " * 2000))

        assert isinstance(result, PermanentError)
        assert (result.code, server.ledger) == ("message_too_large", [])


def test_a_bad_message_never_reaches_the_server(server: SmtpServer, provider: Smtp) -> None:
    bad, good = send(provider, mail(subject="a\r\nBcc: x@y.z"), mail(number=2))

    assert isinstance(bad.outcome, PermanentError)
    assert bad.outcome.code == "invalid_header"
    assert isinstance(good.outcome, Accepted)
    assert len(server.ledger) == 1


def test_a_bug_of_ours_harms_only_its_own_message(server: SmtpServer, provider: Smtp) -> None:
    first, bad, last = send(provider, mail(number=1), mail(number=2, created_at=None), mail(number=3))

    assert isinstance(bad.outcome, AttributeError)
    assert isinstance(first.outcome, Accepted)
    assert isinstance(last.outcome, Accepted)


def test_a_non_ascii_mailbox_goes_to_a_server_that_can(server: SmtpServer, provider: Smtp) -> None:
    assert isinstance(outcome(provider, mail("用户 <用户@例え.jp>")), Accepted)
    assert server.ledger[0].recipients == ("用户@xn--r8jz45g.jp",)
    assert isinstance(outcome(provider, mail(number=2)), Accepted)


def test_a_non_ascii_mailbox_is_refused_for_a_server_that_cannot() -> None:
    with SmtpServer(smtputf8=False) as server:
        result = outcome(smtp(server), mail("用户@例え.jp"))

        assert isinstance(result, PermanentError)
        assert (result.code, server.ledger) == ("smtputf8_unsupported", [])


def test_nobody_listening_fails_all_alike_and_is_dialled_once() -> None:
    with SmtpServer() as gone:
        provider = smtp(gone)

    results = send(provider, *(mail(number=number) for number in range(3)))

    assert [(type(result.outcome), getattr(result.outcome, "code", "")) for result in results] == [
        (RetryableError, "connection_refused")
    ] * 3


def test_a_server_that_never_greets_costs_one_timeout_for_the_batch() -> None:
    with HttpReceiver() as silent:
        provider = Smtp(silent.host, silent.port, sender=SENDER, timeout_s=0.3)

        results = send(provider, *(mail(number=number) for number in range(5)))

        assert [getattr(result.outcome, "code", "") for result in results] == ["timeout"] * 5
        wait_until(lambda: silent.connections)
        assert silent.connections == 1


def test_tls_from_the_start(certificate: Certificate) -> None:
    with SmtpServer(tls=certificate.server) as server:
        assert isinstance(outcome(smtp(server, secure=True, ssl_context=certificate.client), mail()), Accepted)
        assert server.ledger[0].tls


def test_starttls_is_used_where_it_is_offered(certificate: Certificate) -> None:
    with SmtpServer(starttls=certificate.server) as server:
        assert isinstance(outcome(smtp(server, ssl_context=certificate.client), mail()), Accepted)
        assert server.ledger[0].tls


@pytest.mark.parametrize("secure", [True, False])
def test_a_certificate_nobody_vouches_for_is_refused_loudly(certificate: Certificate, secure: bool) -> None:
    options = {"tls": certificate.server} if secure else {"starttls": certificate.server}
    with SmtpServer(**options) as server:  # type: ignore[arg-type]
        result = outcome(smtp(server, secure=secure), mail())

        assert isinstance(result, RetryableError)
        assert (result.code, result.loud, server.ledger) == ("tls_error", True, [])


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other.example", "127.0.0.9")
    with SmtpServer(tls=other.server) as server:
        assert outcome(smtp(server, secure=True, ssl_context=other.client), mail()).code == "tls_error"


def test_a_log_in_over_tls(certificate: Certificate) -> None:
    with SmtpServer(starttls=certificate.server, user="me", password="secret", auth_in_clear=False) as server:
        provider = smtp(server, user="me", password="secret", ssl_context=certificate.client)

        assert isinstance(outcome(provider, mail()), Accepted)
        assert (server.ledger[0].user, server.ledger[0].tls) == ("me", True)


def test_a_wrong_password_is_retryable_loud_and_tried_once_for_a_batch(certificate: Certificate) -> None:
    with SmtpServer(starttls=certificate.server, user="me", password="secret") as server:
        provider = smtp(server, user="me", password="wr0ng", ssl_context=certificate.client)

        results = [result.outcome for result in send(provider, mail(number=1), mail(number=2))]

        for result in results:
            assert isinstance(result, RetryableError)
            assert (result.code, result.loud) == ("auth_failed", True)
            assert "wr0ng" not in f"{result} {result.detail}"
        assert server.connections == 1


def test_credentials_go_in_clear_to_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with SmtpServer(user="me", password="secret") as server:
        assert isinstance(outcome(smtp(server, user="me", password="secret"), mail()), Accepted)

        # No second machine here: loopback is told to look like one.
        monkeypatch.setattr("providers.email.smtp_session._is_loopback", lambda _address: False)
        result = outcome(smtp(server, user="me", password="secret"), mail())

        assert isinstance(result, RetryableError)
        assert (result.code, result.loud) == ("insecure_auth", True)
        assert len(server.logins) == 1


def test_a_server_that_knows_no_log_in_is_said_to() -> None:
    with SmtpServer() as server:
        assert outcome(smtp(server, user="me", password="secret"), mail()).code in ("auth_unsupported", "auth_failed")


def test_the_password_shows_nowhere() -> None:
    provider = Smtp("localhost", 25, sender=SENDER, user="me", password="top-secret")

    assert "top-secret" not in repr(provider._settings)


def test_closing_twice_is_harmless_and_says_goodbye(server: SmtpServer, provider: Smtp) -> None:
    outcome(provider, mail())
    provider.close()
    provider.close()

    assert provider._idle == []


def test_the_default_context_verifies() -> None:
    context = Smtp("localhost", 25, sender=SENDER)._settings.ssl_context

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_server_that_is_slow_at_every_step_has_one_timeout_for_the_whole_message() -> None:
    # given a server each of whose answers comes in time, and all together too late
    with SmtpServer() as server:
        server.delay_s = 1.5
        provider = smtp(server, timeout_s=3.5)
        (result,) = send(provider, mail())
        provider.close()
    assert getattr(result.outcome, "code", repr(result.outcome)) == "timeout"
    assert not server.ledger
