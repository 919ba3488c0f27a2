"""One suite for all vector stores; the fixture `place` is each of them in turn."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asgiref.sync import async_to_sync

from puffer.api.errors import ApiError
from tests.support.stores.place import DIMENSION
from tests.support.stores.vectors import ids_of, random_vectors, scan_all, search, vector
from vectorstores.base import CollectionInfo, Metric, Query
from vectorstores.documents.rename import rename
from vectorstores.errors import CollectionNotFound
from vectorstores.models import Collection, Document


def document(parent, total):
    """Return the chunks of a document with the ids that ingestion gives them: a single chunk has its parent's id."""
    ids = [parent] if total == 1 else [f"{parent}_chunk_{index}" for index in range(total)]
    return [
        vector(vector_id, (1.0, index, 0.0, 0.0), f"{parent} {total} {index}", parent=parent, index=index, total=total)
        for index, vector_id in enumerate(ids)
    ]


def test_an_empty_collection_is_described(place, target):
    dimension = None if place.name == "chroma" else DIMENSION  # Chroma takes the dimension from the first vector
    assert place.store.describe(target) == CollectionInfo(target, dimension, Metric.COSINE, 0)
    assert scan_all(place, target) == {}
    assert search(place, target) == []


def test_a_collection_is_described_with_its_count(place, target):
    place.store.upsert(target, random_vectors(3))
    assert place.store.describe(target) == CollectionInfo(target, DIMENSION, Metric.COSINE, 3)


def test_creating_an_existing_collection_changes_nothing(place, target):
    place.store.upsert(target, [vector("a")])
    place.store.create(target, DIMENSION)
    assert place.store.describe(target).count == 1


def test_collections_are_listed_in_order(place):
    targets = {place.new_collection() for _ in range(3)}
    listed = place.store.list_targets()
    assert targets <= set(listed)
    assert listed == sorted(listed)


def test_many_vectors_are_stored_in_batches_and_read_back_complete(place, target):
    vectors = random_vectors(250)
    place.store.upsert(target, vectors)
    assert place.store.describe(target).count == 250
    found = scan_all(place, target)
    assert found.keys() == {one.id for one in vectors}
    for one in vectors:
        assert (found[one.id].text, found[one.id].metadata) == (one.text, one.metadata)
        assert [type(value) for value in found[one.id].metadata.values()] == [
            type(one.metadata[name]) for name in found[one.id].metadata
        ]
        length = np.linalg.norm(found[one.id].values) * np.linalg.norm(one.values)  # some stores normalize vectors
        assert float(found[one.id].values @ one.values) == pytest.approx(length)
        assert found[one.id].values.dtype == np.float32


def test_upserting_an_existing_id_replaces_the_vector(place, target):
    place.store.upsert(target, [vector("a", text="old", color="red"), vector("b")])
    place.store.upsert(target, [vector("a", (0.0, 1.0, 0.0, 0.0), "new", size=3)])
    found = scan_all(place, target)
    assert (len(found), found["a"].text) == (2, "new")
    assert "color" not in found["a"].metadata
    best = search(place, target, (0.0, 1.0, 0.0, 0.0))[0]
    assert (best.id, best.text, best.metadata["size"]) == ("a", "new", 3)
    assert best.score == pytest.approx(1.0)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (5, 2), (2, 2), (130, 3)])
def test_replacing_a_document_removes_its_old_chunks(place, target, before, after):
    place.store.replace(target, [*document("doc", before), *document("other", 3)])
    place.store.replace(target, document("doc", after))
    texts = {one.text for one in scan_all(place, target).values()}
    assert texts == {one.text for one in [*document("doc", after), *document("other", 3)]}


def test_several_documents_are_replaced_at_once(place, target):
    before, after = {"a": 3, "b": 1, "c": 4, "d": 2}, {"a": 1, "b": 3, "c": 2}
    place.store.replace(target, [one for name, total in before.items() for one in document(name, total)])
    place.store.replace(target, [one for name, total in after.items() for one in document(name, total)])
    expected = {one.text for name, total in {**after, "d": 2}.items() for one in document(name, total)}
    assert {one.text for one in scan_all(place, target).values()} == expected


def test_deleting_documents_deletes_all_their_chunks(place, target):
    place.store.upsert(target, [one for at in range(120) for one in document(f"d{at}", 1 + at % 2)])
    place.store.delete_parents(target, [f"d{at}" for at in range(110)] + ["never-there"])
    left = scan_all(place, target).values()
    assert {one.parent_id for one in left} == {f"d{at}" for at in range(110, 120)}
    assert place.store.describe(target).count == len(left)
    assert {match.metadata["parent_vector_id"] for match in search(place, target, top_k=100)} == {
        one.parent_id for one in left
    }


