"""Repeated imports, and calls of the embedding provider."""

import io
import json
import time

import pytest
from django.core.management import CommandError, call_command

from tests.support.knowledge.import_files import SHOES, SOCKS
from tests.support.knowledge.imports import counts, lines, run, sent_texts, stored, texts, write
from tests.support.upstream import Upstream, answering, embedding
from vectorstores.base import StoreSettings
from vectorstores.management import import_command
from vectorstores.models import Collection, Document
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db


def test_what_is_unchanged_is_skipped(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS))
    run(file)
    model.sent.clear()
    assert counts(run(file)) == (0, 2, 0)
    assert not model.sent


@pytest.mark.parametrize(
    "changes",
    [{"embedding_model": "emb-2", "target": "other"}, {"chunk_size": 10}, {"namespace": "another"}],
)
def test_what_goes_elsewhere_or_otherwise_is_not_skipped(model, tmp_path, changes):
    file = write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS))
    run(file)
    assert counts(run(file, **changes)) == (2, 0, 0)


def test_what_has_changed_is_replaced(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines({"id": "shoes", "content": "x" * 13_000}, SOCKS))
    run(file)
    assert stored().keys() == {"shoes_chunk_0", "shoes_chunk_1", "shoes_chunk_2", "socks"}
    write(file, lines(SHOES, {**SOCKS, "metadata": {"colour": "red"}}))
    assert counts(run(file)) == (2, 0, 0)
    assert stored().keys() == {"shoes", "socks"}
    assert stored()["socks"].metadata["colour"] == "red"
    assert Document.objects.get(parent_vector_id="shoes").chunks == 1


def test_what_failed_is_tried_again(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines(SHOES))
    run(file)
    Document.objects.update(status=Document.Status.FAILED)
    assert counts(run(file)) == (1, 0, 0)


def test_a_collection_that_was_emptied_is_filled_again(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS))
    run(file)
    store = Local(StoreSettings())
    store.delete_parents("kb", ["shoes", "socks"])
    assert counts(run(file)) == (2, 0, 0)


def test_a_count_of_zero_in_a_remote_store_deletes_no_records(model, server, slug, tmp_path):
    """Pinecone's counts lag behind what is stored. `server` always counts 0."""
    file = write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS))
    assert counts(run(file, provider=slug)) == (2, 0, 0)
    assert counts(run(file, provider=slug)) == (0, 2, 0)
    assert counts(run(file, provider=slug, refresh=True)) == (2, 0, 0)
    assert Document.objects.filter(status=Document.Status.STORED).count() == 2


def test_pruning_removes_what_vanished_from_these_sources(model, tmp_path):
    here, other = tmp_path / "docs", write(tmp_path / "other.txt", "Another source.")
    write(here / "a.txt", "Alpha.")
    gone = write(here / "b.txt", "Beta. " * 2000)
    run(here, other)
    gone.unlink()
    assert counts(run(here)) == (0, 1, 0)
    assert "Another source." in texts()
    assert len(texts()) > 2
    assert run(here, prune=True, dry_run=True)["pruned"] == 1
    assert len(texts()) > 2
    assert run(here, prune=True)["pruned"] == 1
    assert texts() == {"Alpha.", "Another source."}
    assert Document.objects.count() == 2


@pytest.mark.parametrize(
    ("content", "pruned"),
    [
        (lines(SHOES) + "{\n", 0),  # it may be that line
        (lines(SHOES, {"id": "socks"}), 0),  # it is still there, though it has no text now
        (lines(SHOES), 1),
    ],
)
def test_what_is_refused_has_not_vanished(model, tmp_path, content, pruned):
    file = write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS))
    run(file)
    write(file, content)
    assert run(file, prune=True, code=0 if pruned else 1)["pruned"] == pruned


def test_nothing_is_pruned_unless_all_was_read(model, tmp_path):
    file = write(tmp_path / "rows.json", json.dumps([SHOES, SOCKS]))
    run(file)
    write(file, json.dumps([SHOES])[:-1])
    summary = run(file, prune=True, code=1)
    assert summary["pruned"] == 0
    assert "Nothing was pruned" in summary["stderr"]
    assert len(texts()) == 2


def test_texts_go_out_in_batches_and_some_at_a_time(model, tmp_path):
    answer, under_way, most = embedding(2), [0], [0]

    def slowly(connection):
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.05)
        under_way[0] -= 1
        answer(connection)

    model.pages["/v1/embeddings"] = slowly
    rows = [{"id": f"row-{number}", "content": f"Text {number}."} for number in range(60)]
    run(write(tmp_path / "rows.jsonl", lines(*rows)), batch_size=7, concurrency=3)
    assert [len(sent.json["input"]) for sent in model.sent].count(7) == 8
    assert max(len(sent.json["input"]) for sent in model.sent) == 7
    assert sorted(sent_texts(model)) == sorted(row["content"] for row in rows)
    assert most == [3]


