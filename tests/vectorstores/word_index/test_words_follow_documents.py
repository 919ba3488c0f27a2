"""The indexed words follow the documents of Pinecone, Qdrant and Chroma: stored, replaced, renamed, moved, deleted."""

import io
import json
import os
import signal
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command

from providers.run_async import run_async
from tests.support.installation import wait_until
from tests.support.knowledge.admin_pages import choose_deletion, list_of, page_of
from tests.support.knowledge.importer import Importer
from tests.support.stores.filled import DECOYS, broken_word_index
from tests.support.stores.place import KEYS
from tests.support.stores.vectors import scan_all
from tests.support.upstream import answering, fast_embedding
from vectorstores.documents.edit import Edited, edit
from vectorstores.documents.rename import rename
from vectorstores.models import Collection, Document, LocalVector
from vectorstores.sources.uploaded import TYPED

pytestmark = pytest.mark.django_db
every_store = pytest.mark.parametrize("place", ["pinecone", "qdrant", "chroma"], indirect=True)
one_store = pytest.mark.parametrize("place", ["qdrant"], indirect=True)

PUMP = {"id": "pump", "content": "The pump AB-1234 needs a new seal each year.", "metadata": {"title": "Pumps"}}
LONG = {"id": "long", "content": "Filler. " * 900 + "It ends with CX-77/9."}


@every_store
def test_a_replaced_document_is_found_by_its_new_words_only(filled):
    filled.upsert(PUMP, LONG)
    assert filled.words().keys() == {"pump", "long_chunk_0", "long_chunk_1"}
    assert (filled.found("What is AB-1234?"), filled.found("What is CX-77/9?")) == (["pump"], ["long"])
    filled.upsert({**PUMP, "content": "Now it is called CD-5678."}, {**LONG, "content": "Short: EF-9."})
    assert filled.words() == {"pump": "Now it is called CD-5678.", "long": "Short: EF-9."}
    assert (filled.found("What is AB-1234?"), filled.found("What is CX-77/9?")) == ([], [])
    assert (filled.found("What is CD-5678?"), filled.found("What is EF-9?")) == (["pump"], ["long"])


@every_store
def test_a_renamed_document_is_found_under_its_new_id(filled):
    filled.upsert(PUMP, LONG)
    document = Document.objects.select_related("collection").get(parent_vector_id="long")
    async_to_sync(rename)(document, "renamed", "New title XY-11")
    assert filled.words().keys() == {"pump", "renamed_chunk_0", "renamed_chunk_1"}
    assert set(filled.found("What is CX-77/9?")) == set(filled.found("What is XY-11?")) == {"renamed"}


@one_store
def test_edited_documents_are_found_by_their_new_words_and_title(filled):
    filled.upsert(PUMP, {"id": "hose", "content": "CX-77/9", "metadata": {"title": "Hose"}})
    for name, origin in (("pump", ""), ("hose", next(iter(TYPED)))):  # only a typed text has its title as its id
        Document.objects.filter(parent_vector_id=name).update(origin=origin)
        document = Document.objects.select_related("collection").get(parent_vector_id=name)
        edited = Edited(f"Edited {name}", "", f"The {name} is called GH-12.")
        run_async(partial(edit, document, edited, document.version))
    assert "hose" not in filled.words()
    assert len(filled.words()) == 2
    assert (filled.found("What is AB-1234?"), filled.found("What is CX-77/9?")) == ([], [])
    ids = Document.objects.filter(title__startswith="Edited").values_list("parent_vector_id", flat=True)
    assert set(filled.found("What is GH-12?", top_k=3)) == set(ids) == filled.words().keys()


@every_store
def test_deleted_documents_lose_their_words(filled, admin_client):
    filled.upsert(PUMP, LONG)
    pump, long = (Document.objects.get(parent_vector_id=name) for name in ("pump", "long"))
    admin_client.post(page_of(pump, "delete"), {"post": "yes"})
    assert filled.words().keys() == {"long_chunk_0", "long_chunk_1"}
    choose_deletion(admin_client, long, post="yes")
    assert filled.words() == {}
    assert filled.found("What is CX-77/9?") == []
    assert filled.collection.vectors.count() == len(DECOYS)


@every_store
def test_words_of_failed_deletions_stay(filled, admin_client):
    if filled.place.name != "qdrant":
        pytest.skip("one store is enough")
    filled.upsert(PUMP)
    path = f"/collections/{filled.target}/points/delete?wait=true"
    filled.place.server.pages[path] = answering({"status": {"error": "Out of order"}}, 500)
    admin_client.post(page_of(Document.objects.get(parent_vector_id="pump"), "delete"), {"post": "yes"})
    assert filled.words().keys() == {"pump"}


@one_store
def test_deleting_a_collections_record_deletes_the_texts(filled, admin_client):
    filled.upsert(PUMP)
    page = admin_client.get(page_of(filled.collection, "delete"))
    assert "only the records and texts here" in page.text
    admin_client.post(page_of(filled.collection, "delete"), {"post": "yes"})
    assert not LocalVector.objects.exists()


@one_store
def test_a_namespace_that_the_store_ignores_makes_no_difference(filled):
    filled.upsert(PUMP, namespace="blue")
    filled.upsert({**PUMP, "content": "CD-5678"}, namespace="green")
    assert filled.words() == {"pump": "CD-5678"}


