"""Knowledge in the admin: saving credentials, testing a store, trying a question, deleting what is stored."""

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
    """Qdrant with a saved key; no store is configured by the environment."""
    settings.VECTOR_STORE_ENVIRONMENT = {}
    config = StoreConfig.objects.get(slug="qdrant")
    config.api_key, config.base_url = SECRET, qdrant_server.url
    config.save()
    return config


@pytest.fixture
def put(api, openai):
    """Stores texts through the API; gives the collection."""

    def put(*items, target="shop", provider="local", **changes):
        body = {"provider": provider, "target_id": target, "vectors": list(items), **changes}
        response = api.post(
            "/vector-stores/upsert", json={**body, "embedding_provider": "openai", "embedding_model": "emb-1"}
        )
        assert response.status_code == 200, response.text
        openai.sent.clear()
        return Collection.objects.get(store=provider, name=target)

    return put


@pytest.fixture
def foreign(qdrant, qdrant_server, put) -> Collection:
    """A collection in Qdrant with two documents."""
    store_for("qdrant", settings_of(qdrant)).create("faq", 64)
    collection = put(RETURNS, OPENING, target="faq", provider="qdrant")
    qdrant_server.sent.clear()
    return collection


def colleague(client, *permissions: str):
    """The client, signed in as somebody who may do just that."""
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
    """Send the form as the browser does: with what the page showed, changed."""
    form = client.get(page_of(config)).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields if name != "forget_api_key"}
    return client.post(page_of(config), data | changes)


def press(client, config: StoreConfig) -> str:
    """Confirm the dialog behind “Test connection”; the text of the page to which it leads."""
    url = page_of(config, "test_connection")
    assert "_form_submitted" in client.get(url).text
    answer = client.post(url, {"_form_submitted": "True"})
    assert answer["HX-Redirect"] == page_of(config)
    page = client.get(answer["HX-Redirect"])
    assert NASTY not in page.text
    return text_of(page)


def ask(client, collection: Collection, question: str = "How many days may shoes be returned?", **changes):
    asked = {"question": question, "top_k": "5", "threshold": "10", **changes}
    return client.post(page_of(collection, "try_question"), asked)


def choose_deletion(client, *documents: Document, model: str = "document", **more):
    chosen = {"action": "delete_selected", "_selected_action": [document.pk for document in documents]}
    return client.post(list_of(model), {**chosen, **more}, follow=True)


def stored(target: str = "shop", namespace: str = "") -> set[str]:
    return {vector.id for vector in Local(StoreSettings()).scan(target, namespace)}


# Vector stores


def test_the_stores_are_listed_with_where_their_key_comes_from(admin_client, settings, qdrant):
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
    assert 'name="forget_api_key"' not in page  # no such field
    assert save(admin_client, config, base_url="https://store.example.com", api_key="k").status_code == 302


def test_the_key_goes_in_and_never_comes_out(admin_client, qdrant):
    assert SECRET not in admin_client.get(page_of(qdrant)).text
    wrong = save(admin_client, qdrant, api_key="qd-typed-now", base_url="no url")
    assert wrong.status_code == 200
    assert "qd-typed-now" not in wrong.text
    save(admin_client, qdrant, api_key="  qd-typed-now\n")
    qdrant.refresh_from_db()
    assert qdrant.api_key == "qd-typed-now"
    assert "qd-typed-now" not in str(LogEntry.objects.values_list())


def test_an_empty_key_field_leaves_the_key_until_it_is_forgotten(admin_client, qdrant):
    save(admin_client, qdrant)
    qdrant.refresh_from_db()
    assert qdrant.api_key == SECRET
    save(admin_client, qdrant, forget_api_key="on")
    qdrant.refresh_from_db()
    assert qdrant.api_key == ""


def test_a_saved_key_does_not_move_to_another_address(admin_client, qdrant):
    assert "Enter the key again" in save(admin_client, qdrant, base_url="https://elsewhere.example").text
    qdrant.refresh_from_db()
    assert qdrant.base_url.startswith("http://127.0.0.1:")
    assert save(admin_client, qdrant, base_url="https://elsewhere.example", api_key="qd-new").status_code == 302


