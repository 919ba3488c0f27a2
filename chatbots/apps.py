from corsheaders.signals import check_request_enabled
from django.apps import AppConfig
from django.contrib import admin


class ChatbotsConfig(AppConfig):
    name = "chatbots"
    verbose_name = "Chatbots"

    def ready(self) -> None:
        from chatbots.guards.cors import answer_may_be_read

        check_request_enabled.connect(answer_may_be_read)
        admin.site.index_template = "admin/chatbots/dashboard.html"
