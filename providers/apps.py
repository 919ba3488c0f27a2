from django.apps import AppConfig


class ProvidersConfig(AppConfig):
    name = "providers"
    verbose_name = "Providers"

    def ready(self) -> None:
        from logs.provider_names import PROVIDER_NAMES
        from providers.registry import PROVIDERS

        PROVIDER_NAMES.update((slug, provider.label) for slug, provider in PROVIDERS.items())
