"""Access control: every URL of the server is in a table here, with the status that each kind of caller gets."""

import re
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver
from django.urls import reverse as url_of
from django.utils import timezone

from chatbots.guards import sessions
from chatbots.models import Chatbot
from puffer import http
from puffer.api import ApiKeyAuthentication, HasScope
from puffer.api.routes import api_views
from puffer.models import ApiKey, Scope
from tests.support.api import BASE, Api

PUBLIC = {
    "": 302,  # redirects to the admin
    "api/schema/": 200,
    "api/docs/": 200,
    "media/images/<str:name>": 404,  # needs no login, because the name cannot be guessed
    "embed.js": 200,
    "widget/<str:version>/<str:name>": 404,  # except the widget's script and styles
    "chat/<int:bot_id>/": 404,  # until the chat page is enabled
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
# The widget calls these from the sites that the chatbot allows; the status is that of a visitor without a token.
WIDGET = {
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/embed-config": ("GET", 200),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/session": ("POST", 200),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/consent": ("POST", 401),  # 400 for a chatbot that asks for none
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/stream": ("POST", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/history": ("GET", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/conversations": ("GET", 401),
    "wp-json/aipkit/v1/chatbots/<int:bot_id>/feedback": ("POST", 401),
}
SHOP = "https://shop.example"
PUBLIC_ADMIN_URLS = {"admin:login", "admin:logout", "admin:jsi18n"}  # public in any Django admin


def routes(patterns, prefix="", namespace=""):
    """Yield the route and the name of every URL."""
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
def test_public_urls_open_without_credentials(client, db, route, status):
    assert client.get(path_of(route)).status_code == status


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(name="Shop", provider="openai", model="m", embed_allowed_domains=["shop.example"])


@pytest.fixture
def callers(bot):
    """Return the headers of each kind of caller: holders of API keys, a visitor, admin users."""
    other = Chatbot.objects.create(name="Other")
    all_scopes = list(Scope.values)

    def key(name, **fields):
        row = ApiKey(name=name, **({"scopes": all_scopes} | fields))
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
    """Create an admin user with these permissions on every model; return the headers of the user's session."""
    user = get_user_model().objects.create_user(name, is_staff=True)
    for action in actions:
        user.user_permissions.add(*Permission.objects.filter(codename__startswith=f"{action}_"))
    client = Client()
    client.force_login(user)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


@pytest.mark.parametrize(("route", "method_and_scope"), NEEDS_KEY.items())
def test_api_endpoints_require_a_key_with_their_scope(bot, callers, route, method_and_scope):
    method, scope = method_and_scope
    narrow = ApiKey(name="narrow", scopes=[other for other in Scope.values if other != scope]).issue()
    callers["wrong scope"] = {"Authorization": f"Bearer {narrow}"}
    passed = 200 if method == "GET" else 400  # 400: the call has no parameters
    expected = dict.fromkeys(callers, 401) | {"full key": passed, "wrong scope": 403, "key of another bot": passed}
    body = {"messages": [{"role": "user", "content": "Hi"}]} if "<int:bot_id>" in route else {}
    if body:  # the chatbot is checked last
        expected |= {"full key": 503, "key of another bot": 403}
    assert statuses(method, path_of(route, bot.pk), callers, json=body) == expected


@pytest.mark.parametrize(("route", "method_and_status"), WIDGET.items())
def test_widget_endpoints_accept_only_visitor_tokens_from_allowed_sites(bot, callers, route, method_and_status):
    method, status = method_and_status
    path = path_of(route, bot.pk)
    passed = (
        400 if path.endswith(("stream", "history", "feedback", "consent")) else 200
    )  # for a call without any parameter
    expected = dict.fromkeys(callers, status) | {"visitor": passed}
    origins = {SHOP: expected, "https://evil.example": dict.fromkeys(callers, 403)}
    for origin, codes in origins.items():
        assert statuses(method, path, callers, json={}, headers={"Origin": origin}) == codes, origin
    other_bot_path = path_of(route, Chatbot.objects.get(name="Other").pk)
    refused = dict.fromkeys(callers, 403)
    assert statuses(method, other_bot_path, callers, json={}, headers={"Origin": SHOP}) == refused


def statuses(method, path, callers, headers=None, **options):
    options = {} if method == "GET" else options
    return {
        caller: Api("").request(method, path, key=None, headers={**(headers or {}), **own}, **options).status_code
        for caller, own in callers.items()
    }


FILES = ["/static/puffer/favicon.svg", "/static/nothing.js"]
LIMIT = 3
LIMITS = (http.public_requests, http.public_files, http.health_checks)


@pytest.fixture
def stranger(monkeypatch):
    """Return a client at an address of its own, for which each limit is small."""
    for limit in LIMITS:
        monkeypatch.setattr(limit, "limit", LIMIT)
    return Api("", "192.0.2.77")


def ask_often(stranger, method, path, **headers):
    """Return the last allowed response and the first refused one. Ask again if a minute has ended meanwhile."""
    for _ in range(2):
        for limit in LIMITS:
            limit.counts.clear()
        responses = [
            stranger.request(method, f"http://testserver{path}", key=None, headers={"Origin": SHOP, **headers})
            for _ in range(LIMIT + 1)
        ]
        if responses[-1].status_code == 429:
            break
    return responses[-2], responses[-1]


def check_refusal(allowed, refused):
    assert allowed.status_code != 429
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60


@pytest.mark.parametrize("route", [*PUBLIC, *WIDGET])
def test_every_public_url_is_limited_per_network(bot, stranger, route):
    allowed, refused = ask_often(stranger, WIDGET.get(route, ("GET",))[0], path_of(route, bot.pk))
    check_refusal(allowed, refused)
    if "wp-json" in route:
        assert refused.json()["code"] == "rate_limit_exceeded"
        assert refused.json()["data"] == {"status": 429}
        assert refused.headers["access-control-allow-origin"] in (SHOP, "*")


@pytest.mark.parametrize("path", [*FILES, "/health/ready", "/nothing/"])
def test_files_the_readiness_check_and_unknown_pages_are_limited_per_network(db, stranger, path):
    check_refusal(*ask_often(stranger, "GET", path))


def test_the_liveness_check_is_not_limited_because_it_costs_nothing(stranger):
    assert ask_often(stranger, "GET", "/health/live")[1].status_code == 200


def test_every_page_of_the_admin_is_limited_per_network(db, stranger):
    paths = set()
    for _, name in routes(get_resolver().url_patterns):
        if name.startswith("admin:"):
            with suppress(NoReverseMatch):
                paths.add(url_of(name))
    assert len(paths) > 50
    allowed, refused = ask_often(stranger, "GET", "/admin/login/", Accept="text/html", **{"Accept-Language": "de"})
    check_refusal(allowed, refused)
    assert "Zu viele Anfragen" in refused.text
    others = {path: stranger.request("GET", f"http://testserver{path}", key=None).status_code for path in paths}
    assert set(others.values()) == {429}


def test_other_networks_and_this_machine_are_not_limited_with_it(db, stranger):
    assert ask_often(stranger, "GET", BASE)[1].status_code == 429
    assert Api("", "192.0.2.78").get(BASE, key=None).status_code == 200
    assert {Api("").get(BASE, key=None).status_code for _ in range(3 * LIMIT)} == {200}


def test_a_limit_of_zero_is_none(db, stranger, monkeypatch):
    monkeypatch.setattr(http.public_requests, "limit", 0)
    assert ask_often(stranger, "GET", BASE)[1].status_code == 200


def test_every_view_of_the_api_names_its_scope_or_is_public():
    for path, view in api_views(get_resolver().url_patterns):
        route = re.sub(r"\(\?P<(\w+)>\\d\+\)", r"<int:\1>", f"wp-json{path}")
        is_public = route in PUBLIC or route in WIDGET
        assert view.authentication_classes == ([] if is_public else [ApiKeyAuthentication]), path
        assert view.permission_classes == ([] if is_public else [HasScope]), path
        assert view.required_scope == (None if is_public else NEEDS_KEY[route][1]), path


def test_admin_pages_refuse_anonymous_and_non_staff_users(db):
    non_staff = Client()
    non_staff.force_login(get_user_model().objects.create_user("visitor"))
    unprotected = []
    for _, name in routes(get_resolver().url_patterns):
        if not name.startswith("admin:") or name in PUBLIC_ADMIN_URLS:
            continue
        for arguments in ([], ["1"], ["1", "1"], ["auth"]):
            try:
                path = url_of(name, args=arguments)
            except Exception:
                continue
            for client in (Client(), non_staff):
                for method in (client.get, client.post):
                    response = method(path)
                    redirects_to_login = "/login/" in response.get("Location", "/login/")
                    if response.status_code not in (302, 403, 404) or not redirects_to_login:
                        unprotected.append((path, response.status_code))
    assert not unprotected
