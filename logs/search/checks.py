"""Create and check the tables, triggers and indexes of the search."""

from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import DEFAULT_DB_ALIAS, connection

from logs.search.tables import MESSAGES, SEARCHED, create, create_triggers, sqlite_triggers


def create_after_migrations(using: str, **options: Any) -> None:
    """Create the tables where they are missing, and the triggers that SQLite lost when a migration rebuilt a table."""
    tables = connection.introspection.table_names()
    if using != DEFAULT_DB_ALIAS or MESSAGES.table not in tables:
        return
    if "logs_searchstate" not in tables:
        create()
    elif connection.vendor == "sqlite":
        create_triggers()


def check_index(databases: Any = None, **options: Any) -> list[CheckMessage]:
    """Warn about missing parts, in `manage.py check --database default` and before migrations."""
    if not databases or "logs_searchstate" not in connection.introspection.table_names():
        return []
    missing = missing_triggers() if connection.vendor == "sqlite" else missing_indexes()
    if not missing:
        return []
    return [
        Warning(
            f"The search for conversations is slow or incomplete. Missing: {', '.join(missing)}.",
            hint="Run manage.py rebuild_search_index. On PostgreSQL, it needs the extension pg_trgm, which the "
            "administrator of the database enables with CREATE EXTENSION pg_trgm.",
            id="logs.W001",
        )
    ]


def missing_triggers() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        existing = {name for (name,) in cursor.fetchall()}
    return [name for searched in SEARCHED for name in sqlite_triggers(searched) if name not in existing]


def missing_indexes() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL",
            [[searched.index for searched in SEARCHED]],
        )
        return [name for (name,) in cursor.fetchall()]
