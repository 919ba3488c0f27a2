"""What searches the folded texts quickly: logs/search_index.py."""

from django.db import migrations

from logs import search_index

# An index of single rows, which 0005 made at first.
OF_ROWS = {
    "sqlite": [
        *(
            f"DROP TRIGGER IF EXISTS {index}_{event}"
            for index in ("logs_messagesearch", "logs_visitorsearch")
            for event in ("advance", "insert", "delete", "update")
        ),
        *(
            f"DROP TABLE IF EXISTS {name}"
            for index in ("logs_messagesearch", "logs_visitorsearch")
            for name in (f"{index}_terms", index)
        ),
        "DROP TABLE IF EXISTS logs_searchstate",
    ],
    "postgresql": [
        "DROP FUNCTION IF EXISTS logs_search_changed() CASCADE",
        "DROP INDEX IF EXISTS logs_messagesearch, logs_visitorsearch",
        "DROP TABLE IF EXISTS logs_searchstate",
    ],
}


def make(apps, schema_editor):
    for statement in OF_ROWS[schema_editor.connection.vendor]:
        schema_editor.execute(statement)
    search_index.make(schema_editor.connection)


def remove(apps, schema_editor):
    search_index.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("logs", "0008_webhooks")]
    operations = [migrations.RunPython(make, remove)]
