"""Encryption of secrets, roles, sign-in and the second factor."""

from puffer.security.encryption import EncryptedTextField

__all__ = [
    "EncryptedTextField",
]