def test_a_rate_limit_slows_down(model, tmp_path):
    model.will_answer({"error": {"message": "slow down"}}, 429, {"Retry-After": "1"})
    model.will_answer({"error": {"message": "overloaded"}}, 503)
    answer_the_rest(model)
    summary = run(write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS)), concurrency=1)
    assert counts(summary) == (2, 0, 0)
    assert summary["seconds"] >= 1.9
    assert len(model.sent) == 3


def answer_the_rest(model: Upstream) -> None:
    """Once what was queued is told."""
    queue, rest = model.queue, embedding()
    model.pages["/v1/embeddings"] = lambda connection: (queue.popleft() if queue else rest)(connection)


def test_patience_has_an_end(model, tmp_path, monkeypatch):
    monkeypatch.setattr("vectorstores.ingestion.sync.PATIENCE", 0.1)
    model.pages["/v1/embeddings"] = answering({"error": {"message": "slow down"}}, 429, {"Retry-After": "30"})
    summary = run(write(tmp_path / "rows.jsonl", lines(SHOES)), code=2)
    assert "slow down" in summary["error"]
    assert summary["seconds"] < 5


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
        [[1.0, float("nan")], [1.0, 2.0]],
        [[1.0, 2.0], [1.0, 2.0, 3.0]],
        [["a", "b"], [1.0, 2.0]],
        [[], []],
    ],
)
def test_wrong_embeddings_reach_no_store(model, tmp_path, vectors):
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    model.pages["/v1/embeddings"] = answering({"object": "list", "data": data, "usage": {"prompt_tokens": 1}})
    summary = run(write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS)), code=2)
    assert summary["error"]
    assert summary["documents"] == 0
    assert not Collection.objects.exists()


def test_a_text_that_the_model_does_not_take_is_refused_alone(model, tmp_path):
    takes = embedding()

    def behave(connection):
        if "poison" in str(connection.received.json["input"]):
            answering({"error": {"message": "This input is not taken."}}, 400)(connection)
        else:
            takes(connection)

    model.pages["/v1/embeddings"] = behave
    rows = [{"id": f"row-{at}", "content": "poison" if at in (3, 40) else f"Text {at}."} for at in range(60)]
    file = write(tmp_path / "rows.jsonl", lines(*rows))
    summary = run(file, batch_size=25, code=1)
    assert counts(summary) == (58, 0, 2)
    assert all("not taken" in refusal["reason"] for refusal in summary["refusals"])
    assert counts(run(file, code=1)) == (0, 58, 2)


def test_when_every_text_is_refused_it_is_not_the_texts(model, tmp_path):
    model.pages["/v1/embeddings"] = answering({"error": {"message": "No such model."}}, 400)
    rows = [{"id": f"row-{at}", "content": f"Text {at}."} for at in range(300)]
    summary = run(write(tmp_path / "rows.jsonl", lines(*rows)), code=2, concurrency=1)
    assert "No such model" in summary["error"]
    assert len(model.sent) < 40


def test_a_failure_half_way_keeps_what_is_stored(model, tmp_path):
    calls = []

    def behave(connection):
        calls.append(1)
        (answering({"error": {"message": "bad key"}}, 401) if len(calls) == 3 else embedding())(connection)

    model.pages["/v1/embeddings"] = behave
    rows = [{"id": f"row-{at}", "content": f"Text {at}."} for at in range(40)]
    file = write(tmp_path / "rows.jsonl", lines(*rows))
    summary = run(file, batch_size=10, concurrency=1, code=2)
    assert (summary["documents"], summary["chunks"]) == (20, 20)
    assert "bad key" in summary["error"]
    assert import_command.CONTINUE in summary["stderr"]
    assert counts(run(file)) == (20, 20, 0)
    assert len(stored()) == 40


def test_the_summary_for_people(model, tmp_path, capfd):
    out, err = io.StringIO(), io.StringIO()
    file = write(tmp_path / "rows.jsonl", lines(SHOES, {"id": "long", "content": "x" * 7000}) + "{\n")
    with pytest.raises(SystemExit) as end:
        call_command(
            "import_vectors", str(file), target="kb", embedding_provider="openai", embedding_model="emb-1", stdout=out,
            stderr=err,
        )  # fmt: skip
    assert end.value.code == 1
    assert out.getvalue().startswith("Stored 2 documents, 3 chunks; 0 unchanged; 1 refused; ")
    assert capfd.readouterr().err == ""  # no bar where there is no terminal


@pytest.mark.parametrize("option", ["batch_size", "concurrency", "chunk_size", "max_pages"])
def test_options_are_checked(tmp_path, option):
    with pytest.raises(CommandError, match="invalid"):
        call_command("import_vectors", "x", "--target=kb", f"--{option.replace('_', '-')}=0")


def test_a_report_that_cannot_be_written(model, tmp_path):
    with pytest.raises(CommandError, match="cannot be written"):
        run(write(tmp_path / "rows.jsonl", lines(SHOES)), report=tmp_path / "nothing" / "report.txt")
    assert not model.sent
