"""Which addresses and URLs the service may call when somebody else typed them in.

The lists are explicit: `ipaddress.is_global` admits NAT64 and 6to4 forms of loopback, multicast and cloud
metadata addresses. IPv4 is a deny list, IPv6 an allow list. An operator may admit networks by CIDR.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlsplit

import idna

Resolver = Callable[[str, int], list[str]]
"""(host name, port) -> literal addresses. Raises OSError when the name has none."""

MAX_URL = 4096  # characters

_DENIED_V4 = tuple(
    ipaddress.IPv4Network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_DENIED_V6 = tuple(ipaddress.IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_QUERY_SAFE = _PATH_SAFE + '?[]{}|^`"'


class BlockedAddress(ValueError):  # noqa: N818 - it reads as what happened, and callers know it by this name
    """The address lies where the service must not call. The text never names the address."""

    def __init__(self) -> None:
        super().__init__("this address is not allowed")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart and put together again in one spelling, ASCII only, without fragment.

    `literal` is true when `host` is an address and not a name.
    """

    url: str
    host: str
    port: int
    literal: bool


class Guard:
    """Judges addresses. `allow` are networks in CIDR notation that the operator admits besides the public ones."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        """Raises ValueError for a network that is not one."""
        self._allowed = tuple(ipaddress.ip_network(net, strict=False) for net in allow)
        self.admits = lru_cache(maxsize=4096)(self._admits)

    def _admits(self, address: str) -> bool:
        """True when the service may connect to this literal address."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        unwrapped = _unwrap(parsed)
        if any(candidate in net for candidate in (parsed, unwrapped) for net in self._allowed):
            return True
        if isinstance(unwrapped, ipaddress.IPv4Address):
            return not any(unwrapped in net for net in _DENIED_V4)
        return unwrapped in _GLOBAL_V6 and not any(unwrapped in net for net in _DENIED_V6)

    def check(self, addresses: Sequence[str]) -> None:
        """Raise BlockedAddress unless every one may be called: one bad answer of a name refuses all."""
        if not all(self.admits(address) for address in addresses):
            raise BlockedAddress


def check_url(url: str, allow: Sequence[str] = (), *, resolver: Resolver | None = None) -> None:
    """Refuse a URL that could never be called, when somebody saves it.

    `allow`: the operator's networks. `resolver`: also look the name up and judge every answer (a name without an
    answer passes: DNS may be late). Without it nothing touches the network. What is dialled later is judged again.
    Raises BlockedAddress (a ValueError) or ValueError with a text fit for the person who typed it.
    """
    target, guard = parse_url(url), Guard(allow)
    if target.literal:
        guard.check([target.host])
    elif target.host == "localhost" or target.host.endswith(".localhost"):
        guard.check(["127.0.0.1"])
    elif resolver is not None:
        try:
            addresses = resolver(target.host, target.port)
        except OSError:
            return
        guard.check(addresses)


@lru_cache(maxsize=4096)
def parse_url(url: str) -> Target:
    """Take a URL apart, strictly. Raises ValueError saying what is wrong with it."""
    if len(url) > MAX_URL:
        raise ValueError(f"the URL is longer than {MAX_URL} characters")
    if _FORBIDDEN.search(url):
        raise ValueError("the URL holds a space, a backslash or a control character")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("the URL must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold a user name or password")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    host, literal = _canonical_host(parts.hostname, bracketed="[" in parts.netloc)
    port = parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)
    if not 1 <= port <= 65535:
        raise ValueError("the port must be from 1 to 65535")
    shown = f"[{host}]" if ":" in host else host
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    query = "?" + quote(parts.query, safe=_QUERY_SAFE) if parts.query else ""
    return Target(f"{parts.scheme}://{shown}:{port}{path}{query}", host, port, literal)


def resolve(host: str, port: int) -> list[str]:
    """The system's resolver: every address of a name, in the order to try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _unwrap(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one really reaches, if it does (RFC 4291 mapped, RFC 6052 NAT64)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _canonical_host(host: str, *, bracketed: bool) -> tuple[str, bool]:
    """(host in one spelling, is it a literal address)."""
    if "%" in host:
        raise ValueError("the URL's host name is malformed")
    if bracketed:
        try:
            return str(ipaddress.IPv6Address(host)), True
        except ValueError:
            raise ValueError("the URL's IPv6 address is malformed") from None
    if not host.isascii():
        try:
            # Mapping first: full-width digits and dots spell addresses too.
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise ValueError("the URL's host name is malformed") from None
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError("the URL's host name is malformed")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _literal_v4(host), True
    return host, False


def _literal_v4(host: str) -> str:
    """127.1, 2130706433, 0x7f000001 and 0177.0.0.1 are all the same address to the C library, and so to us."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        raise ValueError("the URL's IPv4 address is malformed") from None
