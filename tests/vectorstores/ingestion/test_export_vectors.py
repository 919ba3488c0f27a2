"""export_vectors, and importing its files: collections move between stores without being embedded again."""

import io
import json
import random
import sys
import uuid

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tests.support.upstream import embedding
from vectorstores.base import StoreSettings, Vector
from vectorstores.models import Collection, Document
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db

DIMENSION = 4


def vectors(*documents, **metadata):
    """Return the chunks of documents given as (id, number of chunks), each with its own random values."""
    source = random.Random(1)
    return [
        Vector(
            id=name if total == 1 else f"{name}_chunk_{index}",
            values=unit_vector(source),
            text=f"Chunk {index} of {name}.",
            metadata={
                "title": f"Title of {name}", "source": "handbook", **metadata, "headings": f"Part {index}",
                "vector_id": name if total == 1 else f"{name}_chunk_{index}", "parent_vector_id": name,
                "chunk_index": index, "total_chunks": total, "char_start": index * 10, "char_end": index * 10 + 9,
            },
        )
        for name, total in documents
        for index in range(total)
    ]  # fmt: skip


def unit_vector(source):
    values = np.array([source.uniform(-1, 1) for _ in range(DIMENSION)], np.float32)
    return values / np.linalg.norm(values)


@pytest.fixture
def local():
    store = Local(StoreSettings())
    store.create("kb", DIMENSION)
    return store


def export(path, **options):
    call_command("export_vectors", output=path, stderr=io.StringIO(), **{"target": "kb", **options})
    return [json.loads(line) for line in path.read_text().splitlines()]


def import_file(path, code=0, **options):
    out, ended_with = io.StringIO(), 0
    try:
        call_command("import_vectors", str(path), json=True, stdout=out, stderr=io.StringIO(), **options)
    except SystemExit as end:
        ended_with = end.code
    assert ended_with == code, out.getvalue()
    return json.loads(out.getvalue())


def comparable(found):
    return {vector.id: (vector.text, vector.metadata, [round(float(v), 4) for v in vector.values]) for vector in found}


def test_each_line_is_a_vector_with_its_model(local, tmp_path):
    given = vectors(("shoes", 2), ("socks", 1))
    local.upsert("kb", given)
    Collection.objects.update(embedding_provider="openai", embedding_model="emb-1")
    rows = export(tmp_path / "kb.jsonl")
    assert [row["id"] for row in rows] == ["shoes_chunk_0", "shoes_chunk_1", "socks"]
    assert rows[0] == {
        "id": "shoes_chunk_0",
        "content": "Chunk 0 of shoes.",
        "metadata": given[0].metadata,
        "values": pytest.approx(given[0].values.tolist(), abs=1e-6),
        "embedding_provider": "openai",
        "embedding_model": "emb-1",
    }
    assert not list(tmp_path.glob("*.part"))


def test_without_a_file_the_export_is_printed(local, capfdbinary):
    local.upsert("kb", vectors(("shoes", 1)))
    call_command("export_vectors", target="kb", stderr=io.StringIO())
    sys.stdout.flush()
    assert json.loads(capfdbinary.readouterr().out)["content"] == "Chunk 0 of shoes."


def test_only_the_given_namespace_is_exported(local, tmp_path):
    local.upsert("kb", vectors(("shoes", 1)))
    local.upsert("kb", vectors(("socks", 1)), "other")
    assert [row["id"] for row in export(tmp_path / "a.jsonl")] == ["shoes"]
    assert [row["id"] for row in export(tmp_path / "b.jsonl", namespace="other")] == ["socks"]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"target": "nothing"}, "no collection named 'nothing'"), ({"provider": "pinecone"}, "Pinecone")],
)
def test_an_unknown_collection_or_store_is_an_error(local, tmp_path, settings, options, error):
    settings.VECTOR_STORE_ENVIRONMENT = {}
    with pytest.raises(CommandError, match=error) as failure:
        export(tmp_path / "kb.jsonl", **options)
    assert failure.value.returncode == 2
    assert not list(tmp_path.iterdir())


def test_an_unwritable_file_is_an_error(local, tmp_path):
    with pytest.raises(CommandError, match="cannot be written"):
        export(tmp_path / "nothing" / "kb.jsonl")


