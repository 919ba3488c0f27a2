"""Who may open what: every URL of the server is in this table, and each answers strangers as it says."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls import reverse as url_of

from puffer.api.routes import api_views
from puffer.models import ApiKey, Scope
from tests.conftest import Api

PUBLIC = {
    "": 302,  # leads to the admin
    "api/schema/": 200,
    "api/docs/": 200,
    "health/live": 200,
    "health/ready": 200,
    "media/images/<str:name>": 404,  # the unguessable name is the protection
    "wp-json/aipkit/v1": 200,
    "^wp-json(?:/.*)?$": 404,
}
NEEDS_KEY = {
    "wp-json/aipkit/v1/generate": ("POST", Scope.GENERATE),
    "wp-json/aipkit/v1/images/generate": ("POST", Scope.IMAGES),
    "wp-json/aipkit/v1/embeddings": ("POST", Scope.EMBEDDINGS),
    "wp-json/aipkit/v1/chat/<int:bot_id>/message": ("POST", Scope.CHAT),
    "wp-json/aipkit/v1/logs": ("GET", Scope.LOGS),
    "wp-json/aipkit/v1/vector-stores/upsert": ("POST", Scope.VECTORS),
}
ADMIN_FOR_ALL = {"admin:login", "admin:logout", "admin:jsi18n"}  # as Django has them


def routes(patterns, prefix="", namespace=""):
    """(route, URL name) of every URL."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route, f"{pattern.namespace}:" if pattern.namespace else namespace)
        elif isinstance(pattern, URLPattern):
            yield route, f"{namespace}{pattern.name}"


def test_every_url_is_in_the_table():
    found = {route for route, _ in routes(get_resolver().url_patterns) if not route.startswith("admin/")}
    assert found == set(PUBLIC) | set(NEEDS_KEY)


@pytest.mark.parametrize(("route", "status"), PUBLIC.items())
def test_what_is_public(client, db, route, status):
    path = "/" + route.replace("<str:name>", "x" * 32 + ".png").replace("^wp-json(?:/.*)?$", "wp-json/x")
    assert client.get(path).status_code == status


@pytest.mark.parametrize(("route", "method_and_scope"), NEEDS_KEY.items())
def test_what_needs_a_key_with_its_scope(db, route, method_and_scope):
    method, scope = method_and_scope
    path = "/" + route.replace("<int:bot_id>", "1")
    none = Api(ApiKey(name="none", scopes=[other for other in Scope.values if other != scope]).issue())
    assert none.request(method, path, key=None).status_code == 401
    assert none.request(method, path, key="puf_wrong").status_code == 401
    assert none.request(method, path).status_code == 403


def test_every_view_of_the_api_names_its_scope_or_is_public():
    for path, view in api_views(get_resolver().url_patterns):
        route = re.sub(r"\(\?P<(\w+)>\\d\+\)", r"<int:\1>", f"wp-json{path}")
        assert (view.scope is None) == (route in PUBLIC), path


def test_no_page_of_the_admin_opens_for_strangers(db):
    """Neither for somebody without an account nor for one who is no staff."""
    visitor = Client()
    visitor.force_login(get_user_model().objects.create_user("visitor"))
    opened = []
    for _, name in routes(get_resolver().url_patterns):
        if not name.startswith("admin:") or name in ADMIN_FOR_ALL:
            continue
        for arguments in ([], ["1"], ["1", "1"], ["auth"]):
            try:
                path = url_of(name, args=arguments)
            except Exception:
                continue
            for client in (Client(), visitor):
                for method in (client.get, client.post):
                    response = method(path)
                    leads_to_login = "/login/" in response.get("Location", "/login/")
                    if response.status_code not in (302, 403, 404) or not leads_to_login:
                        opened.append((path, response.status_code))
    assert not opened
