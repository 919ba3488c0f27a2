"""The reembed command: embed a collection again with another model, and switch its chatbots to the new collection."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from chatbots.models import Chatbot
from tests.support.upstream import answering, embedding
from vectorstores.base import StoreSettings
from vectorstores.models import Collection, Document
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db

HANDBOOK = "# Handbook\n\nWelcome.\n\n## Returns\n\nWithin 45 days.\n\n## Shipping\n\nOn Mondays.\n"


@pytest.fixture
def model(upstream):
    upstream.pages["/v1/embeddings"] = embedding(16)
    return upstream


@pytest.fixture
def handbook(model, tmp_path):
    """Import a document of three chunks and one of a single chunk, embedded with emb-1, into the collection "old"."""
    (tmp_path / "handbook.md").write_text(HANDBOOK)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "shoes", "content": "Shoes.", "metadata": {"size": 9}}))
    call_command(
        "import_vectors", str(tmp_path / "handbook.md"), str(tmp_path / "rows.jsonl"), target="old", chunk_size=30,
        embedding_provider="openai", embedding_model="emb-1", stdout=io.StringIO(),
    )  # fmt: skip
    model.pages["/v1/embeddings"] = embedding(24)
    model.sent.clear()
    return tmp_path / "handbook.md"


def reembed(code=0, **options):
    options = {
        "target": "old", "to": "new", "embedding_provider": "openai", "embedding_model": "emb-2", **options,
    }  # fmt: skip
    out, err, ended_with = io.StringIO(), io.StringIO(), 0
    try:
        call_command("reembed", json=True, stdout=out, stderr=err, **options)
    except SystemExit as end:
        ended_with = end.code
    assert ended_with == code, err.getvalue()
    return {**json.loads(out.getvalue()), "stderr": err.getvalue()}


def stored_vectors(target):
    return {vector.id: vector for vector in Local(StoreSettings()).scan(target)}


def test_chunks_are_embedded_with_their_title_and_headings(handbook, model):
    summary = reembed()
    old, new = stored_vectors("old"), stored_vectors("new")
    assert (summary["documents"], summary["chunks"], summary["refused"]) == (2, 4, 0)
    assert {name: (vector.text, vector.metadata) for name, vector in new.items()} == {
        name: (vector.text, vector.metadata) for name, vector in old.items()
    }
    assert {vector.values.size for vector in old.values()} == {16}
    assert {vector.values.size for vector in new.values()} == {24}
    texts = [text for sent in model.sent for text in sent.json["input"] if sent.json["model"] == "emb-2"]
    assert "Handbook\nReturns\n## Returns\n\nWithin 45 days." in texts
    collection = Collection.objects.get(name="new")
    assert (collection.embedding_provider, collection.embedding_model, collection.dimension) == ("openai", "emb-2", 24)
    document = Document.objects.get(collection=collection, title="Handbook")
    assert (document.source, document.origin, document.chunks) == (str(handbook), str(handbook), 3)


def test_an_interrupted_run_is_resumed(handbook, model):
    answers = [*[embedding(24)] * 3, answering({"error": {"message": "bad key"}}, 401)]  # one per chunk
    model.pages["/v1/embeddings"] = lambda connection: answers.pop(0)(connection)
    summary = reembed(code=2, batch_size=1, concurrency=1)
    assert summary["documents"] == 1
    model.pages["/v1/embeddings"] = embedding(24)
    summary = reembed()
    assert (summary["documents"], summary["unchanged"]) == (1, 1)
    assert len(stored_vectors("new")) == 4
    model.sent.clear()
    assert reembed()["unchanged"] == 2
    assert not model.sent


def test_chunks_longer_than_the_new_models_limit_are_reported(handbook, model, tmp_path):
    (tmp_path / "long.jsonl").write_text(json.dumps({"id": "long", "content": "x" * 3000}))
    model.pages["/v1/embeddings"] = embedding(16)
    call_command("import_vectors", str(tmp_path / "long.jsonl"), target="old", stdout=io.StringIO())
    model.pages["/v1/embeddings"] = embedding(24)
    assert "the end of 1 chunk," in reembed(embedding_model="mxbai-embed-large-x")["stderr"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"to": "old"}, "another collection"),
        ({"target": "nothing"}, "no collection named 'nothing'"),
        ({"to": "filled"}, "was filled with emb-9"),
    ],
)
def test_invalid_source_and_target_collections(handbook, model, options, error):
    Collection.objects.create(store="local", name="filled", embedding_provider="openai", embedding_model="emb-9")
    with pytest.raises(CommandError, match=error) as failure:
        reembed(**options)
    assert failure.value.returncode == 2
    assert not model.sent


def bot(**changes):
    return Chatbot.objects.create(name="Shop", enable_vector_store=True, **{"collections": ["old"], **changes})


def test_chatbots_are_not_switched_by_default(handbook, model):
    shop = bot()
    reembed()
    shop.refresh_from_db()
    assert shop.collections == ["old"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"collections": ["new"], "vector_embedding_model": ""}),
        (
            {"vector_embedding_provider": "openai", "vector_embedding_model": "emb-1"},
            {"collections": ["new"], "vector_embedding_provider": "openai", "vector_embedding_model": "emb-2"},
        ),
        ({"collections": ["old", "new"]}, {"collections": ["new"]}),
        ({"collections": ["other", "old"]}, {"collections": ["other", "new"]}),  # already embedded with the new model
        ({"collections": ["unrelated"]}, {"collections": ["unrelated"]}),
        ({"vector_store_provider": "qdrant"}, {"collections": ["old"]}),  # a collection of another store
    ],
)
def test_switch_bots_updates_the_chatbots(handbook, model, before, after):
    Collection.objects.create(store="local", name="other", embedding_provider="openai", embedding_model="emb-2")
    shop = bot(**before)
    summary = reembed(switch_bots=True)
    shop.refresh_from_db()
    assert {name: getattr(shop, name) for name in after} == after
    assert ("now uses new" in summary["stderr"]) == (shop.collections != before.get("collections", ["old"]))


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (
            {"collections": ["old", "other"]},
            "other collections",
        ),  # embedded with the old model: a question would need two embeddings
        ({"namespace": "en"}, "namespace 'en'"),
    ],
)
def test_chatbots_that_would_lose_passages_are_not_switched(handbook, model, before, reason):
    Collection.objects.create(store="local", name="other", embedding_provider="openai", embedding_model="emb-1")
    shop = bot(**before)
    summary = reembed(switch_bots=True)
    shop.refresh_from_db()
    assert shop.collections == before.get("collections", ["old"])
    assert reason in summary["stderr"]


def test_chatbots_are_not_switched_to_an_incomplete_collection(handbook, model):
    shop = bot()
    accept = embedding(24)

    def behave(connection):
        if "Shoes." in connection.received.json["input"]:
            answering({"error": {"message": "Not taken."}}, 400)(connection)
        else:
            accept(connection)

    model.pages["/v1/embeddings"] = behave
    assert reembed(switch_bots=True, code=1)["refused"] == 1
    shop.refresh_from_db()
    assert shop.collections == ["old"]


def test_a_switched_chatbot_answers_from_the_new_collection(handbook, model, api):
    model.will_answer({"choices": [{"message": {"role": "assistant", "content": "Within 45 days."}}]})
    shop = bot(provider="openai", model="m", vector_store_confidence_threshold=1)
    reembed(switch_bots=True)
    reply = api.post(f"/chat/{shop.pk}/message", json={"messages": [{"role": "user", "content": "Returns: days?"}]})
    assert reply.status_code == 200, reply.json()
    assert reply.json()["sources"][0]["title"] == "Handbook"
