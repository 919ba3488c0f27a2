"""JSON as programs write it, and objects that name their text differently."""

import pytest

from tests.support.knowledge.imports import run, stored, write

pytestmark = pytest.mark.django_db

POT_AND_CUP = {"a": "Pot", "b": "Cup"}
OBJECTS = '{"id": "a", "content": "Pot"}', '{"id": "b", "content": "Cup"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", ",\n".join(OBJECTS)),
        ("rows.jsonl", f"[{OBJECTS[0]}]\n[{OBJECTS[1]}]"),
        ("rows.jsonl", f"[{','.join(OBJECTS)}]"),
        ("rows.jsonl", f"[\n{','.join(OBJECTS)}\n]"),
        ("rows.jsonl", "\n".join(OBJECTS).replace("{", "{\n").replace(",", ",\n")),
        ("rows.json", "\n".join(OBJECTS)),
        ("rows.json", "\n".join(OBJECTS).replace("{", "{\n")),
        ("rows.json", f'{{"n": NaN, "vectors": [{",".join(OBJECTS)}]}}'),
        ("rows.json", f"[{','.join(OBJECTS)}]".encode("utf-16")),
        ("rows.jsonl", "\n".join(OBJECTS).encode("utf-16")),
        ("rows.jsonl", "\n".join(OBJECTS).encode("utf-16-le")),
        ("rows.json", f"[{','.join(OBJECTS)}]".encode("utf-8-sig")),
        ("rows.jsonl", b"\n".join(row.encode("utf-8-sig") for row in OBJECTS)),
        ("rows.json", f'{{"total": 2, "data": [{",".join(OBJECTS)}]}}'),
        ("rows.json", f'{{"total": NaN, "data": [{",".join(OBJECTS)}]}}'),
        ("rows.json", f'{{"description": "", "data": {{"items": [{",".join(OBJECTS)}]}}}}'),
        ("rows.json", f'{{"data": [{{"name": "A", "items": [{OBJECTS[0]}]}}, {{"items": [{OBJECTS[1]}]}}]}}'),
    ],
)
def test_rows_in_any_arrangement(model, tmp_path, name, content):
    run(write(tmp_path / name, content))
    assert {row_id: row.text for row_id, row in stored().items()} == POT_AND_CUP


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize(
    ("row", "row_id", "text"),
    [
        ('{"id": "a", "content": "Pot", "metadata": {"weight": NaN, "size": -Infinity}}', "a", "Pot"),
        ('{"id": 123456789012345678901234567890, "content": "Pot"}', "123456789012345678901234567890", "Pot"),
        ('{"id": "a", "content": "Pot \\ud83d!"}', "a", "Pot ?!"),
        ('{"id": "a", "content": "Pot\tof iron"}', "a", "Pot\tof iron"),
    ],
)
def test_what_other_parsers_refuse(model, tmp_path, name, row, row_id, text):
    run(write(tmp_path / name, f"{row}\n" if name == "rows.jsonl" else f"[{row}]"))
    assert stored()[row_id].text == text


def test_null_stands_for_what_is_no_number(model, tmp_path):
    run(write(tmp_path / "rows.jsonl", '{"id": "a", "content": "Pot", "metadata": {"weight": NaN, "size": 9}}\n'))
    assert "weight" not in stored()["a"].metadata
    assert stored()["a"].metadata["size"] == 9


@pytest.mark.parametrize(
    ("row", "title", "text"),
    [
        ('{"question": "How long?", "answer": "24 months"}', "How long?", "24 months"),
        ('{"page_content": "Pot", "metadata": {"title": "Kyoto"}}', "Kyoto", "Pot"),
        ('{"text": "Pot"}', "", "Pot"),
        ('{"title": "Kyoto", "content": "Pot", "price": 39.9, "sold": true, "tags": ["a", "b"], "no": null}', "Kyoto",
         "Pot\n\nprice: 39.9\nsold: yes\ntags: a, b"),
        ('{"name": "Kyoto", "description": "<p>Pot</p>"}', "Kyoto", "Pot"),
        ('{"title": {"rendered": "Tea &amp; cup"}, "content": {"rendered": "<p>Pot</p>"}, "_links": {"a": "b"}}',
         "Tea & cup", "Pot"),
        ('{"content": "Pot", "size": {"h": 5, "w": 6}, "parts": [{"n": "lid"}, {"n": 2}], "x": {"a": {"b": 1}}}', "",
         "Pot\n\nsize: h: 5, w: 6\nparts: n: lid; n: 2"),
    ],
)  # fmt: skip
def test_keys_with_usual_names(model, tmp_path, row, title, text):
    run(write(tmp_path / "rows.jsonl", row))
    (vector,) = stored().values()
    assert (vector.text, vector.metadata.get("title", "")) == (text, title)


def test_no_row_of_a_list_in_an_object_is_lost_without_a_word(model, tmp_path):
    summary = run(
        write(tmp_path / "rows.json", '{"data": [{"question": "Q", "answer": "A"}, {"question": "R"}, 5]}'), code=1
    )
    assert (summary["documents"], summary["refused"]) == (1, 2)


def test_metadata_of_the_api_stays_metadata(model, tmp_path):
    run(write(tmp_path / "rows.jsonl", '{"id": "a", "content": "<b>Pot</b>", "metadata": {"price": 39.9}}'))
    assert (stored()["a"].text, stored()["a"].metadata["price"]) == ("<b>Pot</b>", 39.9)


def test_drafts_are_left_out(model, tmp_path):
    rows = '{"id": "a", "content": "Pot", "status": "draft"}\n{"id": "b", "content": "Cup", "status": "active"}\n'
    summary = run(write(tmp_path / "rows.jsonl", rows))
    assert (summary["left_out"], summary["notes"][0]["place"]) == (1, f"{tmp_path}/rows.jsonl:1")
    assert stored().keys() == {"b"}


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("rows.jsonl", "\n\n", "no rows"),
        ("rows.json", '{"faq": [{"question": "Q", "answer": "A"}]}', "a list of items"),
        ("rows.json", f"[{OBJECTS[0]},,{OBJECTS[1]}]", "not JSON"),
        ("rows.jsonl", '{"messages": [{"role": "user", "content": "q"}]}', "no text"),
    ],
)
def test_what_cannot_be_read_is_told(model, tmp_path, name, content, word):
    summary = run(write(tmp_path / name, content), code=None)
    assert word in summary["refusals"][0]["reason"]


def test_standard_input_in_any_encoding(model, stdin):
    stdin('{"id": "a", "content": "Größe"}\n'.encode("utf-16"))
    run("-")
    assert stored()["a"].text == "Größe"
