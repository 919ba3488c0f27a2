from django.db import migrations
from django.utils import timezone


def write_first_versions(apps, schema_editor):
    # What changes later is told by comparing it with these.
    Chatbot = apps.get_model("chatbots", "Chatbot")
    Version = apps.get_model("chatbots", "HistoricalChatbot")
    kept = [field.attname for field in Chatbot._meta.concrete_fields if hasattr(Version, field.attname)]
    now = timezone.now()
    for bot in Chatbot.objects.all():
        settings = {name: getattr(bot, name) for name in kept}
        reason = "As it was when versions began to be kept."
        Version.objects.create(**settings, history_type="+", history_date=now, history_change_reason=reason)


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0004_history_and_golden_questions")]
    operations = [migrations.RunPython(write_first_versions, migrations.RunPython.noop)]
