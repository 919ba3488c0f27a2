"""Documents that are edited, or embedded again, in the admin."""

import pytest
from django.contrib.admin.models import LogEntry

from tests.support.knowledge.admin_pages import NASTY, OPENING, RETURNS, page_of, text_of
from tests.support.knowledge.imports import run, sent_texts, stored, write
from tests.support.upstream import answering
from vectorstores.documents import edit as editing
from vectorstores.ingestion.claims import Claims
from vectorstores.ingestion.destination import Destination
from vectorstores.models import Collection, Document, DocumentClaim, LocalVector
from vectorstores.sources.uploaded import answer_item, as_lines, text_item
from vectorstores.uploads.queue import queue, run_due

pytestmark = pytest.mark.django_db

KB = Destination("local", "kb", "openai", "emb-1")


def save(client, document: Document, **changes):
    """Open the form of a document, change some fields and post it, as a browser does."""
    page = client.get(page_of(document, "edit_document"))
    sent = {name: value.replace("\n", "\r\n") for name, value in page.context["form"].initial.items()}
    return client.post(page_of(document, "edit_document"), sent | changes, follow=True)


def embed_again(client, document: Document):
    return client.post(page_of(document, "embed_again"), {"_form_submitted": "True"}, headers={"HX-Request": "true"})


def typed(kind: str, item: dict, name: str = "x", destination: Destination = KB) -> Document:
    """Add a typed text or an answer like the admin's form, and return its document."""
    upload = queue(destination, kind, name, as_lines([item]))
    run_due()
    upload.refresh_from_db()
    assert upload.state == "done", upload.last_error
    return Document.objects.get(parent_vector_id=item["id"])


# What is stored


def test_an_edited_text_is_embedded_and_found_in_place_of_the_old_one(admin_client, openai):
    document = typed("text", text_item("Returns", "Within 45 days.", "https://shop.example/returns"))
    openai.sent.clear()
    page = save(admin_client, document, text="Within 60 days.\r\nWith the receipt.", url="")
    assert page.redirect_chain == [(page_of(document), 302)]
    assert "Saved and indexed" in text_of(page)
    assert sent_texts(openai) == ["Returns\nWithin 60 days.\nWith the receipt."]
    (vector,) = stored().values()
    assert vector.text == "Within 60 days.\nWith the receipt."
    assert "url" not in vector.metadata
    assert (Document.objects.get().pk, Document.objects.get().status) == (document.pk, "stored")
    assert LogEntry.objects.get(object_id=str(document.pk)).get_change_message() == "Edited."
    assert not DocumentClaim.objects.exists()


def test_the_same_text_uploaded_after_the_edit_is_unchanged(admin_client, openai):
    document = typed("text", text_item("Returns", "Within 45 days."))
    save(admin_client, document, text="Within 60 days.")
    openai.sent.clear()
    typed("text", text_item("Returns", "Within 60 days."))
    assert not openai.sent
    assert list(stored()) == [document.parent_vector_id]


@pytest.mark.parametrize(("kind", "make"), [("text", text_item), ("questions", answer_item)])
def test_a_typed_text_with_another_title_gets_the_id_of_that_title(admin_client, openai, kind, make):
    document = typed(kind, make("Old title?", "The text."))
    page = save(admin_client, document, title="New  title?")
    assert page.redirect_chain == [(page_of(document), 302)]
    new_id = make("New title?", "")["id"]
    assert list(stored()) == [new_id]
    changed = Document.objects.get()
    assert (changed.pk, changed.parent_vector_id, changed.title) == (document.pk, new_id, "New title?")
    typed(kind, make("New title?", "Another text."))
    assert [vector.text for vector in stored().values()] == ["Another text."]
    assert Document.objects.count() == 1


def test_a_title_that_another_text_has_is_refused(admin_client, openai):
    document = typed("text", text_item("One", "First."))
    typed("text", text_item("Two", "Second."))
    openai.sent.clear()
    page = save(admin_client, document, title="Two", text="Changed.")
    assert "Another document of this collection has this title" in text_of(page)
    assert "Changed." in page.text
    assert {vector.text for vector in stored().values()} == {"First.", "Second."}
    assert not openai.sent


