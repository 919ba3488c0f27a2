"""Chunking: by character count for texts from the API, by structure for documents."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorstores.extraction import Extracted
from vectorstores.extraction.markdown import from_markdown
from vectorstores.ingestion.chunking import chunk_size, cut, cut_by_structure, overlap_of


@pytest.mark.parametrize(
    ("provider", "model", "limit", "size"),
    [
        ("openai", "text-embedding-3-small", None, 6000),
        ("azure", "text-embedding-3-small", None, 6000),
        ("google", "gemini-embedding-001", None, 6000),
        ("openai", "text-embedding-3-small", 5000, 5000),  # Chroma's limit
        ("openrouter", "openai/text-embedding-3-small", None, 6000),
        ("openrouter", "google/gemini-embedding-001", None, 6000),
        ("openrouter", "qwen/qwen3-embedding-8b", None, 12_000),
        ("openrouter", "qwen/qwen3-embedding-8b", 5000, 5000),
        ("ollama", "nomic-embed-text", None, 2000),
        ("ollama", "mxbai-embed-large:latest", None, 384),
        ("openrouter", "mixedbread-ai/mxbai-embed-large-v1", 5000, 384),
        ("local", "multilingual-e5-small", None, 1500),
    ],
)
def test_the_chunk_size_depends_on_the_model_and_the_store(provider, model, limit, size):
    assert chunk_size(provider, model, limit) == size


@pytest.mark.parametrize(("size", "overlap"), [(6000, 600), (2400, 600), (2000, 500), (384, 96), (3, 0)])
def test_the_overlap_is_at_most_a_quarter(size, overlap):
    assert overlap_of(size) == overlap


@pytest.mark.parametrize(
    ("length", "size", "spans"),
    [
        (1, 6000, [(0, 1)]),
        (6000, 6000, [(0, 6000)]),
        (6001, 6000, [(0, 6000), (5400, 6001)]),
        (12_000, 6000, [(0, 6000), (5400, 11_400), (10_800, 12_000)]),
        (
            11_400,
            6000,
            [(0, 6000), (5400, 11_400), (10_800, 11_400)],
        ),  # the last chunk lies within the one before, as in AI Puffer
        (385, 384, [(0, 384), (288, 385)]),
    ],
)
def test_texts_are_chunked_by_characters(length, size, spans):
    text = ("0123456789" * 1200)[:length]
    chunks = cut(text, size)
    assert [(chunk.start, chunk.end) for chunk in chunks] == spans
    assert [chunk.text for chunk in chunks] == [text[start:end] for start, end in spans]


def test_blank_chunks_are_skipped():
    assert [chunk.text.strip() for chunk in cut("a" + " " * 40 + "b", 10)] == ["a", "b", "b"]


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.integers(1, 30))
def test_chunks_cover_all_non_blank_text(text, size):
    chunks = cut(text, size)
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert all(text[chunk.start : chunk.end] == chunk.text and len(chunk.text) <= size for chunk in chunks)
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)


@given(st.text(alphabet="ab#\n .é漢😀", max_size=300), st.integers(1, 60), st.booleans())
def test_chunks_of_documents_cover_all_non_blank_text(text, size, is_markdown):
    chunks = cut_by_structure(Extracted(text, is_markdown=is_markdown), size, 0)
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)
    assert all(0 < len(chunk.text) <= size for chunk in chunks)
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)


DOCUMENT = from_markdown("""\
# Handbook

Welcome to us.

## Returns

Shoes come back within 45 days. Socks do not come back at all.

## Shipping

We ship on Mondays.
""")


def test_documents_are_chunked_by_section():
    chunks = cut_by_structure(DOCUMENT, 80, 0)
    assert [(chunk.text, chunk.headings) for chunk in chunks] == [
        ("# Handbook\n\nWelcome to us.", ""),
        ("## Returns\n\nShoes come back within 45 days. Socks do not come back at all.", "Returns"),
        ("## Shipping\n\nWe ship on Mondays.", "Shipping"),
    ]


def test_long_sections_are_chunked_by_sentence():
    texts = [chunk.text for chunk in cut_by_structure(DOCUMENT, 45, 0)]
    assert "## Returns\n\nShoes come back within 45 days." in [text.strip() for text in texts]
    assert "Socks do not come back at all." in [text.strip() for text in texts]


def test_chunks_of_documents_can_overlap():
    text = Extracted("One two three four five six seven eight nine ten.")
    chunks = cut_by_structure(text, 20, 10)
    assert all(after.start < before.end for before, after in pairwise(chunks))


def test_sizes_are_counted_in_characters_not_bytes():
    text = "漢😀é" * 20  # 3, 4 and 2 bytes in UTF-8
    assert {len(chunk.text) for chunk in cut(text, 20)} <= {20, 15}
    chunks = cut_by_structure(Extracted(text), 20, 0)
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)
    assert max(len(chunk.text) for chunk in chunks) == 20


def test_headings_stay_with_a_section_that_fills_a_chunk():
    sentences = "Shoes are returned within a month. " * 6
    text = from_markdown(f"# Shop\n\n## Returns\n\n{sentences}\n\n## Delivery\n\n{sentences}\n\n## Nothing")
    chunks = cut_by_structure(text, 220, 0)
    assert [chunk.text.split("\n\n")[:-1] for chunk in chunks] == [
        ["# Shop", "## Returns"], [], ["## Delivery"], [], [],
    ]  # fmt: skip
    assert [chunk.headings for chunk in chunks] == ["Returns", "Returns", "Delivery", "Delivery", "Nothing"]
    assert all(len(chunk.text) <= 220 for chunk in chunks)
