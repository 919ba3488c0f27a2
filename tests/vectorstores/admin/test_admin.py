"""Vector stores in the admin: credentials, the connection test, trying a question, deleting documents."""

import html
import re
import time

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from logs.models import UsageEvent
from tests.support.stores.place import KEYS
from tests.support.upstream import answering
from vectorstores import check_connection as connection
from vectorstores.admin import documents
from vectorstores.base import StoreSettings
from vectorstores.ingestion import delete as deletion
from vectorstores.models import Collection, Document, LocalVector, StoreConfig
from vectorstores.registry import settings_of, store_for
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db

SECRET = KEYS["qdrant"]
NASTY = "<script>alert(1)</script>"
RETURNS = {
    "id": "returns",
    "content": "Shoes may be returned within 45 days.",
    "metadata": {"title": "Returns", "url": "https://shop.example/returns"},
}
OPENING = {"id": "opening", "content": "We open at nine.", "metadata": {"title": "Opening hours"}}
EVIL = {"id": "evil", "content": f"Shoes returned {NASTY}", "metadata": {"title": "x", "url": "javascript:alert(1)"}}


@pytest.fixture
def qdrant(qdrant_server, settings) -> StoreConfig:
    """Save a key and a URL for Qdrant; no store is configured by the environment."""
    settings.VECTOR_STORE_ENVIRONMENT = {}
    config = StoreConfig.objects.get(slug="qdrant")
    config.api_key, config.base_url = SECRET, qdrant_server.url
    config.save()
    return config


@pytest.fixture
def upsert(api, openai):
    """Return a function that upserts texts through the API and returns their collection."""

    def upsert(*items, target="shop", provider="local", **changes):
        body = {"provider": provider, "target_id": target, "vectors": list(items), **changes}
        response = api.post(
            "/vector-stores/upsert", json={**body, "embedding_provider": "openai", "embedding_model": "emb-1"}
        )
        assert response.status_code == 200, response.text
        openai.sent.clear()
        return Collection.objects.get(store=provider, name=target)

    return upsert


@pytest.fixture
def qdrant_collection(qdrant, qdrant_server, upsert) -> Collection:
    """Return a collection in Qdrant with two documents."""
    store_for("qdrant", settings_of(qdrant)).create("faq", 64)
    collection = upsert(RETURNS, OPENING, target="faq", provider="qdrant")
    qdrant_server.sent.clear()
    return collection


def sign_in(client, *permissions: str):
    """Sign the client in as a user with only these permissions, and return it."""
    user = get_user_model().objects.create_user("colleague", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def page_of(row, page: str = "change") -> str:
    return reverse(f"admin:vectorstores_{row._meta.model_name}_{page}", args=[row.pk])


def list_of(model: str) -> str:
    return reverse(f"admin:vectorstores_{model}_changelist")


def text_of(response) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text)))


def save(client, config: StoreConfig, **changes):
    """Post the page's form with these changes, as a browser does."""
    form = client.get(page_of(config)).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields if name != "forget_api_key"}
    return client.post(page_of(config), data | changes)


def run_connection_test(client, config: StoreConfig) -> str:
    """Confirm the dialog of “Test connection”, and return the text of the page that follows."""
    url = page_of(config, "test_connection")
    assert "_form_submitted" in client.get(url).text
    answer = client.post(url, {"_form_submitted": "True"})
    assert answer["HX-Redirect"] == page_of(config)
    page = client.get(answer["HX-Redirect"])
    assert NASTY not in page.text
    return text_of(page)


def try_question(client, collection: Collection, question: str = "How many days may shoes be returned?", **changes):
    deletions = {"question": question, "top_k": "5", "threshold": "10", **changes}
    return client.post(page_of(collection, "try_question"), deletions)


def choose_deletion(client, *documents: Document, model: str = "document", **more):
    chosen = {"action": "delete_selected", "_selected_action": [document.pk for document in documents]}
    return client.post(list_of(model), {**chosen, **more}, follow=True)


def stored_ids(target: str = "shop", namespace: str = "") -> set[str]:
    return {vector.id for vector in Local(StoreSettings()).scan(target, namespace)}


# Vector stores


def test_the_list_shows_the_source_of_each_key(admin_client, settings, qdrant):
    settings.VECTOR_STORE_ENVIRONMENT = {"chroma": {"api_key": "ck-of-the-environment"}}
    page = admin_client.get(list_of("storeconfig")).text
    rows = re.findall(r"<tr.*?field-label.*?</tr>", page, re.DOTALL)
    assert len(rows) == 3
    for label, state in {"Pinecone": "missing", "Qdrant": "saved here", "Chroma": "from the environment"}.items():
        [row] = [row for row in rows if f">{label}<" in row]
        assert state in row
    assert "https://api.pinecone.io" in page
    assert qdrant.base_url in page
    assert "ck-of-the-environment" not in page
    assert SECRET not in page


@pytest.mark.parametrize("slug", ["pinecone", "qdrant", "chroma"])
def test_only_chroma_has_a_tenant_and_a_database(admin_client, slug):
    config = StoreConfig.objects.get(slug=slug)
    page = admin_client.get(page_of(config)).text
    for name in ("tenant", "database"):
        assert (f'name="{name}"' in page) == (slug == "chroma")
    assert 'name="forget_api_key"' not in page  # no key is saved
    assert save(admin_client, config, base_url="https://store.example.com", api_key="k").status_code == 302


