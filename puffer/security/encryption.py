"""Secrets at rest: a text field whose column holds a Fernet token."""

import base64
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...], secret_key: str) -> MultiFernet:
    derived = HKDF(SHA256(), length=32, salt=None, info=b"puffer secrets at rest").derive(secret_key.encode())
    # The derived key comes last: it still decrypts secrets that were saved before PUFFER_ENCRYPTION_KEYS was set.
    return MultiFernet([*(Fernet(key) for key in keys), Fernet(base64.urlsafe_b64encode(derived))])


def fernet() -> MultiFernet:
    """Return a cipher that encrypts with the newest of PUFFER_ENCRYPTION_KEYS and decrypts with any.

    Without such keys, one derived from SECRET_KEY is used.
    """
    return _fernet(tuple(settings.PUFFER_ENCRYPTION_KEYS), settings.SECRET_KEY)


class UnreadableSecret(str):
    """A secret that no key decrypts: an empty string, so it counts as not configured, and is saved again unchanged."""

    token: str

    @classmethod
    def of(cls, token: str) -> "UnreadableSecret":
        secret = cls()
        secret.token = token
        return secret


class EncryptedTextField(models.TextField):
    """Text that is plain in Python and a Fernet token in the database. It cannot be searched."""

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, UnreadableSecret):
            return value.token
        value = super().get_prep_value(value)
        return fernet().encrypt(value.encode()).decode() if value else value

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        if not value:
            return value
        try:
            return fernet().decrypt(value.encode()).decode()
        except InvalidToken:
            return UnreadableSecret.of(value)


def rotated(token: str) -> str:
    """Return the token encrypted with the newest key. Raise InvalidToken if no key decrypts it."""
    return fernet().rotate(token.encode()).decode()