def test_a_collection_survives_a_move_to_another_store_and_back(local, configured_place, upstream, tmp_path):
    """Move a collection from the local store to another and back: ids, chunks, metadata and model are kept."""
    place = configured_place
    given = vectors(*((f"doc-{number}", 1 + number % 4) for number in range(60)), tags=["a", "b"], size=9, sold=True)
    local.upsert("kb", given)
    Collection.objects.filter(name="kb").update(embedding_provider="openai", embedding_model="emb-1")
    export(tmp_path / "kb.jsonl")

    destination = {"provider": place.store.slug, "target": f"kb-{uuid.uuid4().hex[:12]}", "create": True}
    summary = import_file(tmp_path / "kb.jsonl", **destination)
    assert (summary["documents"], summary["chunks"], summary["refused"]) == (60, len(given), 0)
    assert place.store.describe(destination["target"]).count == len(given)

    rows = export(tmp_path / "there.jsonl", provider=destination["provider"], target=destination["target"])
    assert len(rows) == len(given)
    summary = import_file(tmp_path / "there.jsonl", target="back")
    assert (summary["documents"], summary["chunks"], summary["refused"]) == (60, len(given), 0)

    expected, copied = comparable(given), comparable(local.scan("back"))
    if not place.store.keeps_lists:
        expected = {name: (text, {**m, "tags": '["a", "b"]'}, values) for name, (text, m, values) in expected.items()}
    assert copied.keys() == expected.keys()
    for name, (text, metadata, values) in expected.items():
        assert copied[name][:2] == (text, metadata)
        assert copied[name][2] == pytest.approx(values, abs=2e-4)
    collections = Collection.objects.filter(embedding_provider="openai", embedding_model="emb-1")
    assert set(collections.values_list("name", flat=True)) == {"kb", "back", destination["target"]}
    assert Document.objects.get(collection__name="back", parent_vector_id="doc-3").chunks == 4
    assert not upstream.sent


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shuffled_rows(local, tmp_path):
    local.upsert("kb", vectors(*((f"doc-{number}", 3) for number in range(20))))
    rows = export(tmp_path / "kb.jsonl")
    random.Random(2).shuffle(rows)
    return rows


def test_chunks_can_be_imported_in_any_order(local, upstream, tmp_path):
    rows = shuffled_rows(local, tmp_path)
    file = write_rows(tmp_path / "mixed.jsonl", rows)
    assert import_file(file, target="other")["documents"] == 20
    assert comparable(local.scan("other")) == comparable(local.scan("kb"))
    summary = import_file(file, target="other")
    assert (summary["documents"], summary["unchanged"]) == (0, 20)


def test_a_repeated_import_stores_only_changed_documents(local, upstream, tmp_path):
    rows = shuffled_rows(local, tmp_path)
    file = write_rows(tmp_path / "mixed.jsonl", rows)
    import_file(file, target="other")
    changed = next(row for row in rows if row["id"] == "doc-7_chunk_1")
    changed["values"] = [1.0, 0.0, 0.0, 0.0]
    shorter = [
        row for row in rows if row["id"] not in ("doc-8_chunk_2", "doc-9_chunk_0", "doc-9_chunk_1", "doc-9_chunk_2")
    ]
    summary = import_file(write_rows(file, shorter), target="other", prune=True)
    assert (summary["documents"], summary["unchanged"], summary["pruned"]) == (2, 17, 1)
    found = comparable(local.scan("other"))
    assert found["doc-7_chunk_1"][2] == [1.0, 0.0, 0.0, 0.0]
    assert sorted(name for name in found if name.startswith("doc-8")) == ["doc-8_chunk_0", "doc-8_chunk_1"]
    assert not [name for name in found if name.startswith("doc-9")]


def test_each_chunk_keeps_its_metadata(local, upstream, tmp_path):
    rows = [
        {"id": f"c{at}", "content": f"Page {at}", "values": [1, at, 0, 0],
         "metadata": {"parent_vector_id": "book", "page": at, "title": "Book", "chunk_index": at}}
        for at in range(2)
    ]  # fmt: skip
    import_file(write_rows(tmp_path / "rows.jsonl", rows), target="other")
    found = {vector.text: vector for vector in local.scan("other")}
    assert {text: vector.metadata["page"] for text, vector in found.items()} == {"Page 0": 0, "Page 1": 1}
    assert {vector.metadata["title"] for vector in found.values()} == {"Book"}
    assert {vector.id for vector in found.values()} == {"book_chunk_0", "book_chunk_1"}


def row(number, **changes):
    return {"id": f"row-{number}", "content": f"Text {number}.", "values": [1.0, float(number), 0.0, 0.0], **changes}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(1, values=[1.0, 2.0]), "dimension mismatch. Expected 4, got 2"),
        (row(1, embedding_provider="openai", embedding_model="emb-2"), "made by emb-2 of openai"),
        ({"id": "text", "content": "No vector."}, "no embedding model"),
    ],
)
def test_vectors_that_do_not_fit_the_collection_are_refused(local, upstream, tmp_path, bad, reason):
    file = write_rows(tmp_path / "rows.jsonl", [row(0), bad, row(2)])
    summary = import_file(file, target="other", code=1)
    assert (summary["documents"], summary["refused"]) == (2, 1)
    assert reason in summary["refusals"][0]["reason"]
    assert {vector.id for vector in local.scan("other")} == {"row-0", "row-2"}


def test_a_file_can_mix_vectors_and_texts(local, upstream, tmp_path):
    upstream.pages["/v1/embeddings"] = embedding(DIMENSION)
    file = write_rows(tmp_path / "rows.jsonl", [row(0), {"id": "text", "content": "No vector."}])
    summary = import_file(file, target="other", embedding_provider="openai", embedding_model="emb-1")
    assert summary["documents"] == 2
    assert [sent.json["input"] for sent in upstream.sent] == [["No vector."]]
