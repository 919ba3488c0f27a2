"""DRF's authentication, permission and throttle classes work on async views, and API keys on DRF's own views."""

import pytest
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer

from puffer.api import AsyncAPIView
from puffer.models import ApiKey, Scope
from tests.support.api import Api

PREFIXES = ["http://testserver/wp-json/policies", "http://testserver/policies"]  # inside and outside the API's prefix

pytestmark = pytest.mark.urls("tests.puffer.api.policy_views")


def outcome(response):
    body = response.json()
    return response.status_code, body.get("code")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_permission_class_can_refuse_a_request(api, prefix):
    response = api.get(f"{prefix}/refused")
    assert outcome(response) == (403, "rest_permission_denied")
    assert response.json()["message"] == "Nobody may."


def test_a_permission_may_query_the_database_and_be_combined(api):
    assert api.get(f"{PREFIXES[0]}/queried").json()["caller"] == "tests"


def test_a_throttle_class_can_refuse_a_request(api):
    response = api.get(f"{PREFIXES[0]}/throttled")
    assert outcome(response) == (429, "rest_throttled")
    assert response.headers["Retry-After"] == "7"


def test_views_require_a_key_by_default(api):
    for path in ("refused", "queried", "throttled", "logs-only", "plain", "bots"):
        assert outcome(api.get(f"{PREFIXES[0]}/{path}", key=None)) == (401, "rest_aipkit_invalid_api_key")


def test_another_authentication_class_replaces_the_key(api):
    response = api.get(f"{PREFIXES[0]}/other", key=None, headers={"X-Team": "shop"})
    assert response.json() == {"caller": None, "user": "team"}
    assert api.get(f"{PREFIXES[0]}/other").json()["user"] == "AnonymousUser"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", ["logs-only", "plain"])
def test_a_scope_is_required_on_every_kind_of_view(db, prefix, path):
    assert Api(ApiKey(name="reader", scopes=[Scope.LOGS]).issue()).get(f"{prefix}/{path}").status_code == 200
    other = Api(ApiKey(name="writer", scopes=[Scope.CHAT]).issue())
    assert outcome(other.get(f"{prefix}/{path}")) == (403, "rest_aipkit_insufficient_scope")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_plain_view_reads_the_key_from_header_query_form_and_json(api, bot, prefix):
    answers = [
        api.get(f"{prefix}/plain"),
        api.get(f"{prefix}/plain?aipkit_api_key={api.key}", key=None),
        api.post(f"{prefix}/plain", key=None, json={"aipkit_api_key": api.key}),
        api.post(f"{prefix}/plain", key=None, data={"aipkit_api_key": api.key}),
    ]
    assert [answer.json() for answer in answers] == [{"caller": "tests", "bots": 1}] * 4


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_viewset_works_with_the_key_and_reports_errors_in_our_format(api, bot, prefix):
    assert [row["name"] for row in api.get(f"{prefix}/bots").json()] == ["Shop"]
    assert api.post(f"{prefix}/bots", json={"name": "Help"}).status_code == 201
    wrong = api.post(f"{prefix}/bots", json={"name": "Hot", "temperature": 9})
    assert outcome(wrong) == (400, "rest_invalid_param")
    assert list(wrong.json()["data"]["params"]) == ["temperature"]
    assert outcome(api.get(f"{prefix}/bots/999999")) == (404, "rest_not_found")
    broken = api.post(f"{prefix}/bots", content=b"{broken", headers={"Content-Type": "application/json"})
    assert outcome(broken) == (400, "rest_parse_error")


@pytest.mark.parametrize(
    "declared",
    [
        {"parser_classes": [JSONParser]},
        {"renderer_classes": [JSONRenderer]},
        {"get": lambda self, request: None},
        {"check_permissions": lambda self, request: None},
    ],
)
def test_defining_an_async_view_with_unsupported_attributes_is_refused(declared):
    with pytest.raises(TypeError):
        type("View", (AsyncAPIView,), declared)


def test_as_view_refuses_unsupported_attributes():
    with pytest.raises(TypeError, match="parser_classes"):
        AsyncAPIView.as_view(parser_classes=[JSONParser])