LONG = "# Guide\n\n" + "\n\n".join(
    f"## Part {number}\n\n" + f"Sentence {number} of the guide. " * 80 for number in range(5)
)


def test_a_file_with_a_new_title_keeps_its_chunks_and_its_edit_stays_until_the_file_changes(
    admin_client, openai, tmp_path
):
    file = write(tmp_path / "guide.md", LONG)
    run(file)
    before = stored()
    document = Document.objects.get()
    save(admin_client, document, title="The guide", url="https://shop.example/guide")
    after = stored()
    assert len(after) == len(before) > 4
    for number, vector in after.items():
        assert vector.text == before[number].text
        expected = {"title": "The guide", "url": "https://shop.example/guide"}
        assert vector.metadata == before[number].metadata | expected
    assert run(file)["unchanged"] == 1
    assert {vector.metadata["title"] for vector in stored().values()} == {"The guide"}
    write(file, LONG.replace("Sentence 3", "Statement 3"))
    assert run(file)["documents"] == 1
    assert {vector.metadata["title"] for vector in stored().values()} == {"Guide"}


def test_a_changed_link_costs_no_embedding(admin_client, openai, tmp_path):
    run(write(tmp_path / "guide.md", LONG))
    openai.sent.clear()
    values = {vector.id: vector.values.tolist() for vector in stored().values()}
    save(admin_client, Document.objects.get(), url="https://shop.example/guide")
    assert not openai.sent
    assert {vector.id: vector.values.tolist() for vector in stored().values()} == values


def test_an_edited_file_is_cut_by_its_headings_and_leaves_no_old_chunks(admin_client, openai, tmp_path):
    run(write(tmp_path / "guide.md", LONG))
    document = Document.objects.get()
    save(admin_client, document, text=f"# Guide\n\n{'Intro. ' * 200}\n\n## Only part\n\n{'Short. ' * 200}")
    first, second = stored().values()
    assert ("headings" in first.metadata, second.metadata["headings"]) == (False, "Only part")
    assert Document.objects.get().chunks == 2


def test_the_facts_of_a_row_stay_in_each_chunk_of_its_edited_text(admin_client, openai, tmp_path):
    text = "Waterproof boots. " * 500
    run(write(tmp_path / "shop.csv", f"id,title,text,price\nboots,Boots,{text},89 euros\n"))
    page = admin_client.get(page_of(Document.objects.get(), "edit_document"))
    assert page.context["form"].initial["text"] == f"{text.strip()}\n\nprice: 89 euros"
    save(admin_client, Document.objects.get(), text=f"{'Leather boots. ' * 500}\n\nprice: 89 euros")
    vectors = stored().values()
    assert len(vectors) > 1
    assert all(vector.text.endswith("\n\nprice: 89 euros") and "Leather" in vector.text for vector in vectors)
    assert {vector.metadata["price"] for vector in vectors} == {"89 euros"}


@pytest.mark.parametrize("store", ["qdrant", "local with a namespace"])
def test_documents_of_other_stores_and_namespaces_are_edited_there(
    admin_client, qdrant_collection, qdrant, upsert, store
):
    if store == "qdrant":
        document = Document.objects.get(parent_vector_id="returns")
    else:
        for namespace in ("", "blue"):
            upsert(RETURNS, OPENING, namespace=namespace)
        document = Document.objects.get(namespace="blue", parent_vector_id="returns")
    save(admin_client, document, text="Not any more.")
    page = admin_client.get(page_of(document))
    assert page.context["stored"].text == "Not any more."
    others = Document.objects.exclude(pk=document.pk).select_related("collection")
    texts = {admin_client.get(page_of(other)).context["stored"].text for other in others}
    assert texts <= {RETURNS["content"], OPENING["content"]}


def test_markup_is_stored_as_it_was_typed_and_shown_escaped(admin_client, openai):
    document = typed("text", text_item("Returns", "Within 45 days."))
    save(admin_client, document, text=f"{NASTY} & <b>")
    assert LocalVector.objects.get().text == f"{NASTY} & <b>"
    for name in ("change", "edit_document"):
        assert NASTY not in admin_client.get(page_of(document, name)).text


