from corsheaders.signals import check_request_enabled
from django.apps import AppConfig


class ChatbotsConfig(AppConfig):
    name = "chatbots"
    verbose_name = "Chatbots"

    def ready(self) -> None:
        from chatbots.cors import answer_may_be_read

        check_request_enabled.connect(answer_may_be_read)
