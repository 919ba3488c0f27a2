from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.db.models.signals import post_migrate


class ProvidersConfig(AppConfig):
    name = "providers"
    verbose_name = "Providers"

    def ready(self) -> None:
        from logs.usage import PROVIDER_NAMES
        from providers.registry import PROVIDERS

        PROVIDER_NAMES.update((slug, provider.label) for slug, provider in PROVIDERS.items())
        post_migrate.connect(create_rows, sender=self)


def create_rows(using: str, apps: Any = installed_apps, **options: Any) -> None:  # flush sends no `apps`
    """Create the settings row of each provider that has none yet: the admin has no page to add one."""
    from providers.registry import PROVIDERS

    try:
        rows = apps.get_model("providers", "ProviderConfig").objects.using(using)
    except LookupError:  # only other apps have been migrated
        return
    for slug in PROVIDERS:
        rows.get_or_create(slug=slug)
