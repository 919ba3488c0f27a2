from django.apps import AppConfig
from django.core import checks
from django.db.models.signals import post_migrate


class PufferConfig(AppConfig):
    name = "puffer"
    verbose_name = "Access"

    def ready(self) -> None:
        from puffer.net.proxy_check import check_proxy_count
        from puffer.security.roles import grant

        checks.register(check_proxy_count)
        post_migrate.connect(
            grant, dispatch_uid="puffer.security.roles"
        )  # after auth's own receiver, which creates the permissions