@every_store
def test_imports_write_prune_and_reembed_words(filled, tmp_path):
    pump, hose = tmp_path / "pump.md", tmp_path / "hose.md"
    pump.write_text("# Pump\n\nCalled AB-1234.")
    hose.write_text("# Hose\n\nCalled CX-77/9.")
    options = {"provider": filled.place.store.slug, "stdout": io.StringIO(), "stderr": io.StringIO()}
    options |= {"embedding_provider": "openai", "embedding_model": "emb-1"}
    call_command("import_vectors", str(tmp_path), target=filled.target, **options)
    assert len(filled.words()) == 2
    assert len(filled.found("What is AB-1234?")) == len(filled.found("What is CX-77/9?")) == 1

    hose.unlink()
    call_command("import_vectors", str(tmp_path), target=filled.target, prune=True, **options)
    assert [text for text in filled.words().values() if "CX-77/9" in text] == []
    assert len(filled.words()) == 1

    options["embedding_model"] = "emb-2"
    other = filled.place.new_collection()
    call_command("reembed", target=filled.target, to=other, **options)
    moved = Collection.objects.get(name=other)
    assert moved.vectors.filter(text__contains="AB-1234").count() == 1
    assert len(filled.words()) == 1  # of the old collection


@one_store
def test_the_words_of_a_collection_that_the_store_has_lost_are_deleted(filled, tmp_path):
    filled.upsert(PUMP)
    filled.place.delete_by_hand(filled.target)
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"id": "hose", "content": "Called CX-77/9."}))
    options = {"embedding_provider": "openai", "embedding_model": "emb-1", "stdout": io.StringIO()}
    call_command("import_vectors", str(file), target=filled.target, provider="qdrant", create=True, **options)
    assert list(LocalVector.objects.values_list("vector_id", flat=True)) == ["hose"]


@one_store
def test_only_words_are_kept_here(filled):
    filled.upsert({**PUMP, "metadata": {"title": "Pumps", "owner": "somebody"}})
    row = LocalVector.objects.get(vector_id="pump")
    assert (bytes(row.values), row.metadata) == (b"", {})
    assert (row.title, row.text) == ("Pumps", PUMP["content"])


@one_store
@pytest.mark.django_db(transaction=True)
def test_an_import_fails_as_a_whole_if_its_words_cannot_be_written(filled):
    """No document is recorded without its words, so the next import stores both."""
    with broken_word_index(), pytest.raises(AssertionError, match="500"):
        filled.upsert(PUMP)
    assert not Document.objects.filter(parent_vector_id="pump").exists()


@pytest.mark.slow
def test_an_import_killed_between_store_and_words_is_completed_by_the_next(tmp_path, upstream, qdrant_server):
    upstream.pages["/v1/embeddings"] = fast_embedding
    variables = {
        "OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"{upstream.url}/v1",
        "QDRANT_URL": qdrant_server.url, "QDRANT_API_KEY": KEYS["qdrant"], "PRIVATE_HOST_ALLOWLIST": "127.0.0.1",
    }  # fmt: skip
    path = "/collections/kb/points?wait=true"
    with Importer.new(tmp_path, **variables) as importer:
        importer.manage("migrate")
        source = importer.source(30)

        def store_and_kill(connection):
            with qdrant_server.lock:
                qdrant_server.answer(connection.received)
            os.kill(importer.processes[-1].pid, signal.SIGKILL)

        qdrant_server.pages[path] = store_and_kill
        killed = importer.start_import(source, "--provider=qdrant", "--create")
        wait_until(lambda: killed.poll() is not None, 60)
        assert qdrant_server.engine.count("kb").count > 0
        assert importer.counts() == (0, 0, 0, 0)

        del qdrant_server.pages[path]
        importer.finish(importer.start_import(source, "--provider=qdrant"))
        assert importer.counts() == (30, 30, 30, 30)
        assert qdrant_server.engine.count("kb").count == 30


@one_store
def test_the_collections_page_shows_and_changes_the_setting(filled, admin_client):
    filled.upsert(PUMP)
    page = admin_client.get(page_of(filled.collection))
    assert "61 of 61 chunks" in page.text
    assert "rebuild_word_index" not in page.text.replace("run the command rebuild_word_index", "")
    filled.collection.vectors.filter(vector_id="pump").delete()
    page = admin_client.get(page_of(filled.collection))
    assert "60 of 61 chunks. To add the others, run:" in page.text
    assert f"rebuild_word_index --store=qdrant --collection={filled.target}" in page.text
    assert admin_client.post(page_of(filled.collection), {}).status_code == 302  # the box is not checked
    assert filled.collection.searches_words is False
    page = admin_client.get(page_of(filled.collection))
    assert "To delete their texts, run:" in page.text
    assert admin_client.get(list_of("collection")).status_code == 200


@every_store
def test_stored_texts_are_as_the_store_has_them(filled):
    filled.upsert(PUMP, LONG)
    stored = scan_all(filled.place, filled.target)
    assert filled.words() == {key: one.text for key, one in stored.items() if not one.text.startswith("Decoy")}