def test_a_key_that_cannot_be_read_is_told_so(admin_client, settings, qdrant):
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    qdrant.save()
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert "saved but unreadable" in admin_client.get(list_of("storeconfig")).text
    assert "No key in PUFFER_ENCRYPTION_KEYS can decrypt it" in admin_client.get(page_of(qdrant)).text


def test_a_store_is_neither_added_nor_deleted(admin_client, qdrant):
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
def test_a_connection_that_works(admin_client, qdrant, qdrant_server, names, words):
    qdrant_server.serves("/collections", {"result": {"collections": [{"name": name} for name in names]}})
    assert words in press(admin_client, qdrant)
    assert qdrant_server.sent[0].headers["api-key"] == SECRET


def test_a_tenant_and_a_database_are_names_and_no_paths(admin_client, upstream):
    chroma = StoreConfig.objects.get(slug="chroma")
    place = "/api/v2/tenants/acme%2F..%2Fx/databases/kb%3Fa"
    upstream.serves(f"{place}/collections?limit=200&offset=0", [])
    save(admin_client, chroma, base_url=upstream.url, tenant="acme/../x", database="kb?a")
    assert "Connected to Chroma. It has no collections yet." in press(admin_client, chroma)


def test_what_the_store_says_is_shown(admin_client, qdrant, qdrant_server):
    qdrant_server.serves("/collections", {"status": {"error": f"Key {SECRET} is wrong"}}, 403)
    page = press(admin_client, qdrant)
    assert "Connection failed: Qdrant API Error (403): Key [redacted] is wrong" in page


def test_a_store_that_is_slow_is_not_waited_for(admin_client, qdrant, qdrant_server, monkeypatch):
    monkeypatch.setattr(connection, "TRIAL_SECONDS", 0.2)
    qdrant_server.pages["/collections"] = lambda connection: time.sleep(1)
    started = time.monotonic()
    assert "Qdrant did not answer within 0.2 seconds" in press(admin_client, qdrant)
    assert time.monotonic() - started < 0.9


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("pinecone", "Pinecone API Key is required."),
        ("qdrant", "Qdrant's URL is required."),
        ("chroma", "Chroma's URL is required."),
    ],
)
def test_a_store_that_is_not_configured(admin_client, settings, slug, words):
    settings.VECTOR_STORE_ENVIRONMENT = {}
    config = StoreConfig.objects.get(slug=slug)
    assert f"No. {words}" in text_of(admin_client.get(page_of(config)))
    assert f"Connection failed: {words}" in press(admin_client, config)


def test_a_get_request_calls_no_store(admin_client, qdrant, qdrant_server):
    admin_client.get(page_of(qdrant, "test_connection"))
    assert not qdrant_server.sent


# Collections


def test_collections_are_listed_with_their_documents(admin_client, put, foreign):
    put(RETURNS, OPENING, EVIL)
    page = admin_client.get(list_of("collection"))
    for words in ("shop", "Local", "64", "OpenAI, emb-1", "faq", "Qdrant"):
        assert words in text_of(page)
    counts = re.findall(r'href="(/admin/vectorstores/document/[^"]*)">(\d+)<', page.text)
    assert sorted(count for _, count in counts) == ["2", "3"]
    link = next(link for link, count in counts if count == "3")
    assert admin_client.get(html.unescape(link)).context["cl"].result_count == 3


def test_a_collections_page_tells_how_many_vectors_there_are(admin_client, put):
    collection = put(RETURNS, {"id": "long", "content": "x" * 7000})
    assert "3 passages are indexed in Local." in text_of(admin_client.get(page_of(collection)))


def test_the_store_is_asked_for_a_page_and_never_for_the_list(admin_client, foreign, qdrant_server):
    admin_client.get(list_of("collection"))
    assert not qdrant_server.sent
    assert "2 passages are indexed in Qdrant." in text_of(admin_client.get(page_of(foreign)))
    assert [sent.path for sent in qdrant_server.sent].count("/collections/faq/points/count") == 1


