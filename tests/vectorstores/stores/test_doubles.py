"""Our doubles of Qdrant and Pinecone, checked with the vendors' own clients."""

import pytest

from tests.support.stores.place import KEYS

pinecone = pytest.importorskip("pinecone", reason="Pinecone's client is not installed")
pytest.importorskip("qdrant_client", reason="Qdrant's client is not installed")

from pinecone.exceptions import NotFoundException, PineconeApiException, UnauthorizedException  # noqa: E402
from qdrant_client import QdrantClient, models  # noqa: E402
from qdrant_client.http.exceptions import UnexpectedResponse  # noqa: E402

# Qdrant's client warns about every API key that is sent over plain HTTP.
pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")

VECTORS = [
    ("a", [1.0, 0.0, 0.0], {"topic": "shoes", "price": 10, "new": True, "tags": ["red", "blue"]}),
    ("b", [0.8, 0.6, 0.0], {"topic": "socks", "price": 5.5, "new": False, "tags": ["red"]}),
    ("c", [0.0, 0.0, 1.0], {"topic": "shoes", "price": 30, "new": False, "tags": []}),
]


@pytest.fixture
def pinecone_client(pinecone_server):
    with pinecone.Pinecone(api_key=KEYS["pinecone"], host=pinecone_server.url) as client:
        yield client


@pytest.fixture
def pinecone_index(pinecone_client, pinecone_server):
    pinecone_client.create_index(
        "kb", dimension=3, metric="cosine", spec=pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
    )
    with pinecone_client.Index(host=pinecone_server.indexes["kb"].url) as index:
        index.upsert(vectors=VECTORS)
        yield index


def test_pinecone_lists_describes_and_deletes_indexes(pinecone_client, pinecone_index):
    assert pinecone_client.list_indexes().names() == ["kb"]
    assert pinecone_client.has_index("kb")
    described = pinecone_client.describe_index("kb")
    assert (described.dimension, described.metric, described.status.ready) == (3, "cosine", True)
    with pytest.raises(NotFoundException):
        pinecone_client.describe_index("missing")
    pinecone_client.delete_index("kb")
    assert pinecone_client.list_indexes().names() == []


def test_pinecone_checks_the_key(pinecone_server):
    client = pinecone.Pinecone(api_key="wrong", host=pinecone_server.url)
    with client, pytest.raises(UnauthorizedException):
        client.list_indexes()


def test_pinecone_stores_and_queries(pinecone_index):
    found = pinecone_index.query(vector=[2.0, 0.0, 0.0], top_k=2, include_metadata=True, include_values=True)
    assert [(match.id, round(match.score, 6)) for match in found.matches] == [("a", 1.0), ("b", 0.8)]
    assert found.matches[0].metadata == {"topic": "shoes", "price": 10.0, "new": True, "tags": ["red", "blue"]}
    fetched = pinecone_index.fetch(ids=["b", "x"])
    assert list(fetched.vectors) == ["b"]
    assert fetched.vectors["b"].values == pytest.approx([0.8, 0.6, 0.0])
    assert [vector.id for page in pinecone_index.list(limit=2) for vector in page.vectors] == ["a", "b", "c"]
    stats = pinecone_index.describe_index_stats()
    assert (stats.dimension, stats.total_vector_count) == (3, 3)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ({"topic": "shoes"}, {"a", "c"}),
        ({"topic": {"$eq": "shoes"}, "new": {"$eq": True}}, {"a"}),
        ({"topic": {"$ne": "shoes"}}, {"b"}),
        ({"topic": {"$in": ["socks", "hats"]}}, {"b"}),
        ({"tags": {"$in": ["blue"]}}, {"a"}),
        ({"tags": "red"}, {"a", "b"}),
        ({"price": {"$gte": 10}}, {"a", "c"}),
        ({"$and": [{"topic": "shoes"}, {"price": {"$eq": 30}}]}, {"c"}),
        ({"$or": [{"topic": "socks"}, {"price": {"$gt": 20}}]}, {"b", "c"}),
    ],
)
def test_pinecone_filters(pinecone_index, condition, ids):
    found = pinecone_index.query(vector=[1.0, 1.0, 1.0], top_k=9, filter=condition)
    assert {match.id for match in found.matches} == ids
    pinecone_index.delete(filter=condition)
    assert {match.id for match in pinecone_index.query(vector=[1.0, 1.0, 1.0], top_k=9).matches} == {*"abc"} - ids


