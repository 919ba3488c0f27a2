from django.db import migrations

SLUGS = ["openai", "azure", "google", "openrouter", "claude", "deepseek", "xai", "ollama", "local"]


def create_rows(apps, schema_editor):
    ProviderConfig = apps.get_model("providers", "ProviderConfig")
    for slug in SLUGS:
        ProviderConfig.objects.get_or_create(slug=slug)


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial")]
    operations = [migrations.RunPython(create_rows, migrations.RunPython.noop)]
