"""Folded texts, and what searches them quickly: logs/search_index.py."""

from django.db import migrations

from logs import search_index
from logs.folding import FoldedField


def make(apps, schema_editor):
    for searched in search_index.SEARCHED:
        for _ in search_index.fold_anew(searched, apps):
            pass
    search_index.make(schema_editor.connection)


def remove(apps, schema_editor):
    search_index.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("logs", "0004_redactions")]
    operations = [
        migrations.AddField("message", "folded", FoldedField(of=("content",))),
        migrations.AddField(
            "conversation",
            "external_folded",
            FoldedField(of=("external_name", "external_email", "external_user_id")),
        ),
        migrations.RunPython(make, remove),
    ]