def test_a_saved_key_is_never_shown(admin_client, qdrant):
    assert SECRET not in admin_client.get(page_of(qdrant)).text
    wrong = save(admin_client, qdrant, api_key="qd-typed-now", base_url="no url")
    assert wrong.status_code == 200
    assert "qd-typed-now" not in wrong.text
    save(admin_client, qdrant, api_key="  qd-typed-now\n")
    qdrant.refresh_from_db()
    assert qdrant.api_key == "qd-typed-now"
    assert "qd-typed-now" not in str(LogEntry.objects.values_list())


def test_an_empty_key_field_keeps_the_key_and_the_checkbox_deletes_it(admin_client, qdrant):
    save(admin_client, qdrant)
    qdrant.refresh_from_db()
    assert qdrant.api_key == SECRET
    save(admin_client, qdrant, forget_api_key="on")
    qdrant.refresh_from_db()
    assert qdrant.api_key == ""


def test_a_new_base_url_needs_the_key_again(admin_client, qdrant):
    assert "Enter the key again" in save(admin_client, qdrant, base_url="https://elsewhere.example").text
    qdrant.refresh_from_db()
    assert qdrant.base_url.startswith("http://127.0.0.1:")
    assert save(admin_client, qdrant, base_url="https://elsewhere.example", api_key="qd-new").status_code == 302


def test_an_unreadable_key_is_reported(admin_client, settings, qdrant):
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    qdrant.save()
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert "saved but unreadable" in admin_client.get(list_of("storeconfig")).text
    assert "No key in PUFFER_ENCRYPTION_KEYS can decrypt it" in admin_client.get(page_of(qdrant)).text


def test_stores_cannot_be_added_or_deleted(admin_client, qdrant):
    assert admin_client.get(reverse("admin:vectorstores_storeconfig_add")).status_code == 403
    assert admin_client.post(page_of(qdrant, "delete"), {"post": "yes"}).status_code == 403


# Test connection


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "Connected to Qdrant. It has no collections yet."),
        (["shop", NASTY], f"Connected to Qdrant. 2 collections: {NASTY}, shop."),
        (
            [f"c{n:02}" for n in range(12)],
            "12 collections: c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 2 more.",
        ),
    ],
)
def test_a_successful_connection_test(admin_client, qdrant, qdrant_server, names, words):
    qdrant_server.serves("/collections", {"result": {"collections": [{"name": name} for name in names]}})
    assert words in run_connection_test(admin_client, qdrant)
    assert qdrant_server.sent[0].headers["api-key"] == SECRET


def test_tenant_and_database_are_percent_encoded(admin_client, upstream):
    chroma = StoreConfig.objects.get(slug="chroma")
    place = "/api/v2/tenants/acme%2F..%2Fx/databases/kb%3Fa"
    upstream.serves(f"{place}/collections?limit=200&offset=0", [])
    save(admin_client, chroma, base_url=upstream.url, tenant="acme/../x", database="kb?a")
    assert "Connected to Chroma. It has no collections yet." in run_connection_test(admin_client, chroma)


def test_the_stores_error_message_is_shown(admin_client, qdrant, qdrant_server):
    qdrant_server.serves("/collections", {"status": {"error": f"Key {SECRET} is wrong"}}, 403)
    page = run_connection_test(admin_client, qdrant)
    assert "Connection failed: Qdrant API Error (403): Key [redacted] is wrong" in page


def test_the_connection_test_times_out(admin_client, qdrant, qdrant_server, monkeypatch):
    monkeypatch.setattr(connection, "TRIAL_SECONDS", 0.2)
    qdrant_server.pages["/collections"] = lambda connection: time.sleep(1)
    started = time.monotonic()
    assert "Qdrant did not answer within 0.2 seconds" in run_connection_test(admin_client, qdrant)
    assert time.monotonic() - started < 0.9


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("pinecone", "Pinecone API Key is required."),
        ("qdrant", "Qdrant's URL is required."),
        ("chroma", "Chroma's URL is required."),
    ],
)
def test_a_store_without_configuration_is_reported(admin_client, settings, slug, words):
    settings.VECTOR_STORE_ENVIRONMENT = {}
    config = StoreConfig.objects.get(slug=slug)
    assert f"No. {words}" in text_of(admin_client.get(page_of(config)))
    assert f"Connection failed: {words}" in run_connection_test(admin_client, config)


def test_the_connection_test_needs_a_post(admin_client, qdrant, qdrant_server):
    admin_client.get(page_of(qdrant, "test_connection"))
    assert not qdrant_server.sent


# Collections


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


def test_collections_cannot_be_added_or_edited(admin_client, upsert):
    collection = upsert(RETURNS)
    assert admin_client.get(reverse("admin:vectorstores_collection_add")).status_code == 403
    assert admin_client.post(page_of(collection), {"name": "other"}).status_code == 403


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


# Try a question


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


# Documents


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


# Permissions


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
