from django.apps import AppConfig


class VectorStoresConfig(AppConfig):
    name = "vectorstores"
    verbose_name = "Knowledge"
