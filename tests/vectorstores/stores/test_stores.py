"""One suite for all vector stores; the fixture `place` is each of them in turn."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asgiref.sync import async_to_sync

from puffer.api.errors import ApiError
from tests.support.stores.place import DIMENSION
from vectorstores.base import CollectionInfo, Metric, Query, Vector
from vectorstores.errors import CollectionNotFound
from vectorstores.ingestion.rename import rename
from vectorstores.models import Collection, Document

URL = "/vector-stores/upsert"


def vector(vector_id, values=(1.0, 0.0, 0.0, 0.0), text="text", *, parent="", index=0, total=1, **metadata):
    chunk_fields = {
        "parent_vector_id": parent or vector_id,
        "vector_id": vector_id,
        "chunk_index": index,
        "total_chunks": total,
        "char_start": 0,
        "char_end": len(text),
        "source": "text_entry_global_form",
    }
    return Vector(vector_id, np.array(values, np.float32), text, metadata | chunk_fields)


def document(parent, total):
    """Return the chunks of a document with the ids that ingestion gives them: a single chunk has its parent's id."""
    ids = [parent] if total == 1 else [f"{parent}_chunk_{index}" for index in range(total)]
    return [
        vector(vector_id, (1.0, index, 0.0, 0.0), f"{parent} {total} {index}", parent=parent, index=index, total=total)
        for index, vector_id in enumerate(ids)
    ]


def scan_all(place, target, namespace=""):
    return {vector.id: vector for vector in place.store.scan(target, namespace)}


def search(place, target, values=(1.0, 0.0, 0.0, 0.0), top_k=10, namespace="", **condition):
    return place.store.query(target, Query(np.array(values, np.float32), top_k, filter=condition), namespace)


def ids_of(matches):
    return [match.id for match in matches]


def random_vectors(count, dimension=DIMENSION):
    values = np.random.default_rng(7).normal(size=(count, dimension)).astype(np.float32)
    return [vector(f"v{at}", values[at], f"text {at}", number=at) for at in range(count)]


@pytest.fixture
def target(place):
    return place.new_collection()


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


FILTERED = [
    {"topic": "shoes", "price": 10, "rate": 0.5, "new": True, "tags": ["red", "blue"]},
    {"topic": "socks", "price": 5, "rate": 1.0, "new": False, "tags": ["red"]},
    {"topic": "shoes", "price": 30, "rate": 2.5, "new": False, "tags": ["x"]},
    {"topic": "10", "number": "1", "flag": 1, "mixed": 2.0},
]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"topic": "shoes"}, {"0", "2"}),
        ({"topic": ["socks", "hats", "10"]}, {"1", "3"}),
        ({"topic": "shoe"}, set()),
        ({"price": 10}, {"0"}),
        ({"price": [10, 30]}, {"0", "2"}),
        ({"rate": 2.5}, {"2"}),
        ({"rate": 1.0}, {"1"}),
        ({"rate": [0.5, 2.5]}, {"0", "2"}),
        ({"rate": 1}, {"1"}),  # integers equal floats
        ({"mixed": 2}, {"3"}),
        ({"price": 5.0}, {"1"}),
        ({"new": True}, {"0"}),
        ({"new": False}, {"1", "2"}),
        ({"number": 1}, set()),  # no text equals a number
        ({"flag": True}, set()),  # no number equals a boolean
        ({"topic": "shoes", "new": False}, {"2"}),
        ({"topic": "shoes", "price": [5, 30], "new": False}, {"2"}),
        ({"parent_vector_id": ["0", "1"]}, {"0", "1"}),
        ({"parent_vector_id": "2"}, {"2"}),
        ({"tags": "red"}, {"0", "1"}),
        ({"tags": ["blue", "x"]}, {"0", "2"}),
        ({"missing": "x"}, set()),
    ],
)
def test_filters(place, target, condition, found):
    if "tags" in condition and not place.store.keeps_lists:
        pytest.skip(f"{place.store.label} stores lists as JSON, which filters cannot search")
    place.store.upsert(target, [vector(str(at), **metadata) for at, metadata in enumerate(FILTERED)])
    assert set(ids_of(search(place, target, **condition))) == found


NEIGHBORS = [
    ("same", (2.0, 0.0, 0.0, 0.0), 1.0),
    ("near", (0.8, 0.6, 0.0, 0.0), 0.8),
    ("far", (0.1, 0.0, 0.0, 0.995), 0.1),
    ("across", (0.0, 3.0, 0.0, 0.0), 0.0),
    ("against", (-5.0, 0.0, 0.0, 0.0), -1.0),
]


