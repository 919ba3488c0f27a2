"""Chunk a text: by characters for texts of the API, by structure for files. Sizes are in characters."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from vectorstores.base import Value
from vectorstores.extraction import Extracted, Table, tables_in

# Chunks of texts, as AI Puffer makes them.
CHUNK = 6000  # 1,500 tokens of 4 characters
CHUNK_OVERLAP = 600
OLLAMA_CHUNK = 2000
OPENROUTER_CHUNK = 12_000  # for models that are not known to accept less
SMALLER_AT_OPENROUTER = ("gemini", "google", "text-embedding", "openai")
SMALL_MODELS = {"mxbai-embed-large": 384}
LOCAL_CHUNK = 1500  # the bundled model reads only the first 512 tokens of a text

# Chunks of files.
FILE_CHUNK = 2000
LOCAL_FILE_CHUNK = 1000
ONLY_HEADINGS = re.compile(r"(\s*#{1,6}[ \t][^\n]*)+\s*")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text, from character `start` up to `end`. `headings` is its heading path, "A > B".

    `metadata` applies to this chunk only, in addition to the metadata of its document.
    """

    text: str
    start: int
    end: int
    headings: str = ""
    metadata: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunking:
    """The requested chunk size (None: the model's default) and overlap; only the chunks of files use the overlap."""

    size: int | None = None
    overlap: int = 0


DEFAULT_CHUNKING = Chunking()


def chunk_size(embedding_provider: str, embedding_model: str, limit: int | None = None) -> int:
    """Return the most characters a chunk may have, by its embedding model and the `limit` of its store."""
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


def file_chunk_size(embedding_provider: str) -> int:
    """Return the usual chunk size of files, which chunk_size() may limit further."""
    return LOCAL_FILE_CHUNK if embedding_provider == "local" else FILE_CHUNK


def overlap_of(size: int) -> int:
    return min(CHUNK_OVERLAP, size // 4)


def cut(text: str, size: int) -> list[Chunk]:
    """Cut a text into chunks of `size` characters, each of which starts with the end of the chunk before it.

    A text that fits stays whole. Blank pieces are left out. The last chunk may lie within the one before it.
    """
    if len(text) <= size:
        return [Chunk(text, 0, len(text))]
    return [chunk for chunk in _pieces(text, size) if chunk.text.strip()]


def cut_with_facts(text: str, facts: str, size: int) -> list[Chunk]:
    """Cut a text so that each chunk ends with the facts, such as a price. Long facts follow the text once."""
    if not facts:
        return cut(text, size)
    if len(facts) > size // 3:
        return cut(f"{text}\n\n{facts}", size)
    chunks = cut(text, size - len(facts) - 2)
    return [replace(chunk, text=f"{chunk.text}\n\n{facts}") for chunk in chunks]


def _pieces(text: str, size: int) -> Iterator[Chunk]:
    for start in range(0, len(text), size - overlap_of(size)):
        end = min(start + size, len(text))
        yield Chunk(text[start:end], start, end)


def cut_by_structure(text: Extracted, size: int, overlap: int) -> list[Chunk]:
    """Cut a text into chunks of at most `size` characters, if possible after a section, paragraph or sentence.

    A table that does not fit into one chunk is cut between its rows, and each chunk starts with its header rows.
    """

    def cut_part(start: int, end: int, size: int = size) -> list[Chunk]:
        splitter = (MarkdownSplitter if text.is_markdown else TextSplitter)(size, min(overlap, size - 1))
        chunks = [
            Chunk(piece, start + at, start + at + len(piece), text.headings_at(start + at))
            for at, piece in splitter.chunk_indices(text.text[start:end])
            if piece.strip()
        ]
        return with_headings(chunks, size) if text.is_markdown else chunks

    def with_headings(chunks: list[Chunk], size: int) -> list[Chunk]:
        """Return the chunks, none of which holds only headings if their section is too large for the same chunk."""
        joined: list[Chunk] = []
        for chunk in chunks:
            above = joined[-1] if joined else None
            room = size - (chunk.start - above.start) if above else 0
            if above and room >= size // 2 and ONLY_HEADINGS.fullmatch(above.text):
                first, *others = cut_part(chunk.start, chunk.end, room)
                joined[-1] = replace(first, text=text.text[above.start : first.end], start=above.start)
                joined += others
            else:
                joined.append(chunk)
        return joined

    chunks: list[Chunk] = []
    done = 0
    for table in tables_in(text.text) if text.is_markdown else []:
        if table.end - table.start > size and (table.body - table.start) * 2 <= size:
            chunks = with_joint(chunks, cut_part(done, table.start), size)
            lead = chunks.pop() if chunks and fits_above(chunks[-1], text, table, size) else None
            chunks += cut_table(text, table, size, lead)
            done = table.end
    return with_joint(chunks, cut_part(done, len(text.text)), size)


def with_joint(chunks: list[Chunk], more: list[Chunk], size: int) -> list[Chunk]:
    """Return all chunks. A short text below a table, such as "All prices include VAT.", stays with its last rows."""
    if chunks and more:
        last, first = chunks[-1], more[0]
        if len(last.text) + len(first.text) + 2 <= size and first.headings == last.headings:
            joined = replace(last, text=f"{last.text}\n\n{first.text}", end=first.end)
            return [*chunks[:-1], joined, *more[1:]]
    return [*chunks, *more]


def fits_above(chunk: Chunk, text: Extracted, table: Table, size: int) -> bool:
    """Return whether the chunk ends where the table starts, and leaves room for rows of it."""
    is_directly_above = not text.text[chunk.end : table.start].strip()
    return is_directly_above and len(chunk.text) + table.body - table.start <= size // 2


def cut_table(text: Extracted, table: Table, size: int, lead: Chunk | None) -> Iterator[Chunk]:
    """Yield as many rows at a time as fit into a chunk below the header rows.

    The first chunk begins with the chunk directly above the table, its `lead`.
    """
    header, headings = text.text[table.start : table.body], text.headings_at(table.start)
    above = f"{lead.text}\n\n{header}" if lead else header
    for start, end in groups_of_rows(text.text, table, size - len(above), size - len(header)):
        rows = text.text[start:end].rstrip()
        if lead and start == table.body:
            yield Chunk(above + rows, lead.start, end, lead.headings)
        else:
            yield Chunk(header + rows, start, end, headings)


def groups_of_rows(text: str, table: Table, first_room: int, room: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each group of rows that fits into a chunk. A longer row is cut into pieces."""
    start = end = table.body
    limit = first_room
    for row in text[table.body : table.end].splitlines(keepends=True):
        if end > start and end + len(row) - start > limit:
            yield start, end
            start, limit = end, room
        end += len(row)
        while end - start > limit:
            yield start, start + limit
            start, limit = start + limit, room
    if end > start:
        yield start, end
