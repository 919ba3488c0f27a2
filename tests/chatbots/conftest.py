"""What tests of chatbots share: a provider that answers and embeds, a collection, a user of the admin, widget pages."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from tests.support.browser import open_admin, pages
from tests.support.installation import Server
from tests.support.providers import CHAT_COMPLETION
from tests.support.upstream import Upstream, answering, embedding, running
from tests.support.widget_pages import COMPLETIONS, Site, Visits, says, widget_site


@pytest.fixture
def openai(upstream):
    upstream.pages["/v1/embeddings"] = embedding()
    upstream.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION)
    return upstream


@pytest.fixture
def store(api, openai):
    """Put texts into a collection through the API."""

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
    """Return a client that is signed in as a user with these permissions on chatbots."""

    def with_permissions(*names: str):
        user = django_user_model.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=[f"{name}_chatbot" for name in names]))
        client.force_login(user)
        return client

    return with_permissions


# In a browser


@pytest.fixture
def sign_in(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open a page of the admin as a user. None of them may fail."""
    with pages(browser) as new_page:

        def open_as(user: str, path: str = "/admin/chatbots/chatbot/1/change/", **options: Any) -> Any:
            page = new_page(**options)
            open_admin(page, server, user, path)
            return page

        yield open_as


@pytest.fixture(scope="module")
def host() -> Iterator[Upstream]:
    """The web site that embeds the widget."""
    with running() as host:
        yield host


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, host: Upstream) -> Iterator[Site]:
    with widget_site(tmp_path_factory.mktemp("widget"), host) as site:
        yield site


@pytest.fixture
def model(site: Site) -> Upstream:
    """The provider behind every chatbot."""
    site.server.upstream.client_hung_up.clear()
    site.server.upstream.pages[COMPLETIONS] = says("Yes, we **do** sell shoes.")
    return site.server.upstream


@pytest.fixture
def visit(browser: Any, site: Site, host: Upstream, model: Upstream) -> Iterator[Visits]:
    """Open pages of the host. On none of them may a script fail or a request go to a third party."""
    visits = Visits(browser, site, host)
    yield visits
    visits.end()
    assert visits.errors == []
    assert visits.strays() == set()
