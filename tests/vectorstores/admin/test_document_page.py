"""The page of a document: its text and chunks as stored, the chatbots that use it, the questions that found it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from logs.models import Conversation, Message, new_uuid
from tests.support.knowledge.admin_pages import NASTY, OPENING, RETURNS, page_of, sign_in, text_of
from tests.support.knowledge.imports import run, write
from vectorstores.admin import documents
from vectorstores.base import Vector
from vectorstores.documents.stored import StoredDocument
from vectorstores.extraction.markdown import from_markdown
from vectorstores.ingestion.chunking import Chunking
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import make_document
from vectorstores.models import Document, LocalVector

pytestmark = pytest.mark.django_db

SHOP = Destination("local", "shop", "openai", "emb-1")


# The text, put together from its chunks


def rebuilt(content: str, *, by_structure: bool = False, facts: str = "", size: int = 200, overlap: int = 0) -> str:
    """Cut a text and put it together again."""
    document = make_document(
        {"id": "x", "content": content}, SHOP, chunking=Chunking(size, overlap),
        extracted=from_markdown(content) if by_structure else None, facts=facts,
    )  # fmt: skip
    chunks = range(len(document.chunks))
    assert len(chunks) > 1
    made = [Vector(str(at), [], document.chunks[at].text, document.vector_metadata(at)) for at in chunks]
    return StoredDocument(made).text


PROSE = " ".join(f"Sentence {number} tells one thing." for number in range(60))
TABLE = "| size | price |\n| --- | --- |\n" + "\n".join(f"| {row} | {row} euros |" for row in range(60))
GUIDE = f"# Guide\n\nAbove.\n\n## Prices\n\nAll of them:\n\n{TABLE}\n\nWith taxes.\n\n## Rest\n\n{PROSE}"


@pytest.mark.parametrize("content", [PROSE, "x" * 1000, "äöü " * 300, "same " * 300, "line\r\n" * 200])
def test_a_text_cut_by_characters_is_put_together_exactly(content):
    assert rebuilt(content) == content


def test_a_text_with_facts_has_them_once():
    assert rebuilt(PROSE, facts="price: 5") == f"{PROSE}\n\nprice: 5"


@pytest.mark.parametrize("overlap", [0, 60])
@pytest.mark.parametrize(
    "content", [GUIDE, PROSE, TABLE, "- one\n- two\n" * 60], ids=["guide", "prose", "table", "list"]
)
def test_a_text_cut_by_structure_keeps_all_words_and_lines(content, overlap):
    text = rebuilt(content, by_structure=True, overlap=overlap)
    assert text.split() == content.split()
    if "|" in content:
        assert TABLE in text


@pytest.mark.parametrize("positions", [{}, {"char_start": 0, "char_end": 3}, {"char_start": "a", "char_end": None}])
def test_chunks_without_positions_are_paragraphs(positions):
    vectors = [Vector(text, [], text, {"parent_vector_id": "x", **positions}) for text in ("one", "two")]
    assert StoredDocument(vectors).text == "one\n\ntwo"


# The page


def test_the_page_shows_text_chunks_and_metadata_as_stored(admin_client, upsert):
    text = " ".join(f"word{number}" for number in range(3000))
    metadata = {"title": "Returns", "url": "https://shop.example/returns", "topics": ["shoes", NASTY], "page": 3}
    upsert({"id": "long", "content": text, "metadata": metadata})
    page = admin_client.get(page_of(Document.objects.get()))
    shown = text_of(page)
    assert text in shown
    assert "Chunk 4" in shown
    assert f"{len(text):,} characters" in shown
    assert 'href="https://shop.example/returns"' in page.text
    assert "topics shoes," in shown
    assert "page 3" in shown
    assert "Added with the API" in shown
    assert "text_entry_global_form" not in shown
    assert page_of(Document.objects.get(), "delete") in page.text
    assert NASTY not in page.text
    chunks = [vector.text for vector in page.context["chunks"]]
    assert chunks == [vector.text for vector in LocalVector.objects.order_by("vector_id")]


def test_headings_stand_above_their_chunks(admin_client, openai, tmp_path):
    run(write(tmp_path / "guide.md", GUIDE), chunk_size=200)
    page = admin_client.get(page_of(Document.objects.get()))
    assert "Prices" in {vector.metadata.get("headings") for vector in page.context["chunks"]}
    assert f"an import of {tmp_path / 'guide.md'}" in text_of(page)


def test_long_documents_are_shown_in_part(admin_client, upsert, monkeypatch):
    monkeypatch.setattr(documents, "MAX_SHOWN", 1000)
    monkeypatch.setattr(documents, "CHUNKS_ON_A_PAGE", 2)
    upsert({"id": "long", "content": "word " * 3000})
    document = Document.objects.get()
    page = admin_client.get(page_of(document))
    assert "These are the first 1,000 characters." in text_of(page)
    assert (len(page.context["shown_text"]), len(page.context["chunks"])) == (1000, 2)
    second = admin_client.get(page_of(document), {"p": "2"})
    assert "Chunk 3" in text_of(second)
    for wrong in ("x", "99", "-1", ""):
        assert admin_client.get(page_of(document), {"p": wrong}).status_code == 200
    assert admin_client.get(page_of(document, "download_text")).content.decode() == "word " * 3000


def test_a_downloaded_text_cannot_run_in_the_browser(admin_client, upsert):
    upsert(RETURNS | {"content": NASTY})
    response = admin_client.get(page_of(Document.objects.get(), "download_text"))
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="returns.txt"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("status", [500, 404])
def test_the_page_opens_while_the_store_fails(admin_client, qdrant_collection, qdrant_server, status):
    qdrant_server.serves("/collections/faq/points/scroll", {"status": {"error": f"broken {NASTY}"}}, status)
    page = admin_client.get(page_of(Document.objects.first()))
    assert page.status_code == 200
    assert ("broken" if status == 500 else "The store has nothing of this document") in text_of(page)
    assert NASTY not in page.text


# Who uses it


def test_the_chatbots_that_search_the_collection_are_linked(admin_client, upsert):
    upsert(RETURNS)
    upsert(OPENING, namespace="blue")
    searches = {"enable_vector_store": True, "collections": ["faq", "shop"]}
    Chatbot.objects.create(name="Shop bot", status="draft", **searches)
    Chatbot.objects.create(name="Blue bot", namespace="blue", **searches)
    Chatbot.objects.create(name="Silent bot", **searches | {"enable_vector_store": False})
    Chatbot.objects.create(name="Other bot", **searches | {"collections": ["faq"]})
    Chatbot.objects.create(name="Qdrant bot", vector_store_provider="qdrant", **searches)
    for namespace, expected in [("", "Shop bot"), ("blue", "Blue bot")]:
        page = admin_client.get(page_of(Document.objects.get(namespace=namespace)))
        assert [name for name in ("Shop", "Blue", "Silent", "Other", "Qdrant") if f"{name} bot" in page.text] == [
            expected.split()[0]
        ]
    assert "No chatbot searches this collection" in text_of(
        admin_client.get(page_of(Document.objects.get(collection=upsert(RETURNS, target="unused"))))
    )


def log_answer(passage, question="How long may I return shoes?", *, days_ago=0, source="widget", **changes):
    at = timezone.now() - timedelta(days=days_ago)
    conversation = Conversation.objects.create(identity=new_uuid(), source=source, created_at=at, updated_at=at)
    Message.objects.create(conversation=conversation, role="user", content=question, created_at=at)
    Message.objects.create(
        conversation=conversation, role="bot", content="45 days.", created_at=at, passages=passage and [passage]
    )


PASSAGE = {"provider": "local", "collection_name": "shop", "namespace": "", "result_id": "returns", "score": 0.71}


@pytest.mark.parametrize(
    ("passage", "more", "is_found"),
    [
        (PASSAGE, {}, True),
        (PASSAGE | {"result_id": "returns_chunk_12", "cited": True}, {}, True),
        (PASSAGE, {"days_ago": 29}, True),
        (PASSAGE, {"days_ago": 31}, False),
        (PASSAGE, {"source": "preview"}, False),
        (PASSAGE | {"result_id": "returns-2"}, {}, False),
        (PASSAGE | {"result_id": "returns_chunk_x"}, {}, False),
        (PASSAGE | {"collection_name": "faq"}, {}, False),
        (PASSAGE | {"provider": "qdrant"}, {}, False),
        (PASSAGE | {"namespace": "blue"}, {}, False),
        (None, {}, False),
        ({}, {}, False),
    ],
)
def test_the_questions_that_found_it_are_listed(admin_client, upsert, passage, more, is_found):
    upsert(RETURNS)
    log_answer(passage, **more)
    page = admin_client.get(page_of(Document.objects.get()))
    assert ("How long may I return shoes?" in page.text) == is_found
    assert len(page.context["questions"]) == is_found
    if is_found:
        assert "0.71" in text_of(page)
        assert ("cited" in text_of(page)) == bool(passage.get("cited"))


def test_a_store_without_namespaces_ignores_those_in_the_log(admin_client, qdrant_collection):
    log_answer(PASSAGE | {"provider": "qdrant", "collection_name": "faq", "namespace": "left over"}, NASTY)
    page = admin_client.get(page_of(Document.objects.get(parent_vector_id="returns")))
    assert len(page.context["questions"]) == 1
    assert NASTY not in page.text


def test_visitors_words_and_chatbots_are_only_shown_to_users_who_may_see_them(client, upsert):
    upsert(RETURNS)
    log_answer(PASSAGE)
    Chatbot.objects.create(name="Shop bot", enable_vector_store=True, collections=["shop"])
    page = sign_in(client, "view_document").get(page_of(Document.objects.get()))
    assert RETURNS["content"] in page.text
    for hidden in ("How long may I return shoes?", "Shop bot", "edit/", "embed-again"):
        assert hidden not in page.text