# What is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", " \r\n\u200b"),
        ("text", "x" * (editing.MAX_EDITED + 1)),
        ("title", " "),
        ("title", "x" * 501),
        ("url", "javascript:alert(1)"),
        ("url", "http://"),
        ("version", ""),
    ],
)
def test_bad_input_changes_nothing(admin_client, openai, field, value):
    document = typed("text", text_item("Returns", "Within 45 days."))
    openai.sent.clear()
    page = save(admin_client, document, **{"text": "Other.", field: value})
    assert page.status_code == 200
    assert set(page.context["form"].errors) == {field}
    assert LocalVector.objects.get().text == "Within 45 days."
    assert not openai.sent


@pytest.mark.parametrize(
    ("answer", "status"), [({"error": {"message": f"out of order {NASTY}"}}, 500), (b"<html>", 200), (b"", 429)]
)
def test_a_failing_embedding_keeps_the_old_version_and_says_why(admin_client, openai, answer, status):
    document = typed("text", text_item("Returns", "Within 45 days."))
    openai.pages["/v1/embeddings"] = answering(answer, status)
    page = save(admin_client, document, text="Within 60 days.")
    assert "The document was not saved." in text_of(page)
    assert NASTY not in page.text
    assert "Within 60 days." in page.text
    assert LocalVector.objects.get().text == "Within 45 days."
    kept = Document.objects.get()
    assert (kept.status, kept.version) == ("stored", document.version)
    assert not DocumentClaim.objects.exists()


def test_after_a_failure_of_the_store_the_form_can_be_sent_again(admin_client, qdrant_collection, qdrant_server):
    document = Document.objects.get(parent_vector_id="returns")
    path = "/collections/faq/points?wait=true"
    qdrant_server.serves(path, {"status": {"error": "No space left"}}, 500)
    page = save(admin_client, document, text="Within 60 days.")
    assert "The document was not saved. Qdrant API Error (500): No space left" in text_of(page)
    assert Document.objects.get(pk=document.pk).status == "failed"
    del qdrant_server.pages[path]
    form = page.context["form"]
    again = admin_client.post(page_of(document, "edit_document"), {name: form[name].value() for name in form.fields})
    assert again["Location"] == page_of(document)
    assert admin_client.get(page_of(document)).context["stored"].text == "Within 60 days."
    assert Document.objects.get(pk=document.pk).status == "stored"


def test_a_document_that_changed_meanwhile_is_not_overwritten(admin_client, upsert, openai):
    upsert(RETURNS)
    document = Document.objects.get()
    sent = admin_client.get(page_of(document, "edit_document")).context["form"].initial
    upsert(RETURNS | {"content": "Changed by the API."})
    page = admin_client.post(page_of(document, "edit_document"), sent | {"text": "Changed by hand."})
    assert "has changed since you opened this page" in text_of(page)
    assert "Changed by hand." in page.text
    assert LocalVector.objects.get().text == "Changed by the API."
    assert not openai.sent


def test_a_deleted_document_is_not_brought_back(admin_client, upsert):
    upsert(RETURNS, OPENING)
    document = Document.objects.get(parent_vector_id="returns")
    sent = admin_client.get(page_of(document, "edit_document")).context["form"].initial
    admin_client.post(page_of(document, "delete"), {"post": "yes"})
    assert admin_client.post(page_of(document, "edit_document"), sent).status_code == 404
    assert list(stored("shop")) == ["opening"]


def test_a_document_deleted_before_it_is_claimed_is_not_brought_back(admin_client, upsert):
    upsert(RETURNS, OPENING)
    document = Document.objects.select_related("collection").get(parent_vector_id="returns")
    Document.objects.filter(pk=document.pk).delete()
    with pytest.raises(editing.DocumentDeleted):
        editing.check_version(document, document.version, document.parent_vector_id)


