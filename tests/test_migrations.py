"""Migrations that servers of the release before survive: while several machines are upgraded, both run on one schema.

Expand: a new column is nullable, or the database has a default for it. Contract: a column or table is dropped by a
release after the one whose code no longer uses it. See docs/deployment.md.
"""

from collections.abc import Iterator

import pytest
from django.db import models
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterField,
    AlterModelTable,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

APPS = {"puffer", "logs", "providers", "vectorstores", "chatbots"}


def accepts_rows_without(field: models.Field) -> bool:
    return field.many_to_many or field.null or field.has_db_default()


def problems(operations: list[Operation], state: ProjectState, app: str) -> Iterator[str]:
    """Yield what would break code that knows only the tables of `state`, which is brought up to date."""
    for operation in operations:
        match operation:
            case SeparateDatabaseAndState():
                yield from problems(operation.database_operations, state.clone(), app)
            case AddField() | AlterField():
                before = state.models[app, operation.model_name_lower].fields.get(operation.name)
                was_optional = before is None or accepts_rows_without(before)
                if was_optional and not accepts_rows_without(operation.field):
                    yield f"{operation.name} must be nullable or have a db_default"
            case RemoveField() | DeleteModel() | RenameField() | RenameModel() | AlterModelTable():
                yield f"{operation.describe()}: old code still uses it"
        operation.state_forwards(app, state)


def test_old_code_works_on_the_schema_of_each_migration():
    loader = MigrationLoader(None)
    later = [key for key in loader.disk_migrations if key[0] in APPS and key[1] != "0001_initial"]
    found = {}
    for key in sorted(later):
        migration: Migration = loader.disk_migrations[key]
        state = loader.project_state([parent.key for parent in loader.graph.node_map[key].parents])
        found[key] = list(problems(migration.operations, state, key[0]))
    assert {key: value for key, value in found.items() if value} == {}


OPERATIONS = {
    "nullable": (AddField("bot", "color", models.TextField(null=True)), True),
    "default in Python only": (AddField("bot", "color", models.TextField(default="")), False),
    "default of the database": (AddField("bot", "color", models.TextField(default="", db_default="")), True),
    "no longer nullable": (AlterField("bot", "size", models.IntegerField(default=1)), False),
    "longer": (AlterField("bot", "name", models.CharField(max_length=200)), True),
    "removed": (RemoveField("bot", "size"), False),
    "removed from the code only": (SeparateDatabaseAndState(state_operations=[RemoveField("bot", "size")]), True),
    "removed later": (SeparateDatabaseAndState(database_operations=[RemoveField("bot", "size")]), False),
    "renamed": (RenameField("bot", "name", "title"), False),
    "deleted": (DeleteModel("bot"), False),
    "new table": (CreateModel("Color", [("id", models.AutoField(primary_key=True))]), True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_old_code_survives(name):
    operation, is_fine = OPERATIONS[name]
    state = ProjectState()
    columns = [("name", models.CharField(max_length=100)), ("size", models.IntegerField(null=True))]
    CreateModel("Bot", [("id", models.AutoField(primary_key=True)), *columns]).state_forwards("shop", state)
    assert (list(problems([operation], state, "shop")) == []) is is_fine
