"""The labels of benchmarks/conversations.json fit the pages in benchmarks/conversations/."""

import json
from itertools import cycle
from pathlib import Path

import pytest

from vectorstores.extraction import Extracted, extract
from vectorstores.ingestion.chunking import LOCAL_FILE_CHUNK, cut_by_structure

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PAGES = {
    path.relative_to(BENCHMARKS / "conversations").as_posix(): path
    for path in (BENCHMARKS / "conversations").rglob("*.md")
}
LABELS = json.loads((BENCHMARKS / "conversations.json").read_text(encoding="utf-8"))
ANSWERED = {name: LABELS[name] for name in ("conversations", "single", "codes", "words")}
LANGUAGES = {"en", "de", "fr", "es", "ar", "he", "ja", "zh"}


def one_line(text: str) -> str:
    return " ".join(text.split())


TEXTS = {name: one_line(path.read_text(encoding="utf-8")) for name, path in PAGES.items()}


@pytest.mark.parametrize("group", ANSWERED)
def test_each_answer_is_on_the_named_page_only(group):
    for label in ANSWERED[group]:
        pages = [name for name, text in TEXTS.items() if one_line(label["answer"]) in text]
        assert pages == [label["file"]], label


def test_each_answer_is_in_a_chunk_of_its_page():
    chunks = {
        name: [one_line(chunk.text) for chunk in cut_by_structure(extracted(path), LOCAL_FILE_CHUNK, 0)]
        for name, path in PAGES.items()
    }
    for label in [label for group in ANSWERED.values() for label in group]:
        assert any(one_line(label["answer"]) in chunk for chunk in chunks[label["file"]]), label


def extracted(path: Path) -> Extracted:
    return extract(path.read_bytes(), "text/markdown")


def test_each_page_is_the_answer_to_a_question():
    assert {label["file"] for group in ANSWERED.values() for label in group} == PAGES.keys()


def test_codes_are_rare():
    for label in LABELS["codes"]:
        pages = [name for name, text in TEXTS.items() if label["code"] in text]
        assert label["file"] in pages, label
        assert len(pages) <= 2, label


def test_unknown_codes_are_on_no_page():
    unknown = [label["code"] for label in LABELS["unrelated"] if label["kind"] == "missing_code"]
    assert unknown
    assert not [code for code in unknown for text in TEXTS.values() if code.lower() in text.lower()]


def test_conversations_alternate_and_end_with_a_question():
    for label in LABELS["conversations"]:
        roles = [message["role"] for message in label["messages"]]
        assert len(roles) in (3, 5, 7), label
        assert all(role == expected for role, expected in zip(roles, cycle(["user", "assistant"]), strict=False)), label


def test_messages_are_rewritten_unless_the_topic_changes():
    for label in LABELS["conversations"]:
        assert ("rewritten" in label) == (label["kind"] != "topic_change"), label
        assert label.get("rewritten") != label["messages"][-1]["content"], label


@pytest.mark.parametrize("group", LABELS)
def test_questions_are_asked_once(group):
    """Only conversations may end alike, since "Yes please" depends on the messages before it."""
    asked = [
        json.dumps(label["messages"]) if "messages" in label else (label["language"], label["question"])
        for label in LABELS[group]
    ]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("group", LABELS)
def test_all_languages_are_represented(group):
    assert {label["language"] for label in LABELS[group]} == LANGUAGES