@pytest.mark.parametrize("length", [1.0, 0.01, 40.0])
def test_matches_are_sorted_and_scores_are_cosines(place, target, length):
    place.store.upsert(target, [vector(vector_id, values, f"is {vector_id}") for vector_id, values, _ in NEIGHBORS])
    matches = search(place, target, (length, 0.0, 0.0, 0.0))
    assert [match.score for match in matches] == pytest.approx([cosine for *_, cosine in NEIGHBORS], abs=1e-4)
    assert ids_of(matches) == [vector_id for vector_id, *_ in NEIGHBORS]
    assert matches[1].text == "is near"
    assert matches[1].metadata["parent_vector_id"] == "near"
    assert "original_content" not in matches[1].metadata
    assert ids_of(search(place, target, (length, 0.0, 0.0, 0.0), top_k=2)) == ["same", "near"]


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLIDEAN])
def test_scores_are_cosines_for_every_metric(place, metric):
    if place.store.in_database:
        pytest.skip("the local store supports the cosine metric only")
    target = place.new_collection(metric)
    place.store.upsert(target, [vector(vector_id, values) for vector_id, values, _ in NEIGHBORS])
    assert place.store.describe(target).metric is metric
    matches = search(place, target, (3.0, 0.0, 0.0, 0.0))
    assert {match.id: match.score for match in matches} == pytest.approx(
        {vector_id: cosine for vector_id, _, cosine in NEIGHBORS}, abs=1e-4
    )
    assert ids_of(matches) == [vector_id for vector_id, *_ in NEIGHBORS]


def test_the_best_matches_of_many_vectors_are_found(place, target):
    vectors = random_vectors(250)
    place.store.upsert(target, vectors)
    query_values = np.array([0.3, -0.2, 0.9, 0.1], np.float32)
    cosines = {
        one.id: float(one.values @ query_values / np.linalg.norm(one.values) / np.linalg.norm(query_values))
        for one in vectors
    }
    matches = search(place, target, query_values, top_k=20)
    assert ids_of(matches) == sorted(cosines, key=cosines.__getitem__, reverse=True)[:20]
    assert [match.score for match in matches] == pytest.approx([cosines[match.id] for match in matches], abs=1e-4)


def test_a_zero_vector_has_no_similarity(place, target):
    if place.name == "pinecone":
        pytest.skip("Pinecone rejects zero vectors")
    place.store.upsert(target, [vector("zeros", (0.0, 0.0, 0.0, 0.0)), vector("a")])
    assert scan_all(place, target).keys() == {"zeros", "a"}
    scores = {match.id: match.score for match in search(place, target)}
    assert scores["a"] == pytest.approx(1.0)
    assert scores.get("zeros", 0.0) == pytest.approx(0.0)


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


def payload(place, target, *vectors, **more):
    return {
        "provider": place.store.slug,
        "target_id": target,
        "vectors": list(vectors),
        "embedding_provider": "openai",
        "embedding_model": "emb-1",
        **more,
    }


def test_the_api_upserts_into_every_store(api, openai, configured_place):
    place = configured_place
    target = place.new_collection(dimension=64)
    limit = place.store.max_chunk_characters or 6000
    first = {"id": "doc 1", "content": "x" * (limit + 1), "metadata": {"topic": "x"}, "uri": "https://x.example/a"}
    response = api.post(URL, json=payload(place, target, first, {"content": "We ship on Mondays."}))
    assert response.status_code == 200, response.text
    assert response.json()["upserted_count"] == 3
    assert scan_all(place, target).keys() >= {"doc_1_chunk_0", "doc_1_chunk_1"}
    again = {"id": "doc 1", "content": "Returns are accepted within 45 days.", "metadata": {"tags": ["a", "b"]}}
    response = api.post(URL, json=payload(place, target, again))
    assert response.json()["results"] == [{"parent_vector_id": "doc_1", "upserted_count": 1, "total_chunks": 1}]
    found = scan_all(place, target)
    assert sorted(one.text for one in found.values()) == [again["content"], "We ship on Mondays."]
    assert "topic" not in found["doc_1"].metadata


def test_upserting_another_dimension_is_a_mismatch(api, openai, configured_place):
    place = configured_place
    target = place.new_collection()
    place.store.upsert(target, [vector("a")])
    response = api.post(URL, json=payload(place, target, {"id": "a", "content": "x"}))
    assert (response.status_code, response.json()["code"]) == (400, "vector_dimension_mismatch")
    assert response.json()["message"] == "Vector dimension mismatch. Expected 4, got 64."
    assert scan_all(place, target)["a"].text == "text"


def test_a_missing_collection_is_404(api, openai, configured_place):
    if configured_place.store.in_database:
        pytest.skip("the local store creates collections on the first upsert")
    response = api.post(URL, json=payload(configured_place, "missing", {"id": "a", "content": "x"}))
    assert (response.status_code, response.json()["code"]) == (404, "vector_collection_not_found")
    assert not openai.sent


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
