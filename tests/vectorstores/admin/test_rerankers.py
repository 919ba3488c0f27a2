"""Rerankers in the admin: their settings, keys and the connection test."""

import time

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection
from django.urls import reverse

from chatbots.models import Chatbot
from logs.models import UsageEvent
from tests.support.knowledge.admin_pages import list_of, page_of, text_of
from tests.support.upstream import answering, closed_port
from vectorstores.models import Reranker

pytestmark = pytest.mark.django_db

ADD = reverse("admin:vectorstores_reranker_add")
SECRET = "co-secret-of-the-reranker"
TYPED = {"name": "Cohere", "protocol": "common", "base_url": "https://api.cohere.com/v2", "milliseconds": "300"}


@pytest.fixture
def reranker(upstream):
    return Reranker.objects.create(name="Cohere", base_url=upstream.url, api_key=SECRET)


def problems_of(response):
    assert response.status_code == 200
    return str(response.context["adminform"].form.errors)


def test_a_reranker_is_added(admin_client):
    typed = {**TYPED, "api_key": f" {SECRET}\n", "model": "rerank-v3.5", "price": "2"}
    assert admin_client.post(ADD, typed).status_code == 302
    saved = Reranker.objects.get()
    assert (saved.name, saved.base_url, saved.api_key, saved.model) == (
        "Cohere", "https://api.cohere.com/v2", SECRET, "rerank-v3.5",
    )  # fmt: skip
    assert (saved.milliseconds, saved.price) == (300, 2)
    assert SECRET not in str(LogEntry.objects.values_list())
    assert "saved here" in admin_client.get(list_of("reranker")).text


@pytest.mark.parametrize(
    ("pasted", "saved"),
    [
        ("https://api.cohere.com/v2/rerank", "https://api.cohere.com/v2"),
        ("https://api.jina.ai/v1/rerank/", "https://api.jina.ai/v1"),
        (" http://127.0.0.1:8080/ ", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_path_of_the_call_may_be_pasted_too(admin_client, pasted, saved):
    admin_client.post(ADD, {**TYPED, "base_url": pasted})
    assert Reranker.objects.get().base_url == saved


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "x" * 21}, "at most 20 characters"),
        ({"name": "openai"}, "the name of a provider"),
        ({"name": "OLLAMA"}, "the name of a provider"),
        ({"base_url": ""}, "This field is required"),
        ({"base_url": "http://rerank.example"}, "Plain http is allowed only on this machine"),
        ({"base_url": "https://10.0.0.1"}, "a private address"),
        ({"base_url": "https://a:b@rerank.example"}, "must not contain a user"),
        ({"base_url": "file:///etc/passwd"}, "Enter a complete URL"),
        ({"api_key": "schlüssel"}, "invalid characters"),
        ({"protocol": "grpc"}, "Select a valid choice"),
        ({"milliseconds": "49"}, "greater than or equal to 50"),
        ({"milliseconds": "5001"}, "less than or equal to 5000"),
        ({"price": "-1"}, "greater than or equal to 0"),
        ({"price": "NaN"}, "Enter a number"),
    ],
)
def test_invalid_settings_are_refused(admin_client, typed, problem):
    assert problem in problems_of(admin_client.post(ADD, TYPED | typed))
    assert not Reranker.objects.exists()


def test_a_name_is_taken_once(admin_client, reranker):
    assert "already exists" in problems_of(admin_client.post(ADD, TYPED))


def change(client, reranker, **typed):
    form = client.get(page_of(reranker)).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields if name != "forget_api_key"}
    return client.post(page_of(reranker), data | typed)


def test_a_saved_key_is_kept_and_never_shown(admin_client, reranker):
    assert SECRET not in admin_client.get(page_of(reranker)).text
    assert change(admin_client, reranker, model="rerank-v4").status_code == 302
    reranker.refresh_from_db()
    assert (reranker.api_key, reranker.model) == (SECRET, "rerank-v4")
    change(admin_client, reranker, forget_api_key="on")
    reranker.refresh_from_db()
    assert reranker.api_key == ""


def test_a_new_address_needs_the_key_again(admin_client, reranker):
    before = reranker.base_url
    assert "Enter the key again" in problems_of(change(admin_client, reranker, base_url="https://elsewhere.example"))
    reranker.refresh_from_db()
    assert reranker.base_url == before


def test_the_name_cannot_be_changed(admin_client, reranker):
    change(admin_client, reranker, name="Other")
    reranker.refresh_from_db()
    assert reranker.name == "Cohere"


def test_deleting_says_what_becomes_of_chatbots(admin_client, reranker):
    page = admin_client.get(page_of(reranker, "delete"))
    assert "chatbots that use it keep the order of the search" in page.text
    assert admin_client.post(page_of(reranker, "delete"), {"post": "yes"}).status_code == 302
    assert not Reranker.objects.exists()


def test_secrets_are_rotated(reranker):
    def column():
        with connection.cursor() as cursor:
            cursor.execute("SELECT api_key FROM vectorstores_reranker")
            return cursor.fetchone()[0]

    before = column()
    assert SECRET not in before
    call_command("rotate_secrets")
    assert column() != before
    reranker.refresh_from_db()
    assert reranker.api_key == SECRET


# Test connection


def run_connection_test(client, reranker) -> str:
    answer = client.post(page_of(reranker, "test_connection"), {"_form_submitted": "True"})
    assert answer["HX-Redirect"] == page_of(reranker)
    return text_of(client.get(answer["HX-Redirect"]))


def rows(*scores):
    return {"results": [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]}


def test_a_successful_connection_test(admin_client, reranker, upstream):
    upstream.serves("/rerank", rows(0.1, 0.9))
    shown = run_connection_test(admin_client, reranker)
    assert "Cohere answered in" in shown
    assert "more than the time limit" not in shown
    assert "wrong one" not in shown
    assert len(upstream.sent[0].json["documents"]) == 2
    event = UsageEvent.objects.get()
    assert (event.operation, event.provider, event.chatbot) == ("rerank", "Cohere", None)


def test_a_slow_reranker_is_reported(admin_client, reranker, upstream):
    Reranker.objects.update(milliseconds=50)

    def slowly(connection):
        time.sleep(0.1)
        answering(rows(0.1, 0.9))(connection)

    upstream.pages["/rerank"] = slowly
    assert "more than the time limit of 50 ms" in run_connection_test(admin_client, reranker)


def test_a_wrong_order_is_reported(admin_client, reranker, upstream):
    upstream.serves("/rerank", rows(0.9, 0.1))
    assert "It put the wrong one of two texts first." in run_connection_test(admin_client, reranker)


def test_a_failed_connection_test(admin_client, reranker, upstream):
    upstream.serves("/rerank", {"message": "invalid api token"}, 401)
    shown = run_connection_test(admin_client, reranker)
    assert "Connection failed: Cohere API Error (HTTP 401): invalid api token" in shown
    with closed_port() as url:
        Reranker.objects.update(base_url=url)
        assert "Connection failed: Cohere cannot be reached" in run_connection_test(admin_client, reranker)


# Chatbots


def test_chatbots_choose_among_the_saved_rerankers(admin_client, reranker, bot):
    page = reverse("admin:chatbots_chatbot_change", args=[bot.pk])
    choices = admin_client.get(page).context["adminform"].form.fields["reranker"].choices
    assert [value for value, _ in choices] == ["", "Cohere"]
    Chatbot.objects.update(reranker="Gone")
    choices = admin_client.get(page).context["adminform"].form.fields["reranker"].choices
    assert choices[2:] == [("Gone", "Gone (does not exist)")]
