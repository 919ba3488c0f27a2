"""Who may open what: every URL of the server is in this table, and each answers strangers as it says."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls import reverse as url_of
from django.utils import timezone

from chatbots.guards import sessions
from chatbots.models import Chatbot
from puffer.api import ApiKeyAuthentication, HasScope
from puffer.api.routes import api_views
from puffer.models import ApiKey, Scope
from tests.support.api import Api

PUBLIC = {
    "": 302,  # leads to the admin
    "api/schema/": 200,
    "api/docs/": 200,
    "media/images/<str:name>": 404,  # the unguessable name is the protection
    "embed.js": 200,
    "widget/<str:version>/<str:name>": 404,  # but for the widget's script and styles
    "chat/<int:bot_id>/": 404,  # unless the chatbot's owner has switched it on
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
# Called by the widget, from pages of the sites that the chatbot allows; what a visitor without a token gets.
WIDGET = {
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/embed-config": ("GET", 200),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/session": ("POST", 200),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/consent": ("POST", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/stream": ("POST", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/history": ("GET", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/conversations": ("GET", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/feedback": ("POST", 401),
}
SHOP = "https://shop.example"
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
    assert found == set(PUBLIC) | set(NEEDS_KEY) | set(WIDGET)


def path_of(route, bot_id=1):
    examples = {"<str:name>": "x" * 32 + ".png", "<int:bot_id>": str(bot_id), "<str:version>": "1"}
    path = "/" + route.replace("^wp-json(?:/.*)?$", "wp-json/x")
    for part, example in examples.items():
        path = path.replace(part, example)
    return path


@pytest.mark.parametrize(("route", "status"), PUBLIC.items())
def test_what_is_public(client, db, route, status):
    assert client.get(path_of(route)).status_code == status


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(name="Shop", provider="openai", model="m", embed_allowed_domains=["shop.example"])


@pytest.fixture
def callers(bot):
    """Everybody who might try, as the headers that they send: holders of keys, a visitor, users of the admin."""
    other = Chatbot.objects.create(name="Other")
    everything = list(Scope.values)

    def key(name, **fields):
        row = ApiKey(name=name, **({"scopes": everything} | fields))
        text = row.issue()
        return row, {"Authorization": f"Bearer {text}"}

    revoked, revoked_headers = key("revoked")
    revoked.revoke()
    bound, bound_headers = key("bound", is_bound=True)
    bound.chatbots.add(other)
    token = sessions.issue(bot, sessions.new_session(SHOP))
    return {
        "nobody": {},
        "wrong key": {"Authorization": "Bearer puf_wrong"},
        "full key": key("full")[1],
        "expired key": key("expired", expires_on=timezone.localdate() - timedelta(days=1))[1],
        "revoked key": revoked_headers,
        "key of another bot": bound_headers,
        "visitor": {"Authorization": f"Visitor {token}"},
        "viewer": session_of("viewer", "view"),
        "editor": session_of("editor", "view", "add", "change", "delete"),
    }


def session_of(name, *actions):
    """The cookie of a user of the admin who may do this with everything."""
    user = get_user_model().objects.create_user(name, is_staff=True)
    for action in actions:
        user.user_permissions.add(*Permission.objects.filter(codename__startswith=f"{action}_"))
    client = Client()
    client.force_login(user)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


@pytest.mark.parametrize(("route", "method_and_scope"), NEEDS_KEY.items())
def test_what_needs_a_key_with_its_scope(bot, callers, route, method_and_scope):
    method, scope = method_and_scope
    narrow = ApiKey(name="narrow", scopes=[other for other in Scope.values if other != scope]).issue()
    callers["wrong scope"] = {"Authorization": f"Bearer {narrow}"}
    passed = 200 if method == "GET" else 400  # for a call without any parameter
    expected = dict.fromkeys(callers, 401) | {"full key": passed, "wrong scope": 403, "key of another bot": passed}
    body = {"messages": [{"role": "user", "content": "Hi"}]} if "<int:bot_id>" in route else {}
    if body:  # the chatbot is looked at last
        expected |= {"full key": 503, "key of another bot": 403}
    assert statuses(method, path_of(route, bot.pk), callers, json=body) == expected


@pytest.mark.parametrize(("route", "method_and_status"), WIDGET.items())
def test_what_the_widget_calls(bot, callers, route, method_and_status):
    """An API key or a session of the admin is worth nothing here, and a visitor's token nothing on another site."""
    method, status = method_and_status
    path = path_of(route, bot.pk)
    passed = 400 if path.endswith(("stream", "history", "feedback")) else 200  # for a call without any parameter
    expected = dict.fromkeys(callers, status) | {"visitor": passed}
    origins = {SHOP: expected, "https://evil.example": dict.fromkeys(callers, 403)}
    for origin, codes in origins.items():
        assert statuses(method, path, callers, json={}, headers={"Origin": origin}) == codes, origin
    stranger = path_of(route, Chatbot.objects.get(name="Other").pk)
    refused = dict.fromkeys(callers, 403)
    assert statuses(method, stranger, callers, json={}, headers={"Origin": SHOP}) == refused


def statuses(method, path, callers, headers=None, **options):
    options = {} if method == "GET" else options
    return {
        caller: Api("").request(method, path, key=None, headers={**(headers or {}), **own}, **options).status_code
        for caller, own in callers.items()
    }


def test_every_view_of_the_api_names_its_scope_or_is_public():
    for path, view in api_views(get_resolver().url_patterns):
        route = re.sub(r"\(\?P<(\w+)>\\d\+\)", r"<int:\1>", f"wp-json{path}")
        is_public = route in PUBLIC or route in WIDGET
        assert view.authentication_classes == ([] if is_public else [ApiKeyAuthentication]), path
        assert view.permission_classes == ([] if is_public else [HasScope]), path
        assert view.required_scope == (None if is_public else NEEDS_KEY[route][1]), path


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
