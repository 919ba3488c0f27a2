"""What tests of chatbots share: a provider that answers and embeds, a collection, somebody of the staff."""

import pytest
from django.contrib.auth.models import Permission

from tests.support.upstream import CHAT_COMPLETION, answering, embedding


@pytest.fixture
def openai(upstream):
    upstream.pages["/v1/embeddings"] = embedding()
    upstream.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION)
    return upstream


@pytest.fixture
def store(api, openai):
    """Puts texts into a collection, through the API."""

    def put(*items, target="shop"):
        call = {"provider": "local", "target_id": target, "vectors": list(items)}
        response = api.post(
            "/vector-stores/upsert", json={**call, "embedding_provider": "openai", "embedding_model": "emb-1"}
        )
        assert response.status_code == 200, response.text
        openai.sent.clear()

    return put


@pytest.fixture
def staff(client, django_user_model):
    """A client of somebody with these permissions on chatbots."""

    def with_permissions(*names: str):
        user = django_user_model.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=[f"{name}_chatbot" for name in names]))
        client.force_login(user)
        return client

    return with_permissions
