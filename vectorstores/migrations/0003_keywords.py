"""The full-text index over LocalVector. On SQLite triggers keep it in step with the table, so whatever rebuilds the
table there (as Django does to change a column) must make them anew.
"""

from django.db import migrations

SQLITE = [
    """CREATE VIRTUAL TABLE vectorstores_keywords USING fts5(
        scope, title, headings, text,
        content='vectorstores_localvector', content_rowid='id', tokenize='porter unicode61'
    )""",
    """CREATE TRIGGER vectorstores_keywords_insert AFTER INSERT ON vectorstores_localvector BEGIN
        INSERT INTO vectorstores_keywords(rowid, scope, title, headings, text)
        VALUES (new.id, new.scope, new.title, new.headings, new.text);
    END""",
    """CREATE TRIGGER vectorstores_keywords_delete AFTER DELETE ON vectorstores_localvector BEGIN
        INSERT INTO vectorstores_keywords(vectorstores_keywords, rowid, scope, title, headings, text)
        VALUES ('delete', old.id, old.scope, old.title, old.headings, old.text);
    END""",
    """CREATE TRIGGER vectorstores_keywords_update
    AFTER UPDATE OF id, scope, title, headings, text ON vectorstores_localvector BEGIN
        INSERT INTO vectorstores_keywords(vectorstores_keywords, rowid, scope, title, headings, text)
        VALUES ('delete', old.id, old.scope, old.title, old.headings, old.text);
        INSERT INTO vectorstores_keywords(rowid, scope, title, headings, text)
        VALUES (new.id, new.scope, new.title, new.headings, new.text);
    END""",
]
NO_SQLITE = [
    "DROP TRIGGER vectorstores_keywords_insert",
    "DROP TRIGGER vectorstores_keywords_delete",
    "DROP TRIGGER vectorstores_keywords_update",
    "DROP TABLE vectorstores_keywords",
]
# A tsvector holds no more than 1 MB, and a row that needs a larger one could not be stored at all.
POSTGRESQL = [
    """ALTER TABLE vectorstores_localvector ADD COLUMN keywords tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', left(title, 10000)), 'A')
        || setweight(to_tsvector('english', left(headings, 10000)), 'B')
        || setweight(to_tsvector('english', left(text, 100000)), 'C')
    ) STORED""",
    "CREATE INDEX vectorstores_keywords ON vectorstores_localvector USING gin (keywords)",
]
NO_POSTGRESQL = ["ALTER TABLE vectorstores_localvector DROP COLUMN keywords"]


def make(apps, schema_editor):
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}.get(schema_editor.connection.vendor, []):
        schema_editor.execute(statement)


def remove(apps, schema_editor):
    for statement in {"sqlite": NO_SQLITE, "postgresql": NO_POSTGRESQL}.get(schema_editor.connection.vendor, []):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("vectorstores", "0002_a_row_per_store")]
    operations = [migrations.RunPython(make, remove)]