def test_a_store_that_fails_leaves_the_page(admin_client, foreign, qdrant_server):
    qdrant_server.serves("/collections/faq", {"status": {"error": f"Out of order {NASTY}"}}, 500)
    page = admin_client.get(page_of(foreign))
    assert page.status_code == 200
    assert "Qdrant API Error (500): Out of order" in text_of(page)
    assert NASTY not in page.text


def test_a_collection_is_not_written_by_hand(admin_client, put):
    collection = put(RETURNS)
    assert admin_client.get(reverse("admin:vectorstores_collection_add")).status_code == 403
    assert admin_client.post(page_of(collection), {"name": "other"}).status_code == 403


def test_deleting_a_local_collection_deletes_its_vectors(admin_client, put):
    collection = put(RETURNS, OPENING)
    other = put(RETURNS, target="other")
    page = admin_client.get(page_of(collection, "delete"))
    assert "shop (Local) with its documents and all its vectors" in text_of(page)
    assert admin_client.post(page_of(collection, "delete"), {"post": "yes"}).status_code == 302
    assert {vector.collection_id for vector in LocalVector.objects.all()} == {other.pk}
    assert {document.collection_id for document in Document.objects.all()} == {other.pk}
    choose_deletion(admin_client, other, model="collection", post="yes")
    assert not Collection.objects.exists()
    assert not LocalVector.objects.exists()


def test_deleting_a_foreign_collection_says_that_the_store_keeps_its_data(admin_client, foreign, qdrant_server):
    for page in (
        admin_client.get(page_of(foreign, "delete")),
        choose_deletion(admin_client, foreign, model="collection"),
    ):
        assert "Qdrant keeps the collection and its vectors" in text_of(page)
        assert "Documents: 2" in text_of(page)
    assert admin_client.post(page_of(foreign, "delete"), {"post": "yes"}).status_code == 302
    assert not Document.objects.exists()
    assert not qdrant_server.sent


# Try a question


def test_a_question_shows_what_a_chatbot_would_be_shown(admin_client, put, openai):
    collection = put(RETURNS, OPENING)
    assert page_of(collection, "try_question") in admin_client.get(page_of(collection)).text
    assert 'name="question"' in admin_client.get(page_of(collection, "try_question")).text
    assert not openai.sent
    page = ask(admin_client, collection)
    first, *_ = page.context["passages"]
    assert first.title == "Returns"
    assert first.score > 0.3
    for words in ("Shoes may be returned within 45 days.", "https://shop.example/returns", f"{first.score:.3f}"):
        assert words in text_of(page)
    assert 'href="https://shop.example/returns"' in page.text
    assert openai.sent[0].json["input"] == ["How many days may shoes be returned?"]
    assert UsageEvent.objects.filter(operation="embedding").last().input_tokens == 7


def test_what_a_document_says_is_shown_and_not_obeyed(admin_client, put):
    page = ask(admin_client, put({**EVIL, "metadata": {**EVIL["metadata"], "headings": NASTY}}))
    assert page.context["passages"]
    assert NASTY not in page.text
    assert html.escape(NASTY) in page.text
    assert "javascript:alert" not in page.text


@pytest.mark.parametrize(
    ("changes", "count"), [({"threshold": "0"}, 2), ({"threshold": "0", "top_k": "1"}, 1), ({"threshold": "100"}, 0)]
)
def test_how_many_passages_count(admin_client, put, changes, count):
    page = ask(admin_client, put(RETURNS, OPENING), **changes)
    assert f"{count} passage" in text_of(page)
    assert len(page.context["passages"]) == count


@pytest.mark.parametrize("changes", [{"question": " "}, {"top_k": "0"}, {"top_k": "51"}, {"threshold": "101"}])
def test_what_cannot_be_asked(admin_client, put, openai, changes):
    page = ask(admin_client, put(RETURNS), **changes)
    assert page.context["form"].errors
    assert not openai.sent


