"""import_vectors: every kind of source, what is refused and where, what a second run does, and what goes out."""

import io
import json
import sys
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.support.knowledge.documents import pdf
from tests.support.knowledge.imports import counts, lines, post, run, sent_texts, stored, texts, write, wxr
from tests.support.upstream import Upstream, answering, embedding
from vectorstores.base import StoreSettings
from vectorstores.management import import_command
from vectorstores.models import Collection, Document
from vectorstores.sources import files as reading
from vectorstores.sources import row_files, tables
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db


SHOES, SOCKS = {"id": "shoes", "content": "We sell shoes."}, {"id": "socks", "content": "We sell socks."}


# Every kind of source


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", lines(SHOES, SOCKS)),
        ("rows.ndjson", "\ufeff" + lines(SHOES) + "\n\n" + lines(SOCKS).strip()),
        ("rows.json", json.dumps([SHOES, SOCKS])),
        ("rows.json", "\ufeff \n" + json.dumps({"vectors": [SHOES, SOCKS], "provider": "local"})),
        ("rows.csv", "id,content\nshoes,We sell shoes.\nsocks,We sell socks.\n"),
        ("rows.csv", "id;content\r\nshoes;We sell shoes.\r\nsocks;We sell socks.\r\n"),
        ("rows.csv", ("id\tcontent\nshoes\tWe sell shoes.\nsocks\tWe sell socks.\n").encode("utf-16")),
    ],
)
def test_files_of_rows(model, tmp_path, name, content):
    summary = run(write(tmp_path / name, content))
    assert counts(summary) == (2, 0, 0)
    assert {vector_id: vector.text for vector_id, vector in stored().items()} == {
        "shoes": "We sell shoes.",
        "socks": "We sell socks.",
    }


def test_a_row_is_an_item_of_the_api(model, tmp_path):
    item = {"id": "shoes", "content": "Blue.", "uri": "https://x.example/a", "metadata": {"Size": 9, "tags": ["a"]}}
    run(write(tmp_path / "rows.jsonl", lines(item)))
    metadata = stored()["shoes"].metadata
    assert (metadata["uri"], metadata["size"], metadata["tags"]) == ("https://x.example/a", 9, ["a"])
    assert metadata["parent_vector_id"] == "shoes"
    document = Document.objects.get()
    assert (document.source, document.origin) == (str(tmp_path / "rows.jsonl"),) * 2
    assert sent_texts(model) == ["Blue."]


def test_columns_of_csv_are_chosen(model, tmp_path):
    table = 'sku,text,name,link,colour\n7,"Shoes, ""fine"" ones\nfor rain",Rain,https://x.example/7,blue\n8,Socks,,,\n'
    file = write(tmp_path / "rows.csv", table)
    run(file, content_column="text", id_column="sku", title_column="name", url_column="link")
    rain, socks = stored()["7"], stored()["8"]
    assert rain.text == 'Shoes, "fine" ones\nfor rain\n\ncolour: blue'
    assert {key: rain.metadata[key] for key in ("title", "url", "colour")} == {
        "title": "Rain", "url": "https://x.example/7", "colour": "blue",
    }  # fmt: skip
    assert not {"title", "url", "colour"} & socks.metadata.keys()
    assert sent_texts(model)[0].startswith("Rain\nShoes")


MARKDOWN = """\
---
title: "The handbook"
---
# Welcome

Hello there.

## Returns

Within 45 days.

### Abroad

Within 60 days.

```
# no heading
```

## Shipping

On Mondays.
"""


def test_markdown_keeps_its_headings(model, tmp_path):
    run(write(tmp_path / "handbook.md", MARKDOWN), chunk_size=40)
    found = {vector.text.split("\n")[0]: vector.metadata for vector in stored().values()}
    assert {metadata["title"] for metadata in found.values()} == {"The handbook"}
    headings = {text: metadata.get("headings") for text, metadata in found.items()}
    assert headings["## Returns"] == "Welcome > Returns"
    assert headings["### Abroad"] == "Welcome > Returns > Abroad"
    assert headings["## Shipping"] == "Welcome > Shipping"
    assert not any("no heading" in str(path) for path in headings.values())
    embedded = next(text for text in sent_texts(model) if "60 days" in text)
    assert embedded.startswith("The handbook\nWelcome > Returns > Abroad\n")


HTML = """<!doctype html><html><head><title>Our shoes</title></head><body>
<nav><a href="/">Home</a></nav><article><h1>Our shoes</h1><p>Every pair is sewn by hand in a small workshop,
and every pair may come back within 45 days.</p><h2>Care</h2><p>Brush them when they are dry, away from the
oven, for leather does not like heat at all.</p></article><script>alert("no")</script></body></html>"""


