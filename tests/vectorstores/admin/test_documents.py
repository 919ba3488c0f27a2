"""Documents in the admin, and who may do what."""

import html

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from tests.support.knowledge.admin_pages import (
    EVIL,
    NASTY,
    OPENING,
    RETURNS,
    SECRET,
    choose_deletion,
    list_of,
    page_of,
    sign_in,
    text_of,
    try_question,
)
from vectorstores.admin import documents
from vectorstores.base import StoreSettings
from vectorstores.documents import delete as deletion
from vectorstores.models import Document
from vectorstores.registry import settings_of, store_for
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db


def stored_ids(target: str = "shop", namespace: str = "") -> set[str]:
    return {vector.id for vector in Local(StoreSettings()).scan(target, namespace)}


def test_documents_are_listed_searched_and_filtered(admin_client, upsert):
    collection = upsert(RETURNS, {**OPENING, "metadata": {"title": NASTY}})
    Document.objects.create(
        collection=upsert(RETURNS, target="other"), parent_vector_id="bad", status="failed", error=f"{NASTY} " * 20
    )
    page = admin_client.get(list_of("document"))
    assert page.context["cl"].result_count == 4
    assert NASTY not in page.text
    for words in ("Returns", "shop (local)", "stored", "failed"):
        assert words in text_of(page)
    for query, count in [("q=return", 2), ("q=bad", 1), ("status__exact=failed", 1),
                         (f"collection__id__exact={collection.pk}", 2)]:  # fmt: skip
        assert admin_client.get(f"{list_of('document')}?{query}").context["cl"].result_count == count, query


@pytest.mark.parametrize(
    ("source", "is_link"),
    [("https://x.example/?a=1&b=2", True), ("javascript:alert(1)", False), ("/srv/docs/a.md", False), (NASTY, False)],
)
def test_a_documents_page_links_only_http_sources(admin_client, upsert, source, is_link):
    upsert(RETURNS)
    document = Document.objects.get()
    document.source, document.error = source, NASTY
    document.save()
    page = admin_client.get(page_of(document))
    assert (f'href="{html.escape(source)}"' in page.text) == is_link
    assert source in text_of(page) or source == NASTY
    assert NASTY not in page.text
    assert admin_client.post(page_of(document), {"title": "other"}).status_code == 403


def test_deleting_a_document_deletes_its_vectors(admin_client, upsert):
    upsert({"id": "long", "content": "x" * 13000}, OPENING)
    document = Document.objects.get(parent_vector_id="long")
    assert "with its vectors" in text_of(admin_client.get(page_of(document, "delete")))
    assert len(stored_ids()) == 4
    response = admin_client.post(page_of(document, "delete"), {"post": "yes"})
    assert response["Location"] == list_of("document")
    assert stored_ids() == {"opening"}
    assert Document.objects.get().parent_vector_id == "opening"
    assert LogEntry.objects.get().is_deletion()


def test_only_vectors_of_the_documents_namespace_are_deleted(admin_client, upsert):
    for namespace in ("", "blue"):
        upsert(RETURNS, namespace=namespace)
    admin_client.post(page_of(Document.objects.get(namespace="blue"), "delete"), {"post": "yes"})
    assert (stored_ids(), stored_ids(namespace="blue")) == ({"returns"}, set())


def test_deleting_several_documents_needs_confirmation(admin_client, upsert):
    upsert(RETURNS, OPENING, EVIL)
    upsert(RETURNS, target="other")
    documents = list(Document.objects.exclude(parent_vector_id="evil"))
    page = choose_deletion(admin_client, *documents)
    assert "Are you sure" in page.text
    assert "Returns in other (Local), with its vectors" in text_of(page)
    assert len(stored_ids()) == 3
    page = choose_deletion(admin_client, *documents, post="yes")
    assert "Successfully deleted 3 documents" in text_of(page)
    assert (stored_ids(), stored_ids("other")) == ({"evil"}, set())
    assert Document.objects.get().parent_vector_id == "evil"


@pytest.fixture
def deletions_fail(qdrant_server):
    """Make Qdrant refuse every deletion."""
    refusal = {"status": {"error": f"No space left {NASTY}"}}
    qdrant_server.serves("/collections/faq/points/delete?wait=true", refusal, 500)


@pytest.mark.parametrize("from_its_page", [True, False])
def test_documents_are_deleted_from_another_store(admin_client, qdrant, qdrant_collection, from_its_page):
    document = Document.objects.get(parent_vector_id="returns")
    if from_its_page:
        admin_client.post(page_of(document, "delete"), {"post": "yes"})
    else:
        choose_deletion(admin_client, document, post="yes")
    store = store_for("qdrant", settings_of(qdrant))
    assert [vector.id for vector in store.scan("faq")] == ["opening"]
    assert Document.objects.get().parent_vector_id == "opening"