def test_a_document_that_an_import_is_storing_is_not_edited(admin_client, upsert, openai, monkeypatch):
    upsert(RETURNS)
    document = Document.objects.get()
    monkeypatch.setattr(editing, "PATIENCE", 0.0)
    other = Claims(Destination("local", "shop", "openai", "emb-1"))
    new = editing.NewDocument("returns", [], {})
    other.claim_now([new])
    page = save(admin_client, document, text="Changed by hand.")
    assert "An import is storing it" in text_of(page)
    other.end()
    assert LocalVector.objects.get().text == RETURNS["content"]
    assert not openai.sent


def test_a_document_of_an_unknown_model_is_not_edited(admin_client, upsert, openai):
    upsert(RETURNS)
    Collection.objects.update(embedding_model="")
    page = save(admin_client, Document.objects.get(), text="Changed by hand.")
    assert "The embedding model of this collection is unknown" in text_of(page)
    assert LocalVector.objects.get().text == RETURNS["content"]


def test_a_document_that_is_too_long_has_no_form(admin_client, upsert):
    upsert(RETURNS | {"content": "x" * (editing.MAX_EDITED + 1)})
    page = admin_client.get(page_of(Document.objects.get(), "edit_document"))
    assert "too long to be edited here" in text_of(page)
    assert 'name="text"' not in page.text


def test_without_the_store_there_is_no_form(admin_client, qdrant_collection, qdrant_server):
    qdrant_server.serves("/collections/faq/points/scroll", {"status": {"error": f"broken {NASTY}"}}, 500)
    page = admin_client.get(page_of(Document.objects.first(), "edit_document"))
    assert "Qdrant API Error (500): broken" in text_of(page)
    assert NASTY not in page.text
    assert 'name="text"' not in page.text


# Embed again


def test_a_document_is_embedded_again_as_it_is(admin_client, openai, tmp_path):
    run(write(tmp_path / "guide.md", LONG))
    document, before = Document.objects.get(), stored()
    openai.sent.clear()
    assert embed_again(admin_client, document)["HX-Redirect"] == page_of(document)
    assert len(sent_texts(openai)) == len(before)
    assert {vector.id: (vector.text, vector.metadata) for vector in stored().values()} == {
        vector.id: (vector.text, vector.metadata) for vector in before.values()
    }
    assert Document.objects.get().content_hash == document.content_hash


def test_a_failed_document_is_stored_again_by_embedding_it_again(admin_client, upsert):
    upsert(RETURNS)
    Document.objects.update(status="failed", error="No space left")
    embed_again(admin_client, Document.objects.get())
    assert (Document.objects.get().status, Document.objects.get().error) == ("stored", "")


@pytest.mark.parametrize("missing", ["a chunk", "all"])
def test_a_document_that_the_store_has_in_part_is_not_embedded_again(admin_client, upsert, openai, missing):
    upsert(RETURNS | {"content": "word " * 3000})
    chunks = LocalVector.objects.order_by("vector_id")
    LocalVector.objects.filter(pk__in=[chunk.pk for chunk in chunks[: 1 if missing == "a chunk" else None]]).delete()
    document = Document.objects.get()
    embed_again(admin_client, document)
    page = admin_client.get(page_of(document))
    assert "The store has only a part of it." in text_of(page)
    assert ("chunks of two versions" if missing == "a chunk" else "has nothing of this document") in text_of(page)
    assert not openai.sent


def test_saving_the_rest_of_a_document_makes_it_whole(admin_client, openai, tmp_path):
    run(write(tmp_path / "guide.md", LONG))
    LocalVector.objects.order_by("vector_id")[0].delete()
    save(admin_client, Document.objects.get(), title="Guide")
    page = admin_client.get(page_of(Document.objects.get()))
    assert page.context["stored"].is_complete
    assert Document.objects.get().chunks == LocalVector.objects.count()


def test_a_text_that_the_store_lost_can_be_typed_again(admin_client, upsert):
    upsert(RETURNS)
    LocalVector.objects.all().delete()
    save(admin_client, Document.objects.get(), text="Within 45 days.")
    assert (LocalVector.objects.get().text, LocalVector.objects.get().title) == ("Within 45 days.", "Returns")
