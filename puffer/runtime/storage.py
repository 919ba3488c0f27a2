"""Check the free space of the database, so that no model call is paid for whose result cannot be stored."""

import shutil
import sqlite3
import time
from pathlib import Path

import psycopg
from django.conf import settings

CHECK_AGAIN_SECONDS = 1.0
REFUSE_SECONDS = 10.0  # after a write that failed because the disk is full

_checked_at = _refuse_until = 0.0
_has_space = True


def is_disk_full(error: BaseException) -> bool:
    """Return whether a statement failed because its disk is full. Remember that for is_storage_full()."""
    global _refuse_until
    cause = error.__cause__ or error
    is_full = isinstance(cause, psycopg.errors.DiskFull) or (
        isinstance(cause, sqlite3.OperationalError)
        and getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    )
    if is_full:
        _refuse_until = time.monotonic() + REFUSE_SECONDS
    return is_full


def is_storage_full() -> bool:
    """Return whether SQLite's disk has less than MIN_FREE_BYTES left, or a write has failed for lack of space."""
    return time.monotonic() < _refuse_until or not _sqlite_has_space()


def _sqlite_has_space() -> bool:
    global _checked_at, _has_space
    database = settings.DATABASES["default"]
    if not database["ENGINE"].endswith("sqlite3"):
        return True
    if time.monotonic() - _checked_at > CHECK_AGAIN_SECONDS:
        _checked_at = time.monotonic()
        folder = Path(database["NAME"]).parent
        # A database in memory has no folder.
        _has_space = not folder.is_dir() or shutil.disk_usage(folder).free >= settings.MIN_FREE_BYTES
    return _has_space