def test_many_documents_are_deleted_in_batches(admin_client, qdrant_collection, qdrant_server):
    Document.objects.bulk_create(Document(collection=qdrant_collection, parent_vector_id=f"d{n}") for n in range(448))
    choose_deletion(admin_client, *Document.objects.all(), post="yes")
    deletions = [sent.json for sent in qdrant_server.sent if sent.path.endswith("/points/delete")]
    sizes = [len(body["filter"]["should"][0]["match"]["any"]) for body in deletions]
    assert sizes == [deletion.DELETED_AT_ONCE, deletion.DELETED_AT_ONCE, 50]
    assert not Document.objects.exists()


@pytest.mark.parametrize("from_its_page", [True, False])
def test_a_failed_deletion_keeps_the_document(admin_client, qdrant_collection, deletions_fail, from_its_page):
    document = Document.objects.first()
    if from_its_page:
        page = admin_client.post(page_of(document, "delete"), {"post": "yes"}, follow=True)
        assert page.redirect_chain == [(page_of(document), 302)]
    else:
        page = choose_deletion(admin_client, document, post="yes")
    assert "Qdrant, faq: 1 document was not deleted. Qdrant API Error (500): No space left" in text_of(page)
    assert NASTY not in page.text
    assert "uccessfully" not in page.text
    assert Document.objects.count() == 2
    assert not LogEntry.objects.exists()


def test_a_failing_store_does_not_prevent_deletions_in_others(admin_client, upsert, qdrant_collection, deletions_fail):
    upsert(RETURNS, OPENING, EVIL)
    page = choose_deletion(admin_client, *Document.objects.all(), post="yes")
    assert "Successfully deleted 3 documents" in text_of(page)
    assert "Qdrant, faq: 2 documents were not deleted" in text_of(page)
    assert Document.objects.filter(collection=qdrant_collection).count() == Document.objects.count() == 2
    assert stored_ids() == set()


def test_the_number_of_documents_per_deletion_is_limited(admin_client, upsert, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DELETED", 1)
    upsert(RETURNS, OPENING)
    page = choose_deletion(admin_client, Document.objects.first(), select_across="1")
    assert "At most 1 document" in text_of(page)
    assert Document.objects.count() == 2


def test_a_viewer_cannot_change_test_try_or_delete(client, upsert, qdrant, qdrant_server, openai):
    collection = upsert(RETURNS)
    document = Document.objects.get()
    viewer = sign_in(client, "view_storeconfig", "view_collection", "view_document")
    for row in (qdrant, collection, document):
        assert viewer.get(list_of(row._meta.model_name)).status_code == 200
        page = viewer.get(page_of(row))
        assert page.status_code == 200
        assert SECRET not in page.text
        assert 'name="api_key"' not in page.text
        for leads_to in ("/test_connection/", "/try/", "/delete/"):
            assert leads_to not in page.text
        assert viewer.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403
    assert viewer.post(page_of(qdrant), {"base_url": ""}).status_code == 403
    assert viewer.post(page_of(qdrant, "test_connection"), {"_form_submitted": "True"}).status_code == 403
    assert try_question(viewer, collection).status_code == 403
    choose_deletion(viewer, document, post="yes")
    choose_deletion(viewer, collection, model="collection", post="yes")
    assert stored_ids() == {"returns"}
    assert Document.objects.exists()
    assert not openai.sent
    assert not qdrant_server.sent


def test_deleting_a_collection_needs_the_permission_to_delete_documents(client, upsert):
    collection = upsert(RETURNS)
    deleter = sign_in(client, "view_collection", "delete_collection")
    assert deleter.post(page_of(collection, "delete"), {"post": "yes"}).status_code == 403
    choose_deletion(deleter, collection, model="collection", post="yes")
    assert stored_ids() == {"returns"}


def test_users_without_permission_get_no_links(client, upsert):
    upsert(RETURNS)
    user = sign_in(client, "view_chatbot")
    page = user.get(reverse("admin:index")).text
    for model in ("collection", "document", "storeconfig"):
        assert list_of(model) not in page
        assert user.get(list_of(model)).status_code == 403


def test_the_sidebar_links_to_the_pages(admin_client):
    page = admin_client.get(reverse("admin:index")).text
    for model in ("collection", "document", "storeconfig"):
        assert list_of(model) in page
