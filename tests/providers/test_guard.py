"""The guard: no spelling of an inner address gets through, and ordinary URLs do."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.guard import BlockedAddress, Guard, check_url, parse_url

INNER = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::7f00:1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "not an address",
]
OUTER = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "168.63.129.15",
    "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_refused(address: str) -> None:
    assert not Guard().admits(address)


@pytest.mark.parametrize("address", OUTER)
def test_a_public_address_is_admitted(address: str) -> None:
    assert Guard().admits(address)


def test_an_operator_admits_networks_in_every_form_of_their_addresses() -> None:
    guard = Guard(["10.0.0.0/8", "::1/128"])

    assert guard.admits("10.9.9.9")
    assert guard.admits("::ffff:10.9.9.9")
    assert guard.admits("::1")
    assert not guard.admits("127.0.0.1")
    assert not guard.admits("192.168.0.1")


def test_a_network_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        Guard(["10.0.0.0/99"])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "app.localhost",
        "169.254.169.254",
    ],
)
def test_no_spelling_of_an_inner_address_can_be_saved(host: str) -> None:
    with pytest.raises(BlockedAddress) as caught:
        check_url(f"http://{host}/hook")

    assert "127" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://example.com@127.0.0.1/",
        "http://exa mple.com/",
        "http://example.com/a b",
        "http://example.com/\r\nHost: inner",
        "http://example.com/\0",
        "http://example.com\\@127.0.0.1/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:http/",
        "http://%31%32%37.0.0.1/",
        "http://-a-.com/",
        "http://a..b/",
        "http://256.256.256.256/",
        "http://1.2.3.4.5/",
        "http://0xzz/".replace("zz", "100000000"),
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[1.2.3.4]/",
        "http://xn--\u00e4/",
        "http://example.com/" + "a" * 5000,
        "http://example.com/\ud800",
    ],
)
def test_a_url_that_is_not_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ, the kind does not
        check_url(url, ["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize(
    ("url", "spelled"),
    [
        ("https://example.com", "https://example.com:443/"),
        ("HTTPS://Example.COM/Hook?A=1#part", "https://example.com:443/Hook?A=1"),
        ("http://bücher.example/ä?q=ö", "http://xn--bcher-kva.example:80/%C3%A4?q=%C3%B6"),
        ("http://example.com:8080/a%20b?x=[1]&y=a/b", "http://example.com:8080/a%20b?x=[1]&y=a/b"),
        ("http://[2606:4700:0::1111]/", "http://[2606:4700::1111]:80/"),
        ("http://my_host.internal./", "http://my_host.internal:80/"),
        ("http://134744072/", "http://8.8.8.8:80/"),
    ],
)
def test_a_url_is_brought_into_one_spelling(url: str, spelled: str) -> None:
    assert parse_url(url).url == spelled
    check_url(url)


def test_one_bad_answer_of_a_name_refuses_it_when_it_is_saved() -> None:
    with pytest.raises(BlockedAddress):
        check_url("https://mixed.example/", resolver=lambda _host, _port: ["8.8.8.8", "10.0.0.1"])
    check_url("https://fine.example/", resolver=lambda _host, _port: ["8.8.8.8", "1.1.1.1"])


def test_a_name_without_an_answer_yet_can_be_saved() -> None:
    def nothing(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    check_url("https://soon.example/", resolver=nothing)


@given(st.text(max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/", f"http://[{text}]/"):
        try:
            target = parse_url(url)
        except ValueError:
            continue
        assert target.url.isascii()
        assert not set(target.url) & set(" \r\n\t\0\\")


@given(
    st.integers(min_value=0x7F000000, max_value=0x7FFFFFFF), st.sampled_from(["dec", "hex", "oct", "short", "mapped"])
)
def test_loopback_is_known_in_every_base(number: int, form: str) -> None:
    dotted = ipaddress.IPv4Address(number)
    spelled = {
        "dec": str(number),
        "hex": hex(number),
        "oct": f"0{number:o}",
        "short": f"127.{number & 0xFFFFFF}",
        "mapped": f"[::ffff:{dotted}]",
    }[form]

    with pytest.raises(BlockedAddress):
        check_url(f"http://{spelled}/")
