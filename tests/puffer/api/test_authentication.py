"""Who is let in, and with which words the others are refused."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from puffer.models import ApiKey, Scope, is_well_formed, new_key
from tests.support.api import Api

ENDPOINTS = {
    Scope.GENERATE: ("POST", "/generate"),
    Scope.IMAGES: ("POST", "/images/generate"),
    Scope.EMBEDDINGS: ("POST", "/embeddings"),
    Scope.CHAT: ("POST", "/chat/1/message"),
    Scope.LOGS: ("GET", "/logs"),
}
INVALID = (401, "rest_aipkit_invalid_api_key")
INSUFFICIENT = (403, "rest_aipkit_insufficient_scope")


def outcome(response):
    body = response.json()
    return response.status_code, body["code"] if isinstance(body, dict) else None


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer  {} "])
def test_the_header_is_read_tolerantly(api, header):
    assert api.get("/logs", key=None, headers={"Authorization": header.format(api.key)}).status_code == 200


@pytest.mark.parametrize("header", ["Basic {}", "{}", "Bearer", "Bearer ", "Bearer{}", "Token {}"])
def test_another_header_is_no_key(api, header):
    assert outcome(api.get("/logs", key=None, headers={"Authorization": header.format(api.key)})) == INVALID


def test_the_parameter_is_read_from_query_form_and_json(api):
    assert api.get(f"/logs?aipkit_api_key={api.key}", key=None).status_code == 200
    for body in ({"json": {"aipkit_api_key": api.key}}, {"data": {"aipkit_api_key": api.key}}):
        assert outcome(api.post("/generate", key=None, **body)) == (400, "rest_missing_callback_param")


def test_a_wrong_header_does_not_block_a_right_parameter(api):
    assert api.get(f"/logs?aipkit_api_key={api.key}", key="wrong").status_code == 200
    assert api.get("/logs?aipkit_api_key=wrong").status_code == 200


def test_the_parameter_of_the_body_hides_the_one_of_the_query(api):
    response = api.post(f"/generate?aipkit_api_key={api.key}", key=None, json={"aipkit_api_key": "wrong"})
    assert outcome(response) == INVALID


@pytest.mark.parametrize("parameter", [5, True, 1.5, None, "", " "])
def test_a_key_that_is_no_string_is_a_wrong_key(api, parameter):
    assert outcome(api.post("/generate", key=None, json={"aipkit_api_key": parameter})) == INVALID


def test_a_list_in_place_of_the_key_is_an_invalid_parameter(api):
    response = api.get(f"/logs?aipkit_api_key[]={api.key}", key=None)
    assert response.json()["data"]["params"] == {"aipkit_api_key": "aipkit_api_key is not of type string."}


def test_keys_in_the_query_can_be_switched_off(api, settings):
    settings.PUFFER_API_KEY_IN_QUERY = False
    assert outcome(api.get(f"/logs?aipkit_api_key={api.key}", key=None)) == INVALID
    assert api.get("/logs").status_code == 200


@pytest.mark.parametrize(("method", "path"), ENDPOINTS.values())
def test_strangers_learn_nothing_about_their_parameters(api, method, path):
    for body in ({"json": {}}, {"content": b"{broken", "headers": {"Content-Type": "application/json"}}):
        assert outcome(api.request(method, path, key=None, **body)) == INVALID


@pytest.mark.parametrize(("scope", "endpoint"), ENDPOINTS.items())
def test_a_key_opens_only_what_its_scopes_name(db, scope, endpoint):
    others = [other for other in Scope.values if other != scope]
    narrow, without = ApiKey(name="narrow", scopes=[scope]), ApiKey(name="without", scopes=others)
    assert outcome(Api(narrow.issue()).request(*endpoint)) != INSUFFICIENT
    assert outcome(Api(without.issue()).request(*endpoint)) == INSUFFICIENT
    assert outcome(Api("").request(*endpoint, key=None, params={"aipkit_api_key": "x"})) == INVALID


def test_scopes_hold_for_a_key_in_the_query_too(db):
    key = ApiKey(name="logs only", scopes=[Scope.LOGS]).issue()
    assert outcome(Api("").post(f"/generate?aipkit_api_key={key}", key=None, json={})) == INSUFFICIENT


def bind(api_key, *bots):
    api_key.is_bound = True
    api_key.save()
    api_key.chatbots.set(bots)


def test_a_key_bound_to_a_bot_opens_no_other(api_key, api, bot):
    bind(api_key, bot)
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert outcome(api.post(f"/chat/{bot.pk}/message", json=question)) == (503, "missing_api_key")
    assert outcome(api.post(f"/chat/{bot.pk + 1}/message", json=question)) == INSUFFICIENT


def test_a_bound_key_whose_bot_is_deleted_opens_no_other(api_key, api, bot):
    other = Chatbot.objects.create(name="Other")
    bind(api_key, bot)
    bot.delete()
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert outcome(api.post(f"/chat/{other.pk}/message", json=question)) == INSUFFICIENT
    assert api.get("/logs").json() == []


def test_revoking_and_deleting_end_a_key_at_once(api, api_key):
    assert api.get("/logs").status_code == 200
    api_key.revoke()
    ApiKey(name="another", scopes=["logs"]).issue()
    assert outcome(api.get("/logs")) == INVALID


def test_a_key_works_on_its_last_day_and_not_after(api, api_key):
    for days, status in ((0, 200), (-1, 401)):
        api_key.expires_on = timezone.localdate() + timedelta(days=days)
        api_key.save()
        ApiKey.objects.get_or_create(name="another", digest="x", scopes=["logs"])
        assert api.get("/logs").status_code == status


def test_the_day_of_the_last_use_is_noted(api, api_key):
    api.get("/logs")
    api_key.refresh_from_db()
    assert api_key.last_used_on == timezone.localdate()


def test_without_any_active_key_the_api_says_so(db):
    expected = (403, "rest_aipkit_no_api_key_configured")
    assert outcome(Api("").get("/logs", key=None)) == expected
    ApiKey(name="gone", scopes=["logs"], revoked_at=timezone.now()).issue()
    assert outcome(Api("").get("/logs", key=new_key())) == expected


def test_the_api_can_be_switched_off(api, settings):
    settings.PUFFER_API_ENABLED = False
    assert outcome(api.get("/logs")) == (403, "rest_aipkit_api_access_disabled")


def test_the_key_of_the_environment_opens_everything(db, settings):
    settings.PUFFER_API_KEY = " aipk_live_abc "
    assert Api("aipk_live_abc").get("/logs").status_code == 200
    assert outcome(Api("aipk_live_abd").get("/logs")) == INVALID
    assert outcome(Api("").get("/logs", key=None, headers={"Authorization": "Bearer schlüssel".encode()})) == INVALID


def test_a_mistyped_key_is_refused_without_a_query(api, django_assert_num_queries):
    outcome(api.get("/logs", key="puf_" + "0" * 49))  # now it is known that some key is active
    key = api.key[:-1] + ("0" if api.key[-1] != "0" else "1")
    with django_assert_num_queries(0):
        assert outcome(api.get("/logs", key=key)) == INVALID


def test_a_known_key_costs_no_query(api, django_assert_num_queries):
    api.post("/generate", json={})
    with django_assert_num_queries(0):
        assert api.post("/generate", json={}).status_code == 400


def test_only_a_digest_of_a_key_is_kept(api):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM puffer_apikey")
        row = str(cursor.fetchall())
    assert api.key not in row
    assert api.key[4:40] not in row


def test_new_keys_are_well_formed_and_different():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(is_well_formed(key) and len(key) == 53 for key in keys)


@pytest.mark.parametrize("key", ["", "puf_", "x" * 53, "puf_" + "a" * 49, "puf_" + "ä" * 49])
def test_what_is_no_key_is_not_well_formed(key):
    assert not is_well_formed(key)


def test_create_api_key_prints_the_key_on_the_last_line(db, bot, capsys):
    call_command("create_api_key", "ci", scope=["logs", "chat"], bot=[bot.pk], expires=None)
    key = capsys.readouterr().out.splitlines()[-1]
    saved = ApiKey.objects.get(name="ci")
    assert Api(key).get("/logs").status_code == 200
    assert (saved.scopes, list(saved.chatbots.all()), saved.ending) == (["logs", "chat"], [bot], key[-4:])


def test_create_api_key_replaces_a_key_only_on_request(db, bot, capsys):
    call_command("create_api_key", "ci", scope=["logs", "chat"], bot=[bot.pk])
    old = capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(CommandError, match=r"exists. Choose another name, or replace it with --replace\."):
        call_command("create_api_key", "ci")
    assert Api(old).get("/logs").status_code == 200
    call_command("create_api_key", "ci", replace=True, scope=["logs"])
    new = capsys.readouterr().out.splitlines()[-1]
    assert (Api(old).get("/logs").status_code, Api(new).get("/logs").status_code) == (401, 200)
    saved = ApiKey.objects.get()
    assert (saved.scopes, saved.is_bound, list(saved.chatbots.all())) == (["logs"], True, [bot])


@pytest.mark.parametrize(
    "options", [{"name": ""}, {"name": "x" * 101}, {"name": "ci", "bot": [999]}, {"name": "taken"}]
)
def test_create_api_key_refuses_nonsense_and_saves_nothing(db, options):
    ApiKey(name="taken", scopes=["logs"]).issue()
    name = options.pop("name")
    with pytest.raises(CommandError):
        call_command("create_api_key", name, **options)
    assert ApiKey.objects.count() == 1