def test_deleting_an_unknown_document_is_no_error(place, target):
    place.store.delete_parents(target, ["a"])
    place.store.delete_parents(target, ["a"], "never-used")
    place.store.replace(target, [vector("a")], "never-used")


def test_namespaces_are_separate(place, target):
    if not place.store.has_namespaces:
        pytest.skip(f"{place.store.label} has no namespaces")
    for namespace in ("", "blue", "grün 1"):
        place.store.replace(target, [vector("a", text=f"in {namespace}")], namespace)
    place.store.delete_parents(target, ["a"], "blue")
    assert [one.text for one in scan_all(place, target).values()] == ["in "]
    assert scan_all(place, target, "blue") == {}
    assert search(place, target, namespace="blue") == []
    assert [match.text for match in search(place, target, namespace="grün 1")] == ["in grün 1"]
    assert place.store.describe(target).count == 2


def test_stores_without_namespaces_ignore_them(place, target):
    if place.store.has_namespaces:
        pytest.skip(f"{place.store.label} has namespaces")
    place.store.replace(target, [vector("a")], "blue")
    assert ids_of(search(place, target, namespace="green")) == ["a"]


CALLS = {
    "describe": lambda store, target: store.describe(target),
    "query": lambda store, target: store.query(target, Query(np.ones(DIMENSION, np.float32), 3)),
    "upsert": lambda store, target: store.upsert(target, [vector("a")]),
    "replace": lambda store, target: store.replace(target, [vector("a")]),
    "delete_parents": lambda store, target: store.delete_parents(target, ["a"]),
    "delete_leftovers": lambda store, target: store.delete_leftovers(target, [vector("a")]),
    "scan": lambda store, target: list(store.scan(target)),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_on_a_missing_collection_are_404(place, target, call):
    place.store.upsert(target, [vector("a")])
    search(place, target)
    place.delete_by_hand(target)  # bypasses the driver and its caches
    for missing in (target, "never-there", "a name/with ünïcode?", str(uuid.uuid4())):
        with pytest.raises(CollectionNotFound) as raised:
            CALLS[call](place.store, missing)
        assert raised.value.status == 404
        assert missing in raised.value.message


def test_a_recreated_collection_is_usable(place, target):
    place.store.replace(target, document("doc", 3))
    search(place, target)
    place.delete_by_hand(target)
    if place.store.in_database:
        place.store.create(target, 3)
    else:
        other = type(place.store)(place.store.settings)  # a driver of another process, with its own caches
        other.create(target, 3)
    place.store.describe(target)  # every import starts with it
    place.store.replace(target, [vector("doc", (0.0, 1.0, 0.0))])
    assert ids_of(search(place, target, (0.0, 1.0, 0.0))) == ["doc"]
    assert place.store.describe(target) == CollectionInfo(target, 3, Metric.COSINE, 1)


def test_vectors_of_another_dimension_are_refused(place, target):
    place.store.upsert(target, [vector("a")])
    for call in (
        lambda: place.store.upsert(target, [vector("b", (1.0, 2.0))]),
        lambda: search(place, target, (1.0, 2.0)),
    ):
        with pytest.raises(ApiError) as raised:
            call()
        assert raised.value.status == 400
    assert scan_all(place, target).keys() == {"a"}


TEXTS = [
    "Grüße aus Zürich – naïve café",
    "日本語のテキスト。中文 한국어 " * 400,
    "שלום עולם \u202eمرحبا بالعالم\u202c",
    "👩‍👩‍👧‍👦 🇹🇷 🏳️‍🌈 e\u0301",
    '"quoted" \'single\' \\back\\slash\\ {"json": [1]} ${x} {{y}} %s',
    "line\nbreaks\r\nand\ttabs\u2028\u2029",
    "<script>alert('x')</script> & &amp;",
    "x" * 6000,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_and_metadata_are_stored_unchanged(place, target, text):
    short = text[:2000]
    metadata = {
        "title": short,
        "with-dash_and_underscore": "x",
        "integer": -(2**53) + 1,
        "real": 0.1 + 0.2,
        "yes": True,
        "no": False,
        "none": "",
        "list": [short, "b", ""],
    }
    place.store.upsert(target, [vector("a", text=text, **metadata)])
    kept = {**vector("a", text=text, **metadata).metadata}
    if not place.store.keeps_lists:
        kept["list"] = json.dumps(kept["list"], ensure_ascii=False)
    found = scan_all(place, target)["a"]
    match = search(place, target)[0]
    assert (found.text, match.text) == (text, text)
    assert found.metadata == kept
    assert match.metadata == kept


@pytest.mark.parametrize(
    "vector_id",
    ["a b", "a/b?c=d#e", "../..", "UPPER", "upper", "-", "0", "a" * 150, "doc_chunk_0", "%41", "'\"\\", "ü😀"],
)
def test_odd_ids(place, target, vector_id):
    if place.name == "pinecone" and not vector_id.isascii():
        pytest.skip("Pinecone accepts only ASCII ids")
    parent = vector_id[:80]
    place.store.upsert(target, [vector("other"), vector("Upper", text="Upper")])
    place.store.replace(target, [vector(vector_id, text="old", parent=parent)])
    place.store.replace(target, [vector(vector_id, (0.0, 1.0, 0.0, 0.0), "new", parent=parent)])
    assert scan_all(place, target)[vector_id].text == "new"
    assert search(place, target, (0.0, 1.0, 0.0, 0.0), top_k=1)[0].id == vector_id
    place.store.delete_parents(target, [parent])
    assert scan_all(place, target).keys() == {"other", "Upper"}


def test_long_ids_are_all_read_back(place, target):
    """Together, 150 such ids are too long for one URL."""
    vectors = [vector(f"{'x' * 140}{at:04}", parent="doc") for at in range(150)]
    place.store.upsert(target, vectors)
    assert scan_all(place, target).keys() == {one.id for one in vectors}


def test_large_vectors_and_texts_are_stored(place):
    """Some stores limit the size of a request, so combine the largest common embedding with the longest chunk."""
    target = place.new_collection(dimension=3072)
    values = np.random.default_rng(1).normal(size=(100, 3072)).astype(np.float32)
    place.store.upsert(target, [vector(f"v{at}", values[at], "漢字" * 3000) for at in range(100)])
    assert place.store.describe(target).count == 100


def test_a_driver_is_thread_safe(place, target, settings):
    if place.store.in_database:
        pytest.skip("each thread has its own database connection: see test_processes.py")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: place.store.replace(target, document(f"d{at}", 2)), range(24)))
        found = list(pool.map(lambda _: ids_of(search(place, target, top_k=100)), range(16)))
    assert {len(ids) for ids in found} == {48}


