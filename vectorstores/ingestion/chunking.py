"""Text -> chunks. Pure: no Django, no input or output.

What comes through the API is cut by characters, as AI Puffer does it; documents are cut where their structure allows.
Sizes are characters, as Python and PHP count them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from vectorstores.base import Value
from vectorstores.ingestion.extract import Extracted

CHUNK = 6000  # characters: the original's 1,500 tokens of 4
CHUNK_OVERLAP = 600
OLLAMA_CHUNK = 2000
OPENROUTER_CHUNK = 12_000  # for models that are not known to take less
SMALLER_AT_OPENROUTER = ("gemini", "google", "text-embedding", "openai")
SMALL_MODELS = {"mxbai-embed-large": 384}
LOCAL_CHUNK = 1500  # the bundled model reads 512 tokens of a text and no more


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text and where in it: `start` and `end` are characters. `headings` is its heading path, "A > B".

    `metadata` is what belongs to this chunk alone, beside that of its document.
    """

    text: str
    start: int
    end: int
    headings: str = ""
    metadata: Mapping[str, Value] = field(default_factory=dict)


def chunk_size(embedding_provider: str, embedding_model: str, limit: int | None = None) -> int:
    """How many characters a chunk may have, by the model that embeds it and the `limit` of the store."""
    size = CHUNK
    if embedding_provider == "ollama":
        size = OLLAMA_CHUNK
    elif embedding_provider == "local":
        size = LOCAL_CHUNK
    elif embedding_provider == "openrouter" and not any(name in embedding_model for name in SMALLER_AT_OPENROUTER):
        size = OPENROUTER_CHUNK
    for model, small in SMALL_MODELS.items():
        if model in embedding_model:
            size = small
    return min(size, limit or size)


def overlap_of(size: int) -> int:
    return min(CHUNK_OVERLAP, size // 4)


def cut(text: str, size: int) -> list[Chunk]:
    """Chunks of `size` characters, each beginning with the end of the one before. A text that fits stays whole.

    Pieces that hold nothing but blanks are left out. The last one may lie within the one before it.
    """
    if len(text) <= size:
        return [Chunk(text, 0, len(text))]
    return [chunk for chunk in _pieces(text, size) if chunk.text.strip()]


def _pieces(text: str, size: int) -> Iterator[Chunk]:
    for start in range(0, len(text), size - overlap_of(size)):
        end = min(start + size, len(text))
        yield Chunk(text[start:end], start, end)


def cut_by_structure(text: Extracted, size: int, overlap: int) -> list[Chunk]:
    """Chunks of at most `size` characters that end where a section, paragraph or sentence ends, if one does."""
    splitter = (MarkdownSplitter if text.is_markdown else TextSplitter)(size, overlap)
    return [
        Chunk(piece, start, start + len(piece), text.headings_at(start))
        for start, piece in splitter.chunk_indices(text.text)
        if piece.strip()
    ]