def test_html_gives_its_main_text(model, tmp_path):
    run(write(tmp_path / "shoes.html", HTML))
    (vector,) = stored().values()
    assert vector.metadata["title"] == "Our shoes"
    assert "within 45 days" in vector.text
    assert "alert" not in vector.text


def test_pdf_tells_its_pages(model, tmp_path):
    run(write(tmp_path / "guide.pdf", pdf("Returns within 45 days.", "Shipping on Mondays.")), chunk_size=30)
    found = {vector.text: vector.metadata["headings"] for vector in stored().values()}
    assert found == {"Returns within 45 days.": "Page 1", "Shipping on Mondays.": "Page 2"}


def folder(tmp_path: Path) -> Path:
    here = tmp_path / "docs"
    write(here / "a.txt", "Alpha.")
    write(here / "sub" / "b.md", "# Beta\n\nBeta text.")
    write(here / "rows.csv", "id,content\nc,Gamma.\n")
    write(here / "picture.png", b"\x89PNG")
    write(here / ".hidden.txt", "Hidden.")
    write(here / ".git" / "c.txt", "Hidden too.")
    return here


def test_a_folder_is_read_with_what_is_in_it(model, tmp_path):
    here = folder(tmp_path)
    write(tmp_path / "secret" / "secret.txt", "A secret.")
    (here / "link.txt").symlink_to(tmp_path / "secret" / "secret.txt")
    (here / "link").symlink_to(tmp_path / "secret")
    (here / "loop").symlink_to(here)
    (here / "broken.txt").symlink_to(here / "nothing")
    summary = run(here)
    assert counts(summary) == (3, 0, 0)
    assert texts() == {"Alpha.", "# Beta\n\nBeta text.", "Gamma."}
    names = {vector.metadata.get("file_name") for vector in stored().values()}
    assert names == {"a.txt", "sub/b.md", None}
    unsupported, outside = (note["text"] for note in summary["notes"])
    assert "1: picture.png." in unsupported
    assert "2: link, link.txt." in outside


def test_a_glob_names_files(model, tmp_path):
    here = folder(tmp_path)
    write(tmp_path / "secret" / "c.md", "A secret.")
    (here / "link.md").symlink_to(tmp_path / "secret" / "c.md")
    (here / "link").symlink_to(tmp_path / "secret")
    summary = run(f"{here}/**/*.[mt][dx]*")
    assert counts(summary) == (2, 0, 0)
    assert "lead out of the folder were skipped: 2" in summary["notes"][0]["text"]
    assert texts() == {"Alpha.", "# Beta\n\nBeta text."}
    assert counts(run(here)) == (1, 2, 0)  # the same files are the same documents


def test_a_file_may_have_the_signs_of_a_glob_in_its_name(model, tmp_path):
    file = write(tmp_path / "what [is] this?.txt", "Odd.")
    write(tmp_path / "what i this!.txt", "Another.")
    run(file)
    assert texts() == {"Odd."}


def test_standard_input_is_json_lines(model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines(SHOES, SOCKS).encode())))
    assert counts(run("-")) == (2, 0, 0)
    assert Document.objects.get(parent_vector_id="shoes").source == "standard input"


# What is refused, and how an import ends


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[1, 2]", "not a JSON object"),
        ("{", "not JSON"),
        ("\x00", "not JSON"),
        ('{"id": "a"}', 'no text under "content"'),
        ('{"content": " \\u0000 "}', 'no text under "content"'),
        ('{"content": 5}', 'no text under "content"'),
        ('{"content": "x", "metadata": ["a"]}', '"metadata" is not a JSON object'),
        ('{"content": "x", "id": {"a": 1}}', '"id" and "uri" must be strings'),
        ('{"content": "x", "uri": 5}', '"id" and "uri" must be strings'),
        ('{"content": "x", "id": "a", "values": []}', "not only numbers|list of numbers"),
        ('{"content": "x", "id": "a", "values": [1, "b"]}', "list of numbers"),
        ('{"content": "x", "id": "a", "values": [[1], [2]]}', "list of numbers"),
        ('{"content": "x", "values": [1, 2]}', "needs an id"),
    ],
)
def test_a_bad_row_is_told_and_the_others_go_on(model, tmp_path, row, reason):
    file = write(tmp_path / "rows.jsonl", lines(SHOES) + row + "\n" + lines(SOCKS))
    report = tmp_path / "report.txt"
    summary = run(file, code=1, report=report)
    assert counts(summary) == (2, 0, 1)
    (refusal,) = summary["refusals"]
    assert refusal["place"] == f"{file}:2"
    assert any(part in refusal["reason"] for part in reason.split("|"))
    assert report.read_text() == f"{refusal['place']}: {refusal['reason']}\n"
    assert f"Refused: {refusal['place']}" in summary["stderr"]


