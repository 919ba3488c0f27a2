"""The admin pages of collections, documents and stores."""

import html
import re

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from tests.support.stores.place import KEYS
from vectorstores.models import Collection, Document

SECRET = KEYS["qdrant"]


NASTY = "<script>alert(1)</script>"


RETURNS = {
    "id": "returns",
    "content": "Shoes may be returned within 45 days.",
    "metadata": {"title": "Returns", "url": "https://shop.example/returns"},
}


OPENING = {"id": "opening", "content": "We open at nine.", "metadata": {"title": "Opening hours"}}


EVIL = {"id": "evil", "content": f"Shoes returned {NASTY}", "metadata": {"title": "x", "url": "javascript:alert(1)"}}


def sign_in(client, *permissions: str):
    """Sign the client in as a user with only these permissions, and return it."""
    user = get_user_model().objects.create_user("colleague", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def page_of(row, page: str = "change") -> str:
    return reverse(f"admin:vectorstores_{row._meta.model_name}_{page}", args=[row.pk])


def list_of(model: str) -> str:
    return reverse(f"admin:vectorstores_{model}_changelist")


def text_of(response) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text)))


def try_question(client, collection: Collection, question: str = "How many days may shoes be returned?", **changes):
    deletions = {"question": question, "top_k": "5", "threshold": "10", **changes}
    return client.post(page_of(collection, "try_question"), deletions)


def choose_deletion(client, *documents: Document, model: str = "document", **more):
    chosen = {"action": "delete_selected", "_selected_action": [document.pk for document in documents]}
    return client.post(list_of(model), {**chosen, **more}, follow=True)
