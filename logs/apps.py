from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class LogsConfig(AppConfig):
    name = "logs"
    verbose_name = _("Logs")

    def ready(self) -> None:
        """Refuse to start with an unknown kind of redaction, because a typo would leave personal data in the log."""
        from logs.conversations.redaction import REDACTION_KINDS
        from logs.search.checks import check_index, create_after_migrations

        if unknown := set(settings.REDACT) - REDACTION_KINDS.keys():
            known = ", ".join(REDACTION_KINDS)
            raise ImproperlyConfigured(
                f"PUFFER_REDACT contains unknown kinds: {', '.join(sorted(unknown))}. Use only: {known}."
            )
        checks.register(check_index, checks.Tags.database)
        post_migrate.connect(create_after_migrations, sender=self)