def test_a_namespace_is_a_place_of_its_own(admin_client, put):
    collection = put(RETURNS, namespace="blue")
    assert not ask(admin_client, collection).context["passages"]
    assert len(ask(admin_client, collection, namespace="blue").context["passages"]) == 1


def test_a_store_without_namespaces_is_not_asked_for_one(admin_client, foreign):
    assert 'name="namespace"' not in admin_client.get(page_of(foreign, "try_question")).text


def test_a_question_to_another_store(admin_client, foreign):
    passages = ask(admin_client, foreign).context["passages"]
    assert passages[0].title == "Returns"


def test_what_went_wrong_is_shown(admin_client, put, openai):
    collection = put(RETURNS)
    openai.pages["/v1/embeddings"] = answering({"error": {"message": f"Out of order {NASTY}"}}, 500)
    page = ask(admin_client, collection)
    assert "Out of order" in text_of(page)
    assert NASTY not in page.text
    assert "How many days may shoes be returned?" in page.text  # to be sent again


def test_without_an_embedding_model_nothing_can_be_asked(admin_client, openai):
    collection = Collection.objects.create(store="local", name="moved", dimension=4)
    assert "The embedding model of this collection is unknown" in text_of(ask(admin_client, collection))
    assert not openai.sent


@pytest.mark.parametrize("pk", ["999", "x", "_"])
def test_a_collection_that_is_not_there(admin_client, pk):
    assert admin_client.get(reverse("admin:vectorstores_collection_try_question", args=[pk])).status_code == 404


# Documents


