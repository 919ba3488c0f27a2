"""A file's bytes -> its text and its headings, by media type. No chunking."""

import io
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import PurePath

import pypdf
import trafilatura
from django.utils.html import strip_tags

from puffer.text import storable

MEDIA_TYPES = {
    ".txt": "text/plain", ".text": "text/plain", ".md": "text/markdown", ".markdown": "text/markdown",
    ".html": "text/html", ".htm": "text/html", ".xhtml": "text/html", ".pdf": "application/pdf",
}  # fmt: skip
HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
CODE_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
FRONT_MATTER_TITLE = re.compile(r"^title:[ \t]*[\"']?(.*?)[\"']?[ \t]*$", re.MULTILINE)


class Unreadable(Exception):
    """Its text says why nothing can be made of a source, or of a part of it."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """`headings` are (character, heading path "A > B") in order: each holds from there to the next."""

    text: str
    title: str = ""
    is_markdown: bool = False
    headings: list[tuple[int, str]] = field(default_factory=list)

    def headings_at(self, character: int) -> str:
        before = bisect_right(self.headings, character, key=lambda heading: heading[0])
        return self.headings[before - 1][1] if before else ""


def media_type_of(name: str) -> str:
    """By the ending of a file's name; "" for one that is not read."""
    return MEDIA_TYPES.get(PurePath(name).suffix.lower(), "")


def extract(data: bytes, media_type: str, charset: str | None = None) -> Extracted:
    """Raises Unreadable."""
    if media_type == "application/pdf":
        return from_pdf(data)
    text = decode(data, charset)
    if media_type in ("text/html", "application/xhtml+xml"):
        return from_html(text)
    return from_markdown(text) if media_type == "text/markdown" else Extracted(text.strip())


def decode(data: bytes, charset: str | None = None) -> str:
    """Text in its own encoding, else in UTF-8, else in the one of old Windows files, which reads nearly anything."""
    marked = "utf-16" if data.startswith(UTF16_MARKS) else None
    for encoding in (charset, marked, "utf-8-sig", "cp1252"):
        try:
            if encoding:
                return storable(data.decode(encoding)).replace("\r\n", "\n").replace("\r", "\n")
        except (UnicodeDecodeError, LookupError):
            continue
    return storable(data.decode(errors="replace"))


def from_markdown(text: str, title: str = "") -> Extracted:
    if front := FRONT_MATTER.match(text):
        named = FRONT_MATTER_TITLE.search(front[1])
        title = title or (named[1] if named else "")
        text = text[front.end() :]
    text = text.strip()
    code = [(match.start(), match.end()) for match in CODE_FENCE.finditer(text)]
    code_starts = [start for start, _ in code]
    path: list[tuple[int, str]] = []
    headings: list[tuple[int, str]] = []
    for match in HEADING.finditer(text):
        before = bisect_right(code_starts, match.start())
        if before and match.start() < code[before - 1][1]:
            continue
        level, name = len(match[1]), match[2].strip()
        title = title or name
        path = [*(above for above in path if above[0] < level), (level, name)]
        shown = path[1:] if path[0][1] == title else path  # the title is told anyway
        headings.append((match.start(), " > ".join(name for _, name in shown)))
    return Extracted(text, title, True, headings)


def from_html(html: str) -> Extracted:
    """The main text of a page, without menus and the like, with its headings as Markdown."""
    try:
        text = trafilatura.extract(html, output_format="markdown", include_comments=False, include_tables=True)
        described = trafilatura.extract_metadata(html)
    except Exception as error:  # lxml and the extraction's heuristics raise whatever a broken page makes them raise
        raise Unreadable(f"The HTML can't be read: {type(error).__name__}.") from error
    title = (described.title if described else "") or ""
    if not text:
        text = trafilatura.html2txt(html) or strip_tags(html)
    return from_markdown(storable(text), storable(title).strip())


def from_pdf(data: bytes) -> Extracted:
    parts: list[str] = []
    headings: list[tuple[int, str]] = []
    at = 0
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("The PDF is protected by a password.")
        for number, page in enumerate(reader.pages, 1):
            text = storable(page.extract_text()).strip()
            if text:
                headings.append((at, f"Page {number}"))
                parts.append(text)
                at += len(text) + 2
        title = str((reader.metadata.title if reader.metadata else "") or "").strip()
    except Unreadable:
        raise
    except Exception as error:  # a broken PDF makes pypdf raise almost anything
        raise Unreadable(f"The PDF can't be read: {type(error).__name__}.") from error
    if not parts:
        raise Unreadable("The PDF holds no text, perhaps only pictures of it.")
    return Extracted("\n\n".join(parts), storable(title), False, headings)
