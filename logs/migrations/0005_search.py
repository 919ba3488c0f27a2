"""Folded texts: logs/folding.py."""

from django.db import migrations

from logs import search_index
from logs.folding import FoldedField


def fold(apps, schema_editor):
    for searched in search_index.SEARCHED:
        for _ in search_index.fold_anew(searched, apps):
            pass


class Migration(migrations.Migration):
    dependencies = [("logs", "0004_redactions")]
    operations = [
        migrations.AddField("message", "folded", FoldedField(of=("content",))),
        migrations.AddField(
            "conversation",
            "external_folded",
            FoldedField(of=("external_name", "external_email", "external_user_id")),
        ),
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
