"""Requests to the admin's chatbot pages with Django's test client."""

import html
import json
import re

from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from chatbots.models import Chatbot

LIST = "/admin/chatbots/chatbot/"
IMPORT = "/admin/chatbots/chatbot/import/"


def upload(client, content: object, **fields):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return client.post(IMPORT, {"file": SimpleUploadedFile("bots.json", data), **fields}, follow=True)


def text_of(page) -> str:
    return html.unescape(re.sub(r"\s+", " ", page.text))


def act(client, action: str, *bots: Chatbot):
    return client.post(LIST, {"action": action, "_selected_action": [bot.pk for bot in bots]}, follow=True)


def filled(page) -> dict[str, str]:
    """Return the form data that a browser would send if the form were submitted unchanged."""
    values = {field.html_name: field.value() for field in page.context["adminform"].form}
    submitted = {name: value for name, value in values.items() if value is not None and value is not False}
    return {name: "on" if value is True else value for name, value in submitted.items()}


def change_page(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_change", args=[bot.pk])