def test_many_refusals_are_in_the_report_only(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines(SHOES) + "{}\n" * 50)
    summary = run(file, code=1, report=tmp_path / "report.txt")
    assert summary["refused"] == 50
    assert len(summary["refusals"]) == import_command.SHOWN_REFUSALS
    assert "30 more" in summary["stderr"]
    assert len((tmp_path / "report.txt").read_text().splitlines()) == 50


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "{}\n", "no text"),
        ("a.json", "[{]", "not JSON"),
        ("a.json", '{"vectors": [{"content": "x"', "not JSON"),
        ("a.json", "[" * 100_000, "nested more than"),
        ("a.jsonl", "[" * 100_000, "nested more than"),
        ("a.json", "{}", "contains no items"),
        ("a.json", "", "not JSON"),
        ("a.csv", "id,colour\n1,x\n", "no column 'content'"),
        ("a.csv", "", "no column 'content'"),
        ("a.csv", "id,content\n1,x,y\n", "more fields"),
        ("a.xml", "<rss><channel></channel></rss>", "no items"),
        ("a.xml", "<rss><channel><item>", "breaks off"),
        ("a.xml", '<?xml version="1.0" encoding="martian"?><rss/>', "no items"),
        ("a.pdf", b"%PDF-1.4 broken", "PDF is damaged"),
        ("a.pdf", pdf(""), "no text"),
        ("a.html", "", "no text|damaged"),
        ("a.txt", " \n\x00 ", "no text"),
        ("a.doc", "x", "This file type is not supported"),
        ("a.docx", "x", "damaged"),
    ],
)
def test_files_that_cannot_be_read(model, tmp_path, name, content, reason):
    file = write(tmp_path / name, content)
    summary = run(file, code=2)
    refusal = summary["refusals"][0]
    assert refusal["place"].startswith(str(file))
    assert any(part in refusal["reason"] for part in reason.split("|")), refusal
    assert not model.sent


@pytest.mark.parametrize("name", ["nothing.txt", "nothing/*.txt", "n" * 5000, "nothing\x00.txt"])
def test_sources_that_are_not_there(model, tmp_path, name):
    summary = run(tmp_path / name, code=2)
    assert summary["refused"] == 1


def test_a_file_that_breaks_off_keeps_what_was_before(model, tmp_path):
    file = write(tmp_path / "rows.json", json.dumps([SHOES, SOCKS])[:-8])
    summary = run(file, code=1)
    assert counts(summary) == (1, 0, 1)
    assert summary["refusals"][0]["place"] == f"{file}: after item 1"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.xml"])
def test_an_item_has_a_largest_size(model, tmp_path, monkeypatch, name):
    monkeypatch.setattr(row_files, "MAX_ITEM", 200_000)
    monkeypatch.setattr(tables, "MAX_RECORD", 200_000)
    huge = "x" * 400_000
    content = {
        "rows.jsonl": lines(SHOES, {"content": huge}, SOCKS),
        "rows.json": json.dumps([SHOES, {"content": "y" * 70_000}, {"content": huge}]),
        "rows.csv": f"id,content\nshoes,We sell shoes.\na,{huge}\n",
        "rows.xml": wxr(post(1), post(2, content="y" * 20_000), post(3, content=huge)),
    }[name]
    summary = run(write(tmp_path / name, content), code=1)
    assert summary["documents"] >= 1
    assert any(word in summary["refusals"][-1]["reason"] for word in ("longer than", "larger than"))


def test_a_file_has_a_largest_size(model, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILE", 10)
    assert "larger than" in run(write(tmp_path / "a.txt", "x" * 11), code=2)["refusals"][0]["reason"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Größe: \x00groß".encode(), "Größe: groß"),
        ("\ufeffGröße".encode(), "Größe"),
        ("Größe".encode("cp1252"), "Größe"),
        ("Größe".encode("utf-16"), "Größe"),
        ("Größe ".encode() + b"\x81", "Größe \ufffd"),  # a byte that is in no encoding that we try
        (b"a\r\nb\rc", "a\nb\nc"),
    ],
)
def test_odd_encodings(model, tmp_path, content, text):
    run(write(tmp_path / "a.txt", content))
    assert texts() == {text}


