"""What imports refuse, and how they end."""

import json

import pytest

from tests.support.knowledge.documents import pdf
from tests.support.knowledge.import_files import SHOES, SOCKS
from tests.support.knowledge.imports import counts, lines, post, run, texts, write, wxr
from vectorstores.management import import_command
from vectorstores.sources import files as reading
from vectorstores.sources import row_files, tables

pytestmark = pytest.mark.django_db


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