def test_scanning_one_document_does_not_read_the_others(place):
    target = place.new_collection()
    place.store.upsert(target, [*document("long", 3), *document("longer", 1), *random_vectors(600)])
    if place.server:
        place.server.sent.clear()
    found = {vector.id: vector for vector in place.store.scan(target, parent_id="long")}
    assert found.keys() == {f"long_chunk_{index}" for index in range(3)}
    assert list(place.store.scan(target, parent_id="lon")) == []
    if place.server:
        reads = [sent for sent in place.server.sent if not sent.path.endswith("/index")]
        assert len(reads) <= 4


def test_renaming_a_document_updates_its_chunks(db, configured_place):
    """Every chunk gets the new title and a new id; other documents stay unchanged."""
    place = configured_place
    target = place.new_collection()
    place.store.replace(target, [*document("long", 3), *document("longer", 1), *document("other", 2)])
    before = scan_all(place, target)
    collection, _ = Collection.objects.get_or_create(store=place.store.slug, name=target)
    stored = Document.objects.create(collection=collection, parent_vector_id="long", title="Old", content_hash="x")
    for _ in range(2):  # again, as after an interrupted rename
        Document.objects.filter(pk=stored.pk).update(parent_vector_id="long")
        async_to_sync(rename)(Document.objects.select_related("collection").get(), "new", "New")
    after = scan_all(place, target)
    assert after.keys() == {f"new_chunk_{index}" for index in range(3)} | {"longer", "other_chunk_0", "other_chunk_1"}
    for index in range(3):
        old, new = before[f"long_chunk_{index}"], after[f"new_chunk_{index}"]
        names = {"vector_id": new.id, "parent_vector_id": "new", "title": "New"}
        assert (new.text, new.metadata) == (old.text, old.metadata | names)
        assert np.allclose(new.values, old.values)
    stored.refresh_from_db()
    assert (stored.parent_vector_id, stored.title, stored.content_hash) == ("new", "New", "")
