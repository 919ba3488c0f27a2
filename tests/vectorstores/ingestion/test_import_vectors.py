"""import_vectors: every kind of source, what is refused and where, what a second run does, and what goes out."""

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.support.knowledge.documents import pdf
from tests.support.knowledge.import_files import SHOES, SOCKS
from tests.support.knowledge.imports import counts, lines, run, sent_texts, stored, texts, write
from vectorstores.base import StoreSettings
from vectorstores.models import Collection, Document
from vectorstores.stores.local.driver import Local

pytestmark = pytest.mark.django_db


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


def test_standard_input_is_json_lines(model, stdin):
    stdin(lines(SHOES, SOCKS))
    assert counts(run("-")) == (2, 0, 0)
    assert Document.objects.get(parent_vector_id="shoes").source == "standard input"


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
