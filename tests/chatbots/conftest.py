"""Fixtures for the chatbot tests: a provider that answers and embeds, a collection, an admin user, widget pages."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from tests.support.installation import Server
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import Upstream, answering, embedding, running
from tests.support.widget.browser import open_admin, pages
from tests.support.widget.pages import COMPLETIONS, Site, Visits, says, widget_site


@pytest.fixture
def openai(upstream):
    upstream.pages["/v1/embeddings"] = embedding()
    upstream.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION)
    return upstream


@pytest.fixture
def store(api, openai):
    """Return a function that upserts texts into a collection through the API."""

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
    """Return a function that signs the client in as a user with the given permissions; "view" is view_chatbot."""

    def with_permissions(*names: str):
        user = django_user_model.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=[*names, *(f"{name}_chatbot" for name in names)])
        )
        client.force_login(user)
        return client

    return with_permissions


# Browser tests


@pytest.fixture
def sign_in(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Yield a function that opens an admin page as a user. A failing script or request on any page fails the test."""
    with pages(browser) as new_page:

        def open_as(user: str, path: str = "/admin/chatbots/chatbot/1/change/", **options: Any) -> Any:
            page = new_page(**options)
            open_admin(page, server, user, path)
            return page

        yield open_as


@pytest.fixture(scope="module")
def host() -> Iterator[Upstream]:
    """Yield the website that embeds the widget."""
    with running() as host:
        yield host


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, host: Upstream) -> Iterator[Site]:
    with widget_site(tmp_path_factory.mktemp("widget"), host) as site:
        yield site


@pytest.fixture
def model(site: Site) -> Upstream:
    """Return the provider that all chatbots of the site use."""
    site.server.upstream.client_hung_up.clear()
    site.server.upstream.pages[COMPLETIONS] = says("Yes, we **do** sell shoes.")
    return site.server.upstream


@pytest.fixture
def visit(browser: Any, site: Site, host: Upstream, model: Upstream) -> Iterator[Visits]:
    """Yield a function that opens pages of the host. A script error or a request to a third party fails the test."""
    visits = Visits(browser, site, host)
    yield visits
    visits.end()
    assert visits.errors == []
    assert visits.strays() == set()