def test_documents_are_listed_found_and_filtered(admin_client, put):
    collection = put(RETURNS, {**OPENING, "metadata": {"title": NASTY}})
    Document.objects.create(
        collection=put(RETURNS, target="other"), parent_vector_id="bad", status="failed", error=f"{NASTY} " * 20
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
def test_a_documents_page(admin_client, put, source, is_link):
    put(RETURNS)
    document = Document.objects.get()
    document.source, document.error = source, NASTY
    document.save()
    page = admin_client.get(page_of(document))
    assert (f'href="{html.escape(source)}"' in page.text) == is_link
    assert source in text_of(page) or source == NASTY
    assert NASTY not in page.text
    assert admin_client.post(page_of(document), {"title": "other"}).status_code == 403


def test_a_deleted_document_takes_its_vectors_along(admin_client, put):
    put({"id": "long", "content": "x" * 13000}, OPENING)
    document = Document.objects.get(parent_vector_id="long")
    assert "with its vectors" in text_of(admin_client.get(page_of(document, "delete")))
    assert len(stored()) == 4
    response = admin_client.post(page_of(document, "delete"), {"post": "yes"})
    assert response["Location"] == list_of("document")
    assert stored() == {"opening"}
    assert Document.objects.get().parent_vector_id == "opening"
    assert LogEntry.objects.get().is_deletion()


def test_a_deletion_goes_by_namespace(admin_client, put):
    for namespace in ("", "blue"):
        put(RETURNS, namespace=namespace)
    admin_client.post(page_of(Document.objects.get(namespace="blue"), "delete"), {"post": "yes"})
    assert (stored(), stored(namespace="blue")) == ({"returns"}, set())


def test_several_are_deleted_once_that_is_confirmed(admin_client, put):
    put(RETURNS, OPENING, EVIL)
    put(RETURNS, target="other")
    documents = list(Document.objects.exclude(parent_vector_id="evil"))
    page = choose_deletion(admin_client, *documents)
    assert "Are you sure" in page.text
    assert "Returns in other (Local), with its vectors" in text_of(page)
    assert len(stored()) == 3
    page = choose_deletion(admin_client, *documents, post="yes")
    assert "Successfully deleted 3 documents" in text_of(page)
    assert (stored(), stored("other")) == ({"evil"}, set())
    assert Document.objects.get().parent_vector_id == "evil"


@pytest.fixture
def full(qdrant_server):
    """Qdrant deletes nothing."""
    refusal = {"status": {"error": f"No space left {NASTY}"}}
    qdrant_server.serves("/collections/faq/points/delete?wait=true", refusal, 500)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_another_store_is_asked_to_delete(admin_client, qdrant, foreign, one_by_one):
    document = Document.objects.get(parent_vector_id="returns")
    if one_by_one:
        admin_client.post(page_of(document, "delete"), {"post": "yes"})
    else:
        choose_deletion(admin_client, document, post="yes")
    store = store_for("qdrant", settings_of(qdrant))
    assert [vector.id for vector in store.scan("faq")] == ["opening"]
    assert Document.objects.get().parent_vector_id == "opening"


def test_many_go_in_batches(admin_client, foreign, qdrant_server):
    Document.objects.bulk_create(Document(collection=foreign, parent_vector_id=f"d{n}") for n in range(448))
    choose_deletion(admin_client, *Document.objects.all(), post="yes")
    asked = [sent.json for sent in qdrant_server.sent if sent.path.endswith("/points/delete")]
    sizes = [len(body["filter"]["should"][0]["match"]["any"]) for body in asked]
    assert sizes == [deletion.DELETED_AT_ONCE, deletion.DELETED_AT_ONCE, 50]
    assert not Document.objects.exists()


@pytest.mark.parametrize("one_by_one", [True, False])
def test_if_the_store_fails_the_document_stays(admin_client, foreign, full, one_by_one):
    document = Document.objects.first()
    if one_by_one:
        page = admin_client.post(page_of(document, "delete"), {"post": "yes"}, follow=True)
        assert page.redirect_chain == [(page_of(document), 302)]
    else:
        page = choose_deletion(admin_client, document, post="yes")
    assert "Qdrant, faq: 1 document was not deleted. Qdrant API Error (500): No space left" in text_of(page)
    assert NASTY not in page.text
    assert "uccessfully" not in page.text
    assert Document.objects.count() == 2
    assert not LogEntry.objects.exists()


def test_one_store_that_fails_does_not_keep_the_others(admin_client, put, foreign, full):
    put(RETURNS, OPENING, EVIL)
    page = choose_deletion(admin_client, *Document.objects.all(), post="yes")
    assert "Successfully deleted 3 documents" in text_of(page)
    assert "Qdrant, faq: 2 documents were not deleted" in text_of(page)
    assert Document.objects.filter(collection=foreign).count() == Document.objects.count() == 2
    assert stored() == set()


def test_what_is_too_much_at_once(admin_client, put, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DELETED", 1)
    put(RETURNS, OPENING)
    page = choose_deletion(admin_client, Document.objects.first(), select_across="1")
    assert "At most 1 document" in text_of(page)
    assert Document.objects.count() == 2


# Who may do what


def test_who_may_only_look(client, put, qdrant, qdrant_server, openai):
    collection = put(RETURNS)
    document = Document.objects.get()
    viewer = colleague(client, "view_storeconfig", "view_collection", "view_document")
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
    assert ask(viewer, collection).status_code == 403
    choose_deletion(viewer, document, post="yes")
    choose_deletion(viewer, collection, model="collection", post="yes")
    assert stored() == {"returns"}
    assert Document.objects.exists()
    assert not openai.sent
    assert not qdrant_server.sent


def test_who_may_not_delete_documents_may_not_delete_them_with_their_collection(client, put):
    collection = put(RETURNS)
    deleter = colleague(client, "view_collection", "delete_collection")
    assert deleter.post(page_of(collection, "delete"), {"post": "yes"}).status_code == 403
    choose_deletion(deleter, collection, model="collection", post="yes")
    assert stored() == {"returns"}


def test_whoever_may_not_see_knowledge_is_not_led_there(client, put):
    put(RETURNS)
    stranger = colleague(client, "view_chatbot")
    page = stranger.get(reverse("admin:index")).text
    for model in ("collection", "document", "storeconfig"):
        assert list_of(model) not in page
        assert stranger.get(list_of(model)).status_code == 403


def test_the_sidebar_leads_to_knowledge(admin_client):
    page = admin_client.get(reverse("admin:index")).text
    for model in ("collection", "document", "storeconfig"):
        assert list_of(model) in page
