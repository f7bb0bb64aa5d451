"""The safe client against receivers of every temper."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from providers.http import HttpClient, HttpFault, Request, Response
from tests.conftest import wait_until
from tests.servers import http as receivers
from tests.servers.certificates import make_certificate
from tests.servers.http import Answer, HttpReceiver

LOOPBACK = ["127.0.0.0/8", "::1/128"]


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as running:
        yield running


@pytest.fixture
def client() -> Iterator[HttpClient]:
    made = HttpClient(allow=LOOPBACK, timeout_ms=60_000)
    yield made
    made.close()


def fault_of(client: HttpClient, url: str, timeout_ms: int | None = None, **fields: object) -> HttpFault:
    with pytest.raises(HttpFault) as caught:
        client.one(Request(url, b"{}", timeout_ms=timeout_ms, **fields))  # type: ignore[arg-type]
    return caught.value


def test_an_exchange_goes_out_as_given_and_tells_its_facts(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.on("/hook", Answer(201, {"X-Thing": "a", "x-thing": "b"}, b"caf\xe9\0"))

    answer = client.one(Request(receiver.url("/hook?a=1"), b'{"x":"\xc3\xa9"}', [("Content-Type", "application/json")]))

    got = receiver.ledger[0]
    assert (got.method, got.path, got.body) == ("POST", "/hook?a=1", b'{"x":"\xc3\xa9"}')
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == "Tidings"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "expect" not in got.headers
    assert "accept-encoding" not in got.headers
    assert (answer.status, answer.body, answer.text) == (201, b"caf\xe9\0", "caf\ufffd\ufffd")
    assert answer.headers["x-thing"] == "a, b"
    assert answer.peer == f"127.0.0.1:{receiver.port}"
    assert set(answer.times) == {"dns", "connect", "tls", "firstByte", "total"}
    assert not answer.truncated


def test_a_get_carries_no_body_and_a_later_post_does(receiver: HttpReceiver, client: HttpClient) -> None:
    client.one(Request(receiver.url("/a"), method="GET"))
    client.one(Request(receiver.url("/b"), b"body"))
    client.one(Request(receiver.url("/c")))

    assert [(got.method, got.body) for got in receiver.ledger] == [("GET", b""), ("POST", b"body"), ("POST", b"")]


def test_a_large_body_is_sent_without_asking_leave(receiver: HttpReceiver, client: HttpClient) -> None:
    body = os.urandom(3 << 20)

    client.one(Request(receiver.url(), body))

    assert receiver.ledger[0].body == body


def test_connections_are_kept_from_call_to_call(receiver: HttpReceiver, client: HttpClient) -> None:
    for _ in range(5):
        client.one(Request(receiver.url()))

    assert receiver.connections == 1


def test_a_kept_connection_that_the_receiver_closed_is_replaced(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = Answer(200, {}, b"bye", close=True)

    for _ in range(3):
        assert client.one(Request(receiver.url())).status == 200


def test_cookies_are_not_kept(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = Answer(200, {"set-cookie": "a=b"})

    client.one(Request(receiver.url()))
    client.one(Request(receiver.url()))

    assert "cookie" not in receiver.ledger[1].headers


def test_no_proxy_is_taken_from_the_environment(
    receiver: HttpReceiver, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert client.one(Request(receiver.url())).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(receiver: HttpReceiver, client: HttpClient, status: int) -> None:
    receiver.on("/from", receivers.redirect(receiver.url("/to"), status))

    answer = client.one(Request(receiver.url("/from")))

    assert (answer.status, answer.headers["location"]) == (status, receiver.url("/to"))
    assert [got.path for got in receiver.ledger] == ["/from"]


def test_an_early_hint_is_not_the_answer(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = receivers.early_hints(Answer(204, {"x-final": "yes"}))

    answer = client.one(Request(receiver.url()))

    assert (answer.status, answer.headers) == (204, {"x-final": "yes", "content-length": "0"})


def test_a_gzip_bomb_is_not_unpacked(receiver: HttpReceiver, client: HttpClient) -> None:
    bomb = receivers.gzip_bomb(10)
    receiver.default = bomb

    answer = client.one(Request(receiver.url()))

    assert answer.body == bomb.body[: 16 * 1024]
    assert answer.headers["content-encoding"] == "gzip"


def test_a_long_body_is_cut_and_the_connection_kept(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = Answer(200, {}, b"a" * 100_000)

    first, second = client.one(Request(receiver.url())), client.one(Request(receiver.url()))

    assert (len(first.body), first.truncated, second.truncated) == (16 * 1024, True, True)
    assert receiver.connections == 1


def test_a_body_of_just_the_cap_is_whole(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = Answer(200, {}, b"a" * 16 * 1024)

    assert not client.one(Request(receiver.url())).truncated


def test_an_endless_body_is_hung_up_on(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = receivers.endless_body()

    answer = client.one(Request(receiver.url()))

    assert (answer.status, len(answer.body), answer.truncated) == (200, 16 * 1024, True)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (receivers.close_inside_headers(), "truncated"),
        (receivers.close_inside_body(), "truncated"),
        (receivers.send_and_close(b""), "connection_reset"),
        (receivers.send_and_close(b"HTTP/1.1 103 Early Hints\r\n\r\n"), "connection_reset"),
        (receivers.send_and_close(b"SSH-2.0-OpenSSH_9.2\r\n"), "bad_response"),
        (receivers.send_and_close(b"HTTP/1.1 20"), "connection_reset"),
        (receivers.send_and_close(b"HTTP/1.1 99999 X\r\n\r\n"), "bad_response"),
        (receivers.reset(), "connection_reset"),
        (receivers.endless_headers(), "response_too_large"),
    ],
)
def test_an_answer_that_is_not_whole_is_a_fault(
    receiver: HttpReceiver, client: HttpClient, script: receivers.Raw, code: str
) -> None:
    receiver.default = script

    assert fault_of(client, receiver.url()).code == code


def test_no_answer_however_garbled_stops_the_batch(receiver: HttpReceiver, client: HttpClient) -> None:
    pieces = [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 204 No\r\n",
            b"HTTP/1.1 100 C\r\n\r\n",
            b"HTTP/1.1 \r\n",
            b"HTTP/2 200\r\n",
        ),
        *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n"),
        *(b"\r\n", b"\n", b"\0", b": x\r\n", b" folded\r\n", b"\xff\xfe", b"A:" + b"b" * 9000 + b"\r\n"),
        *(b"HTTP/1.1 101 Go\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n"),
    ]
    chance = random.Random(7)
    receiver.default = receivers.Raw(
        lambda conn, _stop: conn.sendall(b"".join(chance.choices(pieces, k=chance.randint(0, 10))))
    )

    outcomes = [outcome for _request, outcome in client.perform([Request(receiver.url(), timeout_ms=1000)] * 500)]

    assert len(outcomes) == 500
    assert all(100 <= answer.status <= 999 and answer.headers is not None for answer in outcomes if _whole(answer))


def _whole(outcome: Response | HttpFault) -> TypeGuard[Response]:
    return isinstance(outcome, Response)


@pytest.mark.parametrize("script", [receivers.hang(), receivers.drip_headers(), receivers.drip_body()])
def test_the_deadline_is_for_everything_together(
    receiver: HttpReceiver, client: HttpClient, script: receivers.Raw
) -> None:
    receiver.default = script

    fault = fault_of(client, receiver.url(), timeout_ms=200)

    assert fault.code == "timeout"
    assert 190 <= fault.detail["times"]["total"] < 30_000


def test_a_status_that_came_before_the_fault_is_told(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = receivers.close_inside_body()

    assert fault_of(client, receiver.url()).detail["status"] == 200


def test_nobody_listening_is_connection_refused(client: HttpClient) -> None:
    with HttpReceiver() as gone:
        url = gone.url()

    assert fault_of(client, url).code == "connection_refused"


def test_a_name_that_does_not_exist_is_a_dns_error() -> None:
    def nothing(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    assert fault_of(HttpClient(resolver=nothing), "http://nowhere.example/").code == "dns_error"


def test_a_name_server_that_hangs_costs_the_deadline_and_holds_back_nobody(receiver: HttpReceiver) -> None:
    release = threading.Event()

    def slow(host: str, _port: int) -> list[str]:
        if host == "slow.example":
            release.wait(20)
        return ["127.0.0.1"]

    client = HttpClient(allow=LOOPBACK, resolver=slow, timeout_ms=4_000)
    urls = [receiver.url("/", host) for host in ("slow.example", "quick.example", "slow.example", "fast.example")]
    outcomes = [outcome for _request, outcome in client.perform([Request(url) for url in urls])]
    release.set()

    assert [outcome.status for outcome in outcomes[:2] if isinstance(outcome, Response)] == [200, 200]
    assert [outcome.code for outcome in outcomes[2:] if isinstance(outcome, HttpFault)] == ["timeout", "timeout"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]"])
def test_an_inner_address_is_not_called(receiver: HttpReceiver, host: str) -> None:
    fault = fault_of(HttpClient(), f"http://{host}:{receiver.port}/")

    assert fault.code == "blocked_address"
    assert "127" not in str(fault)
    assert "peer" not in fault.detail
    assert receiver.connections == 0


def test_one_inner_address_among_several_refuses_the_name(receiver: HttpReceiver) -> None:
    client = HttpClient(allow=LOOPBACK, resolver=lambda _host, _port: ["127.0.0.1", "10.0.0.1"])

    assert fault_of(client, receiver.url("/", "mixed.example")).code == "blocked_address"
    assert receiver.connections == 0


def test_a_name_that_moves_inside_between_two_looks_is_caught(receiver: HttpReceiver) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    client = HttpClient(allow=LOOPBACK, resolver=lambda _host, _port: next(answers))

    assert client.one(Request(receiver.url("/", "moving.example"))).status == 200
    client.names._known.clear()

    assert fault_of(client, receiver.url("/", "moving.example")).code == "blocked_address"


def test_the_address_is_judged_again_as_it_is_dialled(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    # Even if all that comes before were fooled, the callback that opens the socket is not.
    client = HttpClient()
    monkeypatch.setattr("providers.http._Engine._start", _start_without_judging)

    assert fault_of(client, receiver.url()).code == "blocked_address"
    assert receiver.connections == 0


def _start_without_judging(engine, transfer, target, addresses, headers):  # type: ignore[no-untyped-def]
    transfer.prepare(target, (), headers, 1000)
    engine._running[transfer.curl] = transfer
    engine._multi.add_handle(transfer.curl)


def test_a_name_keeps_the_address_it_was_judged_by(receiver: HttpReceiver) -> None:
    client = HttpClient(allow=LOOPBACK, resolver=lambda _host, _port: ["127.0.0.1"])

    answer = client.one(Request(receiver.url("/", "pinned.example")))

    assert answer.peer == f"127.0.0.1:{receiver.port}"
    assert receiver.ledger[0].headers["host"] == f"pinned.example:{receiver.port}"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://a b/", "http://u:p@127.0.0.1/"])
def test_a_url_that_is_none_is_a_fault(client: HttpClient, url: str) -> None:
    assert fault_of(client, url).code == "invalid_url"


@pytest.mark.parametrize("header", [("x", "a\r\nb: c"), ("x\n", "a"), ("x", "a\0"), ("x", "\ud800")])
def test_a_header_cannot_carry_another(receiver: HttpReceiver, client: HttpClient, header: tuple[str, str]) -> None:
    assert fault_of(client, receiver.url(), headers=[header]).code == "invalid_header"
    assert receiver.ledger == []


def test_tls_is_verified(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with HttpReceiver(tls=certificate.server) as receiver:
        trusting = HttpClient(allow=LOOPBACK, ca_file=str(certificate.file))
        named = HttpClient(allow=LOOPBACK, ca_file=str(certificate.file), resolver=lambda _host, _port: ["127.0.0.1"])

        assert trusting.one(Request(receiver.url())).status == 200
        assert fault_of(HttpClient(allow=LOOPBACK), receiver.url()).code == "tls_error"
        assert fault_of(named, receiver.url("/", "other.example")).code == "tls_error"


def test_plain_http_on_a_tls_port_is_a_tls_error(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.default = receivers.send_and_close(b"HTTP/1.1 200 OK\r\n\r\n")

    assert fault_of(client, receiver.url().replace("http:", "https:"), timeout_ms=2000).code in ("tls_error", "timeout")


def test_many_go_at_a_time_and_the_hanging_ones_hold_back_nobody(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.on("/hang", receivers.hang())
    urls = [receiver.url("/hang" if number % 10 == 0 else "/ok") for number in range(100)]

    requests = [Request(url, timeout_ms=4_000 if url.endswith("/hang") else 60_000, tag=url) for url in urls]
    outcomes = list(client.perform(requests))

    assert sorted(request.tag for request, _outcome in outcomes) == sorted(urls)
    assert all(isinstance(outcome, Response) for _request, outcome in outcomes[:90])
    assert [outcome.code for _request, outcome in outcomes[90:] if isinstance(outcome, HttpFault)] == ["timeout"] * 10


def test_nothing_is_begun_after_the_deadline(receiver: HttpReceiver, client: HttpClient) -> None:
    assert list(client.perform([Request(receiver.url())] * 3, time.monotonic() - 1)) == []
    assert receiver.connections == 0


def test_requests_are_drawn_only_as_slots_become_free(receiver: HttpReceiver) -> None:
    client, drawn = HttpClient(allow=LOOPBACK, max_parallel=4), []

    def requests() -> Iterator[Request]:
        for number in range(20):
            drawn.append(number)
            yield Request(receiver.url())

    first = next(outcomes := client.perform(requests()))

    assert isinstance(first[1], Response)
    assert len(drawn) <= 8
    assert len(list(outcomes)) == 19


def test_a_caller_that_stops_listening_leaves_a_client_that_works(receiver: HttpReceiver, client: HttpClient) -> None:
    receiver.on("/hang", receivers.hang())
    outcomes = client.perform([Request(receiver.url()), Request(receiver.url("/hang"))])
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]

    assert client.one(Request(receiver.url())).status == 200


def test_a_source_of_requests_that_breaks_leaves_a_client_that_works(
    receiver: HttpReceiver, client: HttpClient
) -> None:
    def broken() -> Iterator[Request]:
        yield Request(receiver.url())
        raise LookupError

    with pytest.raises(LookupError):
        list(client.perform(broken()))

    assert client.one(Request(receiver.url())).status == 200


def test_a_call_within_a_call_is_served(receiver: HttpReceiver, client: HttpClient) -> None:
    for _request, _outcome in client.perform([Request(receiver.url())] * 3):
        assert client.one(Request(receiver.url("/inner"))).status == 200

    assert len(receiver.ledger) == 6


def test_many_threads_share_a_client(receiver: HttpReceiver, client: HttpClient) -> None:
    statuses: list[int] = []

    def work() -> None:
        for _request, outcome in client.perform([Request(receiver.url())] * 25):
            assert isinstance(outcome, Response)
            statuses.append(outcome.status)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 200


def test_closing_gives_every_descriptor_back(receiver: HttpReceiver) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    client = HttpClient(allow=LOOPBACK)
    client.one(Request(receiver.url()))
    client.close()
    before = descriptors()

    clients = 20
    for _ in range(clients):
        client = HttpClient(allow=LOOPBACK)
        list(client.perform([Request(receiver.url())] * 10))
        client.close()
        client.close()

    # The receiver's own side closes a little later than ours, and others of this process may open something meanwhile.
    wait_until(lambda: descriptors() < before + clients)
