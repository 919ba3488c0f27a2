"""manage.py rebuild_word_index: words of what is stored already, or of what other programs have stored."""

import io
from dataclasses import replace

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.support.stores.vectors import vector
from tests.support.upstream import answering
from vectorstores.documents.rename import rename
from vectorstores.models import Collection, Document, LocalVector
from vectorstores.stores.qdrant import Qdrant
from vectorstores.word_index.rebuild import add, can_be_found

pytestmark = pytest.mark.django_db
every_store = pytest.mark.parametrize("place", ["pinecone", "qdrant", "chroma"], indirect=True)
one_store = pytest.mark.parametrize("place", ["qdrant"], indirect=True)
with_namespaces = pytest.mark.parametrize("place", ["pinecone"], indirect=True)

PUMP = {"id": "pump", "content": "The pump AB-1234 needs a new seal each year.", "metadata": {"title": "Pumps"}}
HOSE = {"id": "hose", "content": "Order the hose as CX-77/9."}


def run(**options):
    out = io.StringIO()
    call_command("rebuild_word_index", stdout=out, stderr=out, **options)
    return out.getvalue()


@every_store
def test_what_was_stored_before_is_found_after_a_rebuild(filled):
    filled.upsert(PUMP, HOSE)
    expected = list(LocalVector.objects.order_by("vector_id").values("vector_id", "parent_vector_id", "title", "text"))
    LocalVector.objects.all().delete()
    assert filled.found("What is AB-1234?") == []
    assert f"{filled.target} ({filled.place.store.slug}): indexed 62 chunks." in run()
    assert filled.found("What is AB-1234?") == ["pump"]
    rows = LocalVector.objects.order_by("vector_id")
    assert list(rows.values("vector_id", "parent_vector_id", "title", "text")) == expected
    run()
    assert rows.count() == 62


@every_store
def test_words_that_the_store_no_longer_has_are_deleted(filled):
    filled.upsert(PUMP, HOSE)
    filled.place.store.delete_parents(filled.target, ["pump"])  # by another program
    run(store=filled.place.store.slug, collection=[filled.target])
    assert filled.words().keys() == {"hose"}


@one_store
def test_texts_are_deleted_where_the_setting_is_off(filled):
    filled.upsert(PUMP)
    other = Collection.objects.create(store="local", name="untouched", dimension=4, searches_words=False)
    kept = LocalVector.objects.create(collection=other, vector_id="a", values=b"0" * 16, text="a", scope="x")
    Collection.objects.filter(store="qdrant").update(searches_words=False)
    filled.place.server.sent.clear()
    assert "Its texts are deleted." in run()
    assert list(LocalVector.objects.all()) == [kept]
    assert not filled.place.server.sent


@every_store
def test_a_collection_of_another_program_is_indexed_by_its_name(filled):
    target = filled.place.new_collection()
    others = [vector(f"decoy-{at}", (1.0, at / 100, 0.0, 0.0), "Decoy") for at in range(60)]
    filled.place.store.upsert(target, [vector("pump", (0.3, 0.95, 0.0, 0.0), "Called AB-1234."), *others])
    with pytest.raises(CommandError, match="Name its store with --store"):
        run(collection=[target])
    assert "indexed 61 chunks." in run(store=filled.place.store.slug, collection=[target])
    filled.target = target
    assert filled.words() == {"pump": "Called AB-1234."}
    assert filled.found("What is AB-1234?") == ["pump"]


@one_store
def test_chunks_that_no_query_can_look_up_are_left_out(filled):
    fine = vector("fine")
    odd = [
        vector("x" * 151),
        vector("long", parent="y" * 101),
        vector("blank", text=" "),
        replace(fine, id="other"),
        replace(fine, id="nul\0", metadata={**fine.metadata, "vector_id": "nul\0"}),
        replace(fine, id="unnamed", metadata={"parent_vector_id": "unnamed"}),
    ]
    assert [one.id for one in (fine, *odd) if can_be_found(one)] == ["fine"]
    filled.place.store.upsert(filled.target, [fine, *odd[:3]])
    assert "indexed 61 chunks. Left out 3 that" in run()


@with_namespaces
def test_all_namespaces_are_indexed_or_those_that_are_named(filled):
    for namespace in ("", "blue", "green"):
        filled.upsert(PUMP, namespace=namespace)
    LocalVector.objects.all().delete()
    run(namespace=["blue"])
    assert (filled.words(), filled.words("green")) == ({}, {})
    assert filled.words("blue").keys() == {"pump"}
    run()
    assert filled.words().keys() == filled.words("blue").keys() == filled.words("green").keys() == {"pump"}


@one_store
def test_a_failure_keeps_the_words_and_the_other_collections(filled):
    filled.upsert(PUMP)
    broken = Collection.objects.create(store="qdrant", name="aaa", dimension=4)
    with pytest.raises(CommandError, match="1 collection could not be indexed") as failed:
        run()
    assert failed.value.returncode == 1
    broken.delete()
    path = f"/collections/{filled.target}/points/scroll"
    filled.place.server.pages[path] = answering({"status": {"error": "Out of order"}}, 500)
    with pytest.raises(CommandError) as failed:
        run()
    assert failed.value.returncode == 2
    assert filled.found("What is AB-1234?") == ["pump"]


@one_store
def test_an_unknown_collection_is_refused(filled):
    with pytest.raises(CommandError, match="no collection named 'missing'"):
        run(store="qdrant", collection=["missing"])
    assert not Collection.objects.filter(name="missing").exists()


@one_store
def test_documents_that_change_during_a_rebuild_are_left_alone(filled):
    documents = [
        {"id": name, "content": f"{name} before"} for name in ("same", "changed", "renamed", "deleted", "failed")
    ]
    filled.upsert(*documents)
    recorded = {hash(document.parent_vector_id) for document in Document.objects.all()}
    started, chunks = timezone.now(), list(filled.place.store.scan(filled.target))

    filled.upsert({"id": "changed", "content": "changed after"})
    async_to_sync(rename)(Document.objects.select_related("collection").get(parent_vector_id="renamed"), "new", "")
    Document.objects.get(parent_vector_id="deleted").delete()
    Document.objects.filter(parent_vector_id="failed").update(status=Document.Status.FAILED, updated_at=timezone.now())
    filled.collection.vectors.filter(vector_id__in=["same", "failed"]).delete()

    added = add(filled.collection, "", chunks, recorded, started)
    assert added == 62
    assert filled.words() == {
        "same": "same before", "failed": "failed before", "new": "renamed before", "changed": "changed after",
    }  # fmt: skip


@one_store
def test_turning_the_setting_off_during_a_rebuild_stops_it(filled):
    filled.upsert(PUMP)
    chunks = list(filled.place.store.scan(filled.target))
    Collection.objects.update(searches_words=False)
    LocalVector.objects.all().delete()
    assert add(filled.collection, "", chunks, set(), timezone.now()) == 0
    assert not LocalVector.objects.exists()


@one_store
def test_a_collection_that_is_deleted_meanwhile_is_left_out(filled, monkeypatch):
    filled.upsert(PUMP)
    scan = Qdrant.scan

    def scan_while_somebody_deletes(store, *place):
        Collection.objects.filter(store="qdrant").delete()
        yield from scan(store, *place)

    monkeypatch.setattr(Qdrant, "scan", scan_while_somebody_deletes)
    assert f"{filled.target} (qdrant): was deleted meanwhile." in run()
    assert not LocalVector.objects.exists()