def test_pinecone_separates_namespaces(pinecone_index):
    pinecone_index.upsert(vectors=VECTORS[:1], namespace="blue")
    assert len(pinecone_index.query(vector=[1.0, 0.0, 0.0], top_k=9, namespace="blue").matches) == 1
    pinecone_index.delete(ids=["a"])
    assert set(pinecone_index.fetch(ids=["a"], namespace="blue").vectors) == {"a"}
    pinecone_index.delete(delete_all=True, namespace="blue")
    with pytest.raises(NotFoundException):
        pinecone_index.delete(ids=["a"], namespace="green")
    assert pinecone_index.query(vector=[1.0, 0.0, 0.0], top_k=9, namespace="green").matches == []


@pytest.mark.parametrize(
    "vector",
    [
        ("x", [1.0, 2.0], {}),
        ("x", [0.0, 0.0, 0.0], {}),
        ("x", [1.0, 2.0, 3.0], {"text": "x" * 41_000}),
    ],
)
def test_pinecone_refuses_invalid_vectors(pinecone_index, vector):
    with pytest.raises(PineconeApiException) as raised:
        pinecone_index.upsert(vectors=[vector])
    assert raised.value.status_code == 400


@pytest.fixture
def qdrant_client(qdrant_server):
    client = QdrantClient(url=qdrant_server.url, api_key=KEYS["qdrant"], check_compatibility=False)
    client.create_collection("kb", models.VectorParams(size=3, distance=models.Distance.COSINE))
    points = [models.PointStruct(id=at, vector=vector, payload=more) for at, (_, vector, more) in enumerate(VECTORS)]
    client.upsert("kb", points)
    yield client
    client.close()


def test_qdrant_lists_describes_and_deletes_collections(qdrant_client):
    assert [collection.name for collection in qdrant_client.get_collections().collections] == ["kb"]
    assert qdrant_client.collection_exists("kb")
    assert qdrant_client.get_collection("kb").config.params.vectors.size == 3
    with pytest.raises(UnexpectedResponse) as raised:
        qdrant_client.get_collection("missing")
    assert raised.value.status_code == 404
    qdrant_client.delete_collection("kb")
    assert not qdrant_client.collection_exists("kb")


def test_qdrant_stores_queries_and_deletes(qdrant_client):
    shoes = models.Filter(must=[models.FieldCondition(key="topic", match=models.MatchValue(value="shoes"))])
    assert [point.id for point in qdrant_client.query_points("kb", [1.0, 0.0, 0.0], limit=2).points] == [0, 1]
    assert {point.id for point in qdrant_client.query_points("kb", [1.0, 0.0, 0.0], query_filter=shoes).points} == {
        0,
        2,
    }
    assert qdrant_client.count("kb").count == 3
    assert qdrant_client.retrieve("kb", [1])[0].payload["tags"] == ["red"]
    points, after = qdrant_client.scroll("kb", limit=2)
    assert ([point.id for point in points], after) == ([0, 1], 2)
    qdrant_client.create_payload_index("kb", "topic", models.PayloadSchemaType.KEYWORD)
    assert "topic" in qdrant_client.get_collection("kb").payload_schema
    qdrant_client.delete("kb", models.FilterSelector(filter=shoes))
    qdrant_client.delete("kb", [7])
    assert qdrant_client.count("kb").count == 1


def test_qdrant_refuses_invalid_calls_and_keys(qdrant_client, qdrant_server):
    shoes = models.Filter(must=[models.FieldCondition(key="topic", match=models.MatchValue(value="shoes"))])
    for invalid_call in (
        lambda: qdrant_client.upsert("kb", [models.PointStruct(id=9, vector=[1.0])]),
        lambda: qdrant_client.upsert("kb", [models.PointStruct(id="no-uuid", vector=[1.0, 0.0, 0.0])]),
        lambda: qdrant_client.delete(
            "kb", models.FilterSelector(filter=shoes)
        ),  # the filtered field has no payload index
    ):
        with pytest.raises(UnexpectedResponse) as raised:
            invalid_call()
        assert raised.value.status_code == 400
    unauthorized = QdrantClient(url=qdrant_server.url, api_key="wrong", check_compatibility=False)
    with pytest.raises(UnexpectedResponse) as raised:
        unauthorized.get_collections()
    assert raised.value.status_code == 401
    unauthorized.close()
