from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_migrate


class PufferConfig(AppConfig):
    name = "puffer"
    verbose_name = "Access"

    def ready(self) -> None:
        from puffer.security import checks  # noqa: F401 - registers them
        from puffer.security.own_sessions import record_sign_in
        from puffer.security.roles import grant

        user_logged_in.connect(record_sign_in, dispatch_uid="puffer.security.own_sessions")
        post_migrate.connect(
            grant, dispatch_uid="puffer.security.roles"
        )  # after auth's own receiver, which creates the permissions
