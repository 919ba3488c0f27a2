from django.apps import AppConfig


class PufferConfig(AppConfig):
    name = "puffer"
    verbose_name = "Access"
