import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """The last runs go: they do not say with which settings, and the questions can be asked again."""

    dependencies = [
        ("chatbots", "0006_unanswered_questions"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.DeleteModel("GoldenResult"),
        migrations.DeleteModel("GoldenRun"),
        migrations.CreateModel(
            name="GoldenRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "waiting"), ("done", "done"), ("dead", "given up")],
                        default="waiting",
                        editable=False,
                        max_length=8,
                    ),
                ),
                ("due_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "lease",
                    models.CharField(
                        blank=True, editable=False, help_text="Whoever holds it knows this token.", max_length=32
                    ),
                ),
                ("leased_until", models.DateTimeField(editable=False, null=True)),
                (
                    "attempts",
                    models.PositiveIntegerField(
                        default=0, editable=False, help_text="Also those whose process was killed."
                    ),
                ),
                ("last_error", models.TextField(blank=True, editable=False)),
                ("ended_at", models.DateTimeField(editable=False, null=True)),
                (
                    "settings",
                    models.JSONField(
                        help_text="The chatbot's, as they answer the questions; they need not be saved there."
                    ),
                ),
                (
                    "is_before_publishing",
                    models.BooleanField(
                        default=False, help_text="Until somebody decides on it: the settings are to be published."
                    ),
                ),
                (
                    "chatbot",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="golden_run", to="chatbots.chatbot"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "abstract": False,
                "indexes": [models.Index(fields=["state", "due_at"], name="chatbots_goldenrun_due")],
            },
        ),
        migrations.CreateModel(
            name="GoldenResult",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("question", models.TextField()),
                ("expected_facts", models.TextField(blank=True)),
                ("expected_source", models.TextField(blank=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("missing", models.TextField(blank=True, help_text="What was expected and did not come.")),
                ("answer", models.TextField(blank=True)),
                ("error", models.TextField(blank=True)),
                (
                    "sources",
                    models.JSONField(
                        default=list, help_text="Title and score of each passage that the model got to see."
                    ),
                ),
                ("model", models.CharField(blank=True, max_length=200)),
                ("usage", models.JSONField(null=True)),
                (
                    "cost",
                    models.DecimalField(
                        decimal_places=8, help_text="US dollars; null: unknown.", max_digits=14, null=True
                    ),
                ),
                ("milliseconds", models.PositiveIntegerField(default=0)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="results", to="chatbots.goldenrun"
                    ),
                ),
            ],
            options={"ordering": ["id"]},
        ),
    ]