def test_no_id_may_be_there_twice(model, tmp_path):
    other = {"id": "shoes", "content": "Other shoes."}
    file = write(tmp_path / "rows.jsonl", lines(SHOES, other, SHOES, SOCKS))
    for unchanged in (1, 3):  # the same one is no fault
        summary = run(file, code=1)
        assert (summary["unchanged"], summary["refused"]) == (unchanged, 1)
        assert "same id, 'shoes'" in summary["refusals"][0]["reason"]
        assert texts() == {"We sell shoes.", "We sell socks."}


@pytest.mark.parametrize("row", [{"content": "x"}, {"content": "x", "id": "--"}, {"content": "x", "id": None}])
def test_a_row_without_an_id_is_known_by_its_text(model, tmp_path, row):
    file = write(tmp_path / "rows.jsonl", lines(row))
    assert counts(run(file)) == (1, 0, 0)
    assert counts(run(file)) == (0, 1, 0)


# A second run


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


# Before anything is paid for


def test_a_dry_run_sends_nothing_and_estimates(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines({"content": "x" * 400_000}, SHOES))
    summary = run(file, dry_run=True, embedding_model="text-embedding-3-small")
    assert (summary["documents"], summary["chunks"]) == (2, 76)
    assert 100_000 < summary["tokens"] < 115_000
    assert summary["cost"] == pytest.approx(summary["tokens"] * 0.02 / 1_000_000, rel=0.01)
    assert not model.sent
    assert not Collection.objects.exists()
    run(file)
    assert counts(run(file, dry_run=True)) == (0, 2, 0)


def test_a_dry_run_without_a_price(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines(SHOES))
    assert run(file, dry_run=True)["cost"] is None
    out = io.StringIO()
    call_command(
        "import_vectors", str(file), target="kb", embedding_provider="openai", embedding_model="emb-1", dry_run=True,
        stdout=out,
    )  # fmt: skip
    assert out.getvalue().startswith("Would store 1 documents, 1 chunks; 0 unchanged; about 4 tokens, at an unknown")


@pytest.mark.parametrize("embedding_model", ["text-embedding-3-small", "emb-of-unknown-length"])
def test_the_dimension_is_checked_first(model, tmp_path, embedding_model):
    Local(StoreSettings()).create("kb", 32)
    summary = run(write(tmp_path / "rows.jsonl", lines(SHOES)), embedding_model=embedding_model, code=2)
    assert "dimension mismatch. Expected 32" in summary["error"]
    assert "We sell shoes." not in sent_texts(model)


def test_a_store_that_cannot_be_reached_is_told_first(model, tmp_path, settings):
    settings.VECTOR_STORE_ENVIRONMENT = {"qdrant": {"base_url": "http://127.0.0.1:9", "api_key": "k"}}
    summary = run(write(tmp_path / "rows.jsonl", lines(SHOES)), provider="qdrant", code=2)
    assert "Qdrant" in summary["error"]
    assert not model.sent


def test_a_store_that_is_not_configured(model, tmp_path, settings):
    settings.VECTOR_STORE_ENVIRONMENT = {}
    summary = run(write(tmp_path / "rows.jsonl", lines(SHOES)), provider="pinecone", code=2)
    assert "Pinecone" in summary["error"]
    assert not model.sent


def test_a_collection_is_made_on_demand(model, tmp_path, settings, chroma_url):
    settings.VECTOR_STORE_ENVIRONMENT = {"chroma": {"base_url": chroma_url}}
    file = write(tmp_path / "rows.jsonl", lines(SHOES, SOCKS))
    target = f"kb-{tmp_path.name}"
    summary = run(file, provider="chroma", target=target, code=2)
    assert "--create" in summary["error"]
    assert not model.sent
    assert counts(run(file, provider="chroma", target=target, create=True)) == (2, 0, 0)
    assert counts(run(file, provider="chroma", target=target, create=True)) == (0, 2, 0)


def test_one_collection_one_model(model, tmp_path):
    file = write(tmp_path / "rows.jsonl", lines(SHOES))
    run(file)
    with pytest.raises(CommandError, match=r"'kb' was filled with emb-1 of openai") as refused:
        run(file, embedding_model="emb-2")
    assert refused.value.returncode == 2
    assert counts(run(file, embedding_provider=None, embedding_model=None)) == (0, 1, 0)


def test_without_an_embedding_model_nothing_goes(upstream, tmp_path, settings):
    settings.PROVIDER_ENVIRONMENT = {}
    file = write(tmp_path / "rows.jsonl", lines(SHOES))
    with pytest.raises(CommandError, match="No embedding model is available"):
        run(file, embedding_provider=None, embedding_model=None)


# The embedding provider


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
