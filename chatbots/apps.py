from corsheaders.signals import check_request_enabled
from django.apps import AppConfig
from django.contrib import admin
from django.utils.translation import gettext_lazy as _


class ChatbotsConfig(AppConfig):
    name = "chatbots"
    verbose_name = _("Chatbots")

    def ready(self) -> None:
        from chatbots.guards.cors import allow_reading

        check_request_enabled.connect(allow_reading)
        admin.site.index_template = "admin/chatbots/dashboard.html"
