"""Encryption of secrets, roles, sign-in, sessions, the second factor, and asking for the password again."""

from puffer.security.encryption import EncryptedTextField, UnreadableSecret

__all__ = [
    "EncryptedTextField",
    "UnreadableSecret",
]
