"""Email addresses as people write them, taken apart strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import idna

from providers.contract import PermanentError

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# RFC 5322 dot-atom, with letters beyond ASCII as RFC 6532 allows them.
_LOCAL = re.compile(r"[^\s()<>\[\]:;@\\,.\"]+(\.[^\s()<>\[\]:;@\\,.\"]+)*")
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox: `name` with single spaces, `local` as written, `domain` in its ASCII form (punycode), lower case."""

    name: str
    local: str
    domain: str

    @property
    def spec(self) -> str:
        """`local@domain`, as it goes into the envelope."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """True when only servers with SMTPUTF8 (RFC 6531) can carry it."""
        return not self.local.isascii()


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """`a@b`, `<a@b>`, `Name <a@b>` or `"Name, quoted" <a@b>`. Raises PermanentError(invalid_address)."""
    if _FORBIDDEN.search(text):
        raise _invalid("it holds a control character")
    name, spec = "", text.strip()
    if spec.endswith(">"):
        name, opened, spec = spec[:-1].rpartition("<")
        if not opened:
            raise _invalid("it has no <")
        name = " ".join(_unquoted(name.strip()).split())
    local, at, domain = spec.strip().rpartition("@")
    if not at:
        raise _invalid("it has no @")
    if not _LOCAL.fullmatch(local) or len(local.encode()) > 64:
        raise _invalid("the part before the @ is malformed")
    return Address(name, local, _ascii_domain(domain))


def _unquoted(name: str) -> str:
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return _ESCAPED.sub(r"\1", name[1:-1])
    return name


def _ascii_domain(domain: str) -> str:
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise _invalid("the domain is malformed") from None
    domain = domain.lower()
    if len(domain) > 253 or not _DOMAIN.fullmatch(domain) or any(len(label) > 63 for label in domain.split(".")):
        raise _invalid("the domain is malformed")
    return domain


def _invalid(why: str) -> PermanentError:
    # The text does not repeat the address: it may be read by others than the person it belongs to.
    return PermanentError("invalid_address", f"not an email address: {why}")
