"""Collections in the admin, and trying a question."""

import html
import re

import pytest
from django.urls import reverse

from logs.models import UsageEvent
from tests.support.knowledge.admin_pages import (
    EVIL,
    NASTY,
    OPENING,
    RETURNS,
    choose_deletion,
    list_of,
    page_of,
    text_of,
    try_question,
)
from tests.support.upstream import answering
from vectorstores.models import Collection, Document, LocalVector

pytestmark = pytest.mark.django_db


def test_collections_are_listed_with_their_documents(admin_client, upsert, qdrant_collection):
    upsert(RETURNS, OPENING, EVIL)
    page = admin_client.get(list_of("collection"))
    for words in ("shop", "Local", "64", "OpenAI, emb-1", "faq", "Qdrant"):
        assert words in text_of(page)
    counts = re.findall(r'href="(/admin/vectorstores/document/[^"]*)">(\d+)<', page.text)
    assert sorted(count for _, count in counts) == ["2", "3"]
    link = next(link for link, count in counts if count == "3")
    assert admin_client.get(html.unescape(link)).context["cl"].result_count == 3


def test_a_collections_page_shows_its_number_of_vectors(admin_client, upsert):
    collection = upsert(RETURNS, {"id": "long", "content": "x" * 7000})
    assert "3 passages are indexed in Local." in text_of(admin_client.get(page_of(collection)))


def test_only_a_collections_page_calls_the_store(admin_client, qdrant_collection, qdrant_server):
    admin_client.get(list_of("collection"))
    assert not qdrant_server.sent
    assert "2 passages are indexed in Qdrant." in text_of(admin_client.get(page_of(qdrant_collection)))
    assert [sent.path for sent in qdrant_server.sent].count("/collections/faq/points/count") == 1


def test_a_store_error_is_shown_on_the_collections_page(admin_client, qdrant_collection, qdrant_server):
    qdrant_server.serves("/collections/faq", {"status": {"error": f"Out of order {NASTY}"}}, 500)
    page = admin_client.get(page_of(qdrant_collection))
    assert page.status_code == 200
    assert "Qdrant API Error (500): Out of order" in text_of(page)
    assert NASTY not in page.text


def test_collections_cannot_be_added_or_renamed(admin_client, upsert):
    collection = upsert(RETURNS)
    assert admin_client.get(reverse("admin:vectorstores_collection_add")).status_code == 403
    assert admin_client.post(page_of(collection), {"name": "other", "searches_words": "on"}).status_code == 302
    collection.refresh_from_db()
    assert (collection.name, collection.searches_words) == ("shop", True)


def test_deleting_a_local_collection_deletes_its_vectors(admin_client, upsert):
    collection = upsert(RETURNS, OPENING)
    other = upsert(RETURNS, target="other")
    page = admin_client.get(page_of(collection, "delete"))
    assert "shop (Local) with its documents and all its vectors" in text_of(page)
    assert admin_client.post(page_of(collection, "delete"), {"post": "yes"}).status_code == 302
    assert {vector.collection_id for vector in LocalVector.objects.all()} == {other.pk}
    assert {document.collection_id for document in Document.objects.all()} == {other.pk}
    choose_deletion(admin_client, other, model="collection", post="yes")
    assert not Collection.objects.exists()
    assert not LocalVector.objects.exists()


def test_deleting_a_collection_of_another_store_keeps_its_vectors_and_says_so(
    admin_client, qdrant_collection, qdrant_server
):
    for page in (
        admin_client.get(page_of(qdrant_collection, "delete")),
        choose_deletion(admin_client, qdrant_collection, model="collection"),
    ):
        assert "Qdrant keeps the collection and its vectors" in text_of(page)
        assert "Documents: 2" in text_of(page)
    assert admin_client.post(page_of(qdrant_collection, "delete"), {"post": "yes"}).status_code == 302
    assert not Document.objects.exists()
    assert not qdrant_server.sent


def test_a_question_shows_the_passages_a_chatbot_would_get(admin_client, upsert, openai):
    collection = upsert(RETURNS, OPENING)
    assert page_of(collection, "try_question") in admin_client.get(page_of(collection)).text
    assert 'name="question"' in admin_client.get(page_of(collection, "try_question")).text
    assert not openai.sent
    page = try_question(admin_client, collection)
    first, *_ = page.context["passages"]
    assert first.title == "Returns"
    assert first.score > 0.3
    for words in ("Shoes may be returned within 45 days.", "https://shop.example/returns", f"{first.score:.3f}"):
        assert words in text_of(page)
    assert 'href="https://shop.example/returns"' in page.text
    assert openai.sent[0].json["input"] == ["How many days may shoes be returned?"]
    assert UsageEvent.objects.filter(operation="embedding").last().input_tokens == 7


def test_passages_are_escaped(admin_client, upsert):
    page = try_question(admin_client, upsert({**EVIL, "metadata": {**EVIL["metadata"], "headings": NASTY}}))
    assert page.context["passages"]
    assert NASTY not in page.text
    assert html.escape(NASTY) in page.text
    assert "javascript:alert" not in page.text


@pytest.mark.parametrize(
    ("changes", "count"), [({"threshold": "0"}, 2), ({"threshold": "0", "top_k": "1"}, 1), ({"threshold": "100"}, 0)]
)
def test_threshold_and_top_k_limit_the_passages(admin_client, upsert, changes, count):
    page = try_question(admin_client, upsert(RETURNS, OPENING), **changes)
    assert f"{count} passage" in text_of(page)
    assert len(page.context["passages"]) == count


@pytest.mark.parametrize("changes", [{"question": " "}, {"top_k": "0"}, {"top_k": "51"}, {"threshold": "101"}])
def test_invalid_questions_are_rejected(admin_client, upsert, openai, changes):
    page = try_question(admin_client, upsert(RETURNS), **changes)
    assert page.context["form"].errors
    assert not openai.sent


def test_only_the_given_namespace_is_searched(admin_client, upsert):
    collection = upsert(RETURNS, namespace="blue")
    assert not try_question(admin_client, collection).context["passages"]
    assert len(try_question(admin_client, collection, namespace="blue").context["passages"]) == 1


def test_stores_without_namespaces_have_no_namespace_field(admin_client, qdrant_collection):
    assert 'name="namespace"' not in admin_client.get(page_of(qdrant_collection, "try_question")).text


def test_a_question_can_be_tried_in_another_store(admin_client, qdrant_collection):
    passages = try_question(admin_client, qdrant_collection).context["passages"]
    assert passages[0].title == "Returns"


def test_an_embedding_error_is_shown(admin_client, upsert, openai):
    collection = upsert(RETURNS)
    openai.pages["/v1/embeddings"] = answering({"error": {"message": f"Out of order {NASTY}"}}, 500)
    page = try_question(admin_client, collection)
    assert "Out of order" in text_of(page)
    assert NASTY not in page.text
    assert "How many days may shoes be returned?" in page.text  # the form keeps the question


def test_a_collection_without_an_embedding_model_cannot_be_searched(admin_client, openai):
    collection = Collection.objects.create(store="local", name="moved", dimension=4)
    assert "The embedding model of this collection is unknown" in text_of(try_question(admin_client, collection))
    assert not openai.sent


@pytest.mark.parametrize("pk", ["999", "x", "_"])
def test_an_unknown_collection_is_404(admin_client, pk):
    assert admin_client.get(reverse("admin:vectorstores_collection_try_question", args=[pk])).status_code == 404
