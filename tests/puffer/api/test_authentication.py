"""API keys: where they are read from, what they allow, and the errors of refused calls."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from puffer.models import ApiKey, Scope, is_well_formed, new_key
from tests.support.api import Api
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import answering, embedding

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
    return response.status_code, body.get("code") if isinstance(body, dict) else None


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer  {} "])
def test_the_header_may_vary_in_case_and_spaces(api, header):
    assert api.get("/logs", key=None, headers={"Authorization": header.format(api.key)}).status_code == 200


@pytest.mark.parametrize("header", ["Basic {}", "{}", "Bearer", "Bearer ", "Bearer{}", "Token {}"])
def test_headers_without_a_bearer_key_are_refused(api, header):
    assert outcome(api.get("/logs", key=None, headers={"Authorization": header.format(api.key)})) == INVALID


def test_the_parameter_is_read_from_query_form_and_json(api):
    assert api.get(f"/logs?aipkit_api_key={api.key}", key=None).status_code == 200
    for body in ({"json": {"aipkit_api_key": api.key}}, {"data": {"aipkit_api_key": api.key}}):
        assert outcome(api.post("/generate", key=None, **body)) == (400, "rest_missing_callback_param")


def test_a_key_in_the_url_is_answered_with_a_warning(api):
    response = api.get(f"/logs?aipkit_api_key={api.key}", key=None)
    assert response.headers["x-puffer-warning"].startswith("The API key is in the URL")
    assert api.key not in str(response.headers)
    assert "x-puffer-warning" not in api.get("/logs").headers
    assert "x-puffer-warning" not in api.post("/generate", key=None, json={"aipkit_api_key": api.key}).headers


def test_one_valid_key_in_header_or_parameter_is_enough(api):
    assert api.get(f"/logs?aipkit_api_key={api.key}", key="wrong").status_code == 200
    assert api.get("/logs?aipkit_api_key=wrong").status_code == 200


def test_a_wrong_parameter_of_the_body_does_not_block_a_right_one_of_the_query(api):
    """The body is not read for a key before header and query have none."""
    response = api.post(f"/generate?aipkit_api_key={api.key}", key=None, json={"aipkit_api_key": "wrong"})
    assert outcome(response) == (400, "rest_missing_callback_param")


@pytest.mark.parametrize(("padding", "expected"), [(60_000, (400, "rest_missing_callback_param")), (70_000, INVALID)])
def test_a_key_is_looked_for_in_small_bodies_only(api, padding, expected):
    body = {"aipkit_api_key": api.key, "padding": "x" * padding}
    assert outcome(api.post("/generate", key=None, json=body)) == expected
    assert outcome(api.post("/generate", key=None, data=body)) == expected


@pytest.mark.parametrize("parameter", [5, True, 1.5, None, "", " "])
def test_keys_that_are_not_strings_are_invalid(api, parameter):
    assert outcome(api.post("/generate", key=None, json={"aipkit_api_key": parameter})) == INVALID


def test_a_list_of_keys_is_an_invalid_parameter(api):
    response = api.get(f"/logs?aipkit_api_key[]={api.key}", key=None)
    assert response.json()["data"]["params"] == {"aipkit_api_key": "aipkit_api_key is not of type string."}


def test_keys_in_the_query_can_be_switched_off(api, settings):
    settings.PUFFER_API_KEY_IN_QUERY = False
    assert outcome(api.get(f"/logs?aipkit_api_key={api.key}", key=None)) == INVALID
    assert api.get("/logs").status_code == 200


@pytest.mark.parametrize(("method", "path"), ENDPOINTS.values())
def test_calls_without_a_key_are_refused_before_validation(api, method, path):
    for body in ({"json": {}}, {"content": b"{broken", "headers": {"Content-Type": "application/json"}}):
        assert outcome(api.request(method, path, key=None, **body)) == INVALID


@pytest.mark.parametrize(("scope", "endpoint"), ENDPOINTS.items())
def test_a_key_is_limited_to_its_scopes(db, scope, endpoint):
    others = [other for other in Scope.values if other != scope]
    narrow, without_scope = ApiKey(name="narrow", scopes=[scope]), ApiKey(name="without_scope", scopes=others)
    assert outcome(Api(narrow.issue()).request(*endpoint)) != INSUFFICIENT
    assert outcome(Api(without_scope.issue()).request(*endpoint)) == INSUFFICIENT
    assert outcome(Api("").request(*endpoint, key=None, params={"aipkit_api_key": "x"})) == INVALID


def test_a_key_in_the_query_is_limited_to_its_scopes_too(db):
    key = ApiKey(name="logs only", scopes=[Scope.LOGS]).issue()
    assert outcome(Api("").post(f"/generate?aipkit_api_key={key}", key=None, json={})) == INSUFFICIENT


def bind(api_key, *bots):
    api_key.is_bound = True
    api_key.save()
    api_key.chatbots.set(bots)


def test_a_key_bound_to_a_bot_cannot_use_another_bot(api_key, api, bot):
    bind(api_key, bot)
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert outcome(api.post(f"/chat/{bot.pk}/message", json=question)) == (503, "missing_api_key")
    assert outcome(api.post(f"/chat/{bot.pk + 1}/message", json=question)) == INSUFFICIENT


def test_a_bound_key_cannot_use_another_bot_after_its_bot_is_deleted(api_key, api, bot):
    other = Chatbot.objects.create(name="Other")
    bind(api_key, bot)
    bot.delete()
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert outcome(api.post(f"/chat/{other.pk}/message", json=question)) == INSUFFICIENT
    assert api.get("/logs").json() == []


MODELS_CALLED = {
    "/generate": {"provider": "openai", "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]},
    "/embeddings": {"provider": "openai", "model": "gpt-4o-mini", "input": "Hi"},
    "/images/generate": {"provider": "openai", "model": "gpt-4o-mini", "prompt": "A shoe"},
}


@pytest.mark.parametrize(("path", "call"), MODELS_CALLED.items())
@pytest.mark.parametrize(
    ("models", "is_bound", "is_allowed"),
    [
        ([], False, True),
        ([], True, False),  # a key for chatbots calls no other model
        (["openai/gpt-4o-mini"], False, True),
        (["openai/gpt-4o-mini"], True, True),
        (["claude", "openai"], True, True),
        (["openai/gpt-4o"], False, False),
        (["openai/gpt-4o-mini-high"], False, False),
        (["claude"], False, False),
    ],
)
def test_a_key_calls_only_its_models(api, api_key, settings, path, call, models, is_bound, is_allowed):
    settings.PROVIDER_ENVIRONMENT = {}
    api_key.allowed_models, api_key.is_bound = models, is_bound
    api_key.save()
    assert outcome(api.post(path, json=call)) == ((503, "missing_api_key") if is_allowed else INSUFFICIENT)


@pytest.mark.parametrize("model", ["GPT-4o-mini", "../gpt-4o-mini", "gpt-4o-mini/", ""])
def test_a_model_must_be_named_as_in_the_list(api, api_key, model):
    api_key.allowed_models = ["openai/gpt-4o-mini"]
    api_key.save()
    for path, call in MODELS_CALLED.items():
        assert api.post(path, json=call | {"model": model}).status_code in (400, 403)


def test_the_default_image_model_must_be_allowed_too(api, api_key):
    api_key.allowed_models = ["openai/gpt-4o-mini"]
    api_key.save()
    assert outcome(api.post("/images/generate", json={"prompt": "A shoe"})) == INSUFFICIENT


def test_a_bound_key_fills_only_the_collections_of_its_bots(api_key, api, bot, upstream):
    upstream.pages["/v1/embeddings"] = embedding()
    Chatbot.objects.create(name="Other", collections=["salaries"])
    bot.collections, bot.namespace = ["shop"], "blue"
    bot.save()
    bind(api_key, bot)

    def upsert(target="shop", namespace="blue", model="emb-1", store="local"):
        call = {"provider": store, "target_id": target, "namespace": namespace, "vectors": [{"content": "Hi"}]}
        response = api.post(
            "/vector-stores/upsert", json=call | {"embedding_provider": "openai", "embedding_model": model}
        )
        return outcome(response)

    for refused in ({"target": "salaries"}, {"target": "new"}, {"namespace": ""}, {"store": "qdrant"}):
        assert upsert(**refused) == INSUFFICIENT, refused
    assert not upstream.sent
    assert upsert() == (200, None)
    assert upsert(model="text-embedding-3-large") == INSUFFICIENT  # the collection has another model
    bot.vector_embedding_provider, bot.vector_embedding_model = "openai", "emb-2"
    bot.save()
    assert upsert(model="emb-2") == (200, None)
    api_key.is_bound = False
    api_key.save()
    assert upsert("salaries") == (200, None)
    api_key.allowed_models = ["openai/emb-2"]
    api_key.save()
    assert upsert("salaries") == INSUFFICIENT


def test_a_bound_key_chats_with_the_models_of_its_bot(api_key, api, bot, upstream):
    upstream.pages["/v1/embeddings"] = embedding()
    upstream.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION)
    bot.enable_vector_store, bot.collections = True, ["shop"]
    bot.vector_embedding_provider, bot.vector_embedding_model = "openai", "emb-1"
    bot.save()
    bind(api_key, bot)
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert api.post(f"/chat/{bot.pk}/message", json=question).status_code == 200


def test_a_revoked_key_is_refused_at_once(api, api_key):
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


def test_the_date_of_the_last_use_is_saved(api, api_key):
    api.get("/logs")
    api_key.refresh_from_db()
    assert api_key.last_used_on == timezone.localdate()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the trigger is written in SQLite's dialect")
@pytest.mark.django_db(transaction=True)
def test_a_call_is_answered_though_its_date_cannot_be_saved(api, api_key):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER full_disk BEFORE UPDATE OF last_used_on ON puffer_apikey BEGIN SELECT RAISE(ABORT, ''); END"
        )
    try:
        assert api.get("/logs").status_code == 200
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER full_disk")


def test_calls_get_a_separate_error_while_no_key_is_active(db):
    expected = (403, "rest_aipkit_no_api_key_configured")
    assert outcome(Api("").get("/logs", key=None)) == expected
    ApiKey(name="revoked", scopes=["logs"], revoked_at=timezone.now()).issue()
    assert outcome(Api("").get("/logs", key=new_key())) == expected


def test_the_api_can_be_switched_off(api, settings):
    settings.PUFFER_API_ENABLED = False
    assert outcome(api.get("/logs")) == (403, "rest_aipkit_api_access_disabled")


def test_the_key_of_the_environment_has_all_scopes(db, settings):
    settings.PUFFER_API_KEY = " aipk_live_abc "
    assert Api("aipk_live_abc").get("/logs").status_code == 200
    assert outcome(Api("aipk_live_abd").get("/logs")) == INVALID
    assert outcome(Api("").get("/logs", key=None, headers={"Authorization": "Bearer schlüssel".encode()})) == INVALID


def test_a_mistyped_key_is_refused_without_a_query(api, django_assert_num_queries):
    outcome(api.get("/logs", key="puf_" + "0" * 49))  # caches that an active key exists
    key = api.key[:-1] + ("0" if api.key[-1] != "0" else "1")
    with django_assert_num_queries(0):
        assert outcome(api.get("/logs", key=key)) == INVALID


def test_a_cached_key_takes_no_query(api, django_assert_num_queries):
    api.post("/generate", json={})
    with django_assert_num_queries(0):
        assert api.post("/generate", json={}).status_code == 400


def test_only_a_digest_of_a_key_is_stored(api):
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
def test_invalid_keys_are_not_well_formed(key):
    assert not is_well_formed(key)


def test_create_api_key_prints_the_key_on_the_last_line(db, bot, capsys):
    models = ["openai/gpt-4o-mini", "claude"]
    call_command("create_api_key", "ci", scope=["logs", "chat"], bot=[bot.pk], model=models, expires=None)
    key = capsys.readouterr().out.splitlines()[-1]
    saved = ApiKey.objects.get(name="ci")
    assert Api(key).get("/logs").status_code == 200
    assert (saved.scopes, list(saved.chatbots.all()), saved.ending) == (["logs", "chat"], [bot], key[-4:])
    assert saved.allowed_models == models


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


def test_create_api_key_prints_the_rights_that_a_replaced_key_keeps(db, bot, capsys):
    call_command("create_api_key", "ci", scope=["chat"], bot=[bot.pk], model=["openai"])
    call_command("create_api_key", "ci", replace=True, json=True)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (printed["scopes"], printed["bots"], printed["models"]) == (["chat"], [bot.pk], ["openai"])


def test_create_api_key_makes_no_key_that_has_expired(db):
    yesterday = timezone.localdate() - timedelta(days=1)
    ApiKey(name="old", scopes=["logs"], expires_on=yesterday).issue()
    for options in ({"name": "new", "expires": yesterday}, {"name": "old", "replace": True}):
        with pytest.raises(CommandError, match=r"has passed\. Pass a later --expires"):
            call_command("create_api_key", options.pop("name"), **options)
    call_command("create_api_key", "old", replace=True, expires=timezone.localdate())
    assert ApiKey.objects.get().is_active


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "ci", "bot": [999]},
        {"name": "taken"},
        {"name": "ci", "model": ["gpt-4o-mini"]},
        {"name": "ci", "model": ["openai/"]},
        {"name": "ci", "model": [""]},
    ],
)
def test_create_api_key_refuses_invalid_options_and_saves_nothing(db, options):
    ApiKey(name="taken", scopes=["logs"]).issue()
    name = options.pop("name")
    with pytest.raises(CommandError):
        call_command("create_api_key", name, **options)
    assert ApiKey.objects.count() == 1
