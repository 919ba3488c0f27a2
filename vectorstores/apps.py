from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class VectorStoresConfig(AppConfig):
    name = "vectorstores"
    verbose_name = _("Knowledge")

    def ready(self) -> None:
        post_migrate.connect(create_rows, sender=self)


def create_rows(using: str, apps: Any = installed_apps, **options: Any) -> None:  # flush sends no `apps`
    """Create the settings row of each store that has none yet: the admin has no page to add one."""
    from vectorstores.registry import STORES

    try:
        rows = apps.get_model("vectorstores", "StoreConfig").objects.using(using)
    except LookupError:  # this app is not migrated yet
        return
    for slug, store in STORES.items():
        if not store.in_database:
            rows.get_or_create(slug=slug)
