from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_migrate


class LogsConfig(AppConfig):
    name = "logs"
    verbose_name = "Logs"

    def ready(self) -> None:
        """No start with a kind of redaction that is misspelled: what it means would be kept without a word."""
        from logs.conversations.redaction import KINDS
        from logs.search.checks import check_index, create_after_migrations

        if unknown := set(settings.REDACT) - KINDS.keys():
            raise ImproperlyConfigured(f"PUFFER_REDACT knows {', '.join(KINDS)}, but not {', '.join(sorted(unknown))}.")
        checks.register(check_index, checks.Tags.database)
        post_migrate.connect(create_after_migrations, sender=self)
