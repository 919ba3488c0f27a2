"""System checks of settings that decide about security. `manage.py check` and `serve` refuse to run with an error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from puffer.first_start import ENV_FILE

MIN_KEY_LENGTH = 20
MIN_DIFFERENT = 8  # different characters; "aaaaaaaaaaaaaaaaaaaa" has one
PRIVATE = 0o077  # the permission bits of other users
NEW_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
NEW_ENCRYPTION_KEY = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


@register(Tags.security)
def check_api_key(**_: Any) -> list[CheckMessage]:
    """Refuse a PUFFER_API_KEY that can be guessed or cannot be sent in a header."""
    key = settings.PUFFER_API_KEY.strip()
    if not key:
        return []
    if not (key.isascii() and key.isprintable() and " " not in key):
        return [Error("PUFFER_API_KEY contains blanks or characters that no header can carry.", id="puffer.E001")]
    if len(key) < MIN_KEY_LENGTH or len(set(key)) < MIN_DIFFERENT:
        message = (
            f"PUFFER_API_KEY is too easy to guess: it needs {MIN_KEY_LENGTH} characters, {MIN_DIFFERENT} different."
        )
        return [Error(message, hint=f"Make a new key with: {NEW_KEY}", id="puffer.E001")]
    return []


@register(Tags.security)
def check_encryption_keys(**_: Any) -> list[CheckMessage]:
    """Refuse a PUFFER_ENCRYPTION_KEYS entry that is not a Fernet key. The first saved secret would fail otherwise."""
    return [
        Error(
            f"Key {number} of PUFFER_ENCRYPTION_KEYS is not a valid Fernet key.",
            hint=f"Make one with: {NEW_ENCRYPTION_KEY}",
            id="puffer.E002",
        )
        for number, key in enumerate(settings.PUFFER_ENCRYPTION_KEYS, start=1)
        if not is_fernet_key(key)
    ]


def is_fernet_key(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


@register(Tags.security)
def check_private_files(**_: Any) -> list[CheckMessage]:
    """Warn about files with secrets or personal data that other users of the machine can read."""
    return [
        Warning(
            f"Other users of this machine can read {path}.",
            hint=f"Run: chmod {'700' if path.is_dir() else '600'} {path}",
            id="puffer.W001",
        )
        for path in private_paths()
        if path.exists() and path.stat().st_mode & PRIVATE
    ]


def private_paths() -> Iterator[Path]:
    """Yield puffer's own folder, which protects all files in it, and the files and folders that are kept elsewhere."""
    var = Path(settings.VAR_DIR)
    elsewhere = [ENV_FILE, Path(settings.MEDIA_ROOT)]
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        elsewhere.append(Path(database["NAME"]))
    yield var
    yield from (path for path in elsewhere if not path.is_relative_to(var))


@register(Tags.security)
def check_proxy_count(**_: Any) -> list[CheckMessage]:
    """Warn if PUBLIC_URL is https, which only a proxy can serve, and no proxy is trusted."""
    if not settings.PUBLIC_URL.startswith("https://") or settings.TRUSTED_PROXY_COUNT:
        return []
    return [
        Warning(
            "PUBLIC_URL is https, so a proxy serves it, but TRUSTED_PROXY_COUNT is 0: all visitors share the proxy's IP"
            " address, its limits, its bans and its lock-outs.",
            hint="Set TRUSTED_PROXY_COUNT to the number of proxies in front of this server, usually 1.",
            id="puffer.W002",
        )
    ]
