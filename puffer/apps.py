from django.apps import AppConfig
from django.db.models.signals import post_migrate


class PufferConfig(AppConfig):
    name = "puffer"
    verbose_name = "Access"

    def ready(self) -> None:
        from puffer.security import checks  # noqa: F401 - registers them
        from puffer.security.roles import grant

        post_migrate.connect(
            grant, dispatch_uid="puffer.security.roles"
        )  # after auth's own receiver, which creates the permissions
