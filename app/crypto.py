"""Secrets at rest, and the digests that stand for credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


class VaultError(Exception):
    """A secret cannot be read with this SECRET_KEY."""


class Vault:
    """Encrypts secrets with a key made from SECRET_KEY (Fernet: AES-128-CBC and HMAC-SHA256)."""

    def __init__(self, secret_key: str) -> None:
        digest = hashlib.blake2b(secret_key.encode(), digest_size=32, person=b"tidings-vault").digest()
        fernet = Fernet(base64.urlsafe_b64encode(digest))
        self._encrypt = fernet.encrypt
        self._decrypt = lru_cache(maxsize=4096)(fernet.decrypt)
        self._marking = hashlib.blake2b(secret_key.encode(), digest_size=32, person=b"tidings-marks").digest()

    def seal(self, secret: str) -> str:
        """The secret, encrypted."""
        return self._encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret again. VaultError if it was sealed with another key."""
        try:
            return self._decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise VaultError("a stored secret cannot be read: SECRET_KEY is not the one it was sealed with") from None

    def fingerprint(self, *parts: str) -> str:
        """A keyed hash (HMAC-SHA256) of some texts: without the key nobody can try out which texts they were."""
        said = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._marking, said.encode(), hashlib.sha256).hexdigest()


def digest_of(credential: str) -> str:
    """What is kept of an API key. Keys are long and random, so a plain SHA-256 cannot be guessed back."""
    return hashlib.sha256(credential.encode()).hexdigest()


def random_text(length: int) -> str:
    """Random letters and digits that cannot be mistaken for one another (5.8 bits each)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
