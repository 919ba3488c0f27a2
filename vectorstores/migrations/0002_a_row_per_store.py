from django.db import migrations

SLUGS = ["pinecone", "qdrant", "chroma"]


def create_rows(apps, schema_editor):
    StoreConfig = apps.get_model("vectorstores", "StoreConfig")
    for slug in SLUGS:
        StoreConfig.objects.get_or_create(slug=slug)


class Migration(migrations.Migration):
    dependencies = [("vectorstores", "0001_initial")]
    operations = [migrations.RunPython(create_rows, migrations.RunPython.noop)]
