from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class LogsConfig(AppConfig):
    name = "logs"
    verbose_name = "Logs"

    def ready(self) -> None:
        """No start with a kind of redaction that is misspelled: what it means would be kept without a word."""
        from logs.redaction import KINDS

        if unknown := set(settings.REDACT) - KINDS.keys():
            raise ImproperlyConfigured(f"PUFFER_REDACT knows {', '.join(KINDS)}, but not {', '.join(sorted(unknown))}.")
