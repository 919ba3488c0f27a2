"""Extract the text and the headings of a file, by its media type."""

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
    """A source, or a part of one, that cannot be read. The message says why."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A text, and (character, heading path "A > B") for each heading in it, in order."""

    text: str
    title: str = ""
    is_markdown: bool = False
    headings: list[tuple[int, str]] = field(default_factory=list)

    def headings_at(self, character: int) -> str:
        """Return the heading path of the section that contains the character; "" above the first heading."""
        before = bisect_right(self.headings, character, key=lambda heading: heading[0])
        return self.headings[before - 1][1] if before else ""


def media_type_of(name: str) -> str:
    """Return the media type by the file name's extension; "" for unsupported types."""
    return MEDIA_TYPES.get(PurePath(name).suffix.lower(), "")


def extract(data: bytes, media_type: str, charset: str | None = None) -> Extracted:
    """Extract the text of a file. Raise Unreadable."""
    if media_type == "application/pdf":
        return from_pdf(data)
    text = decode(data, charset)
    if media_type in ("text/html", "application/xhtml+xml"):
        return from_html(text)
    return from_markdown(text) if media_type == "text/markdown" else Extracted(text.strip())


def decode(data: bytes, charset: str | None = None) -> str:
    """Decode by the declared encoding, then UTF-8, then the one of old Windows files, which accepts nearly anything."""
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
        shown = path[1:] if path[0][1] == title else path  # the title is always shown above
        headings.append((match.start(), " > ".join(name for _, name in shown)))
    return Extracted(text, title, True, headings)


def from_html(html: str) -> Extracted:
    """Extract the main text of a page, without menus, with its headings as Markdown."""
    try:
        text = trafilatura.extract(html, output_format="markdown", include_comments=False, include_tables=True)
        page_metadata = trafilatura.extract_metadata(html)
    except Exception as error:  # lxml and trafilatura raise almost anything on a broken page
        raise Unreadable("The HTML is damaged and cannot be read.") from error
    title = (page_metadata.title if page_metadata else "") or ""
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
            raise Unreadable("The PDF is password-protected.")
        for number, page in enumerate(reader.pages, 1):
            text = storable(page.extract_text()).strip()
            if text:
                headings.append((at, f"Page {number}"))
                parts.append(text)
                at += len(text) + 2
        title = str((reader.metadata.title if reader.metadata else "") or "").strip()
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises almost anything on a broken file
        raise Unreadable("The PDF is damaged and cannot be read.") from error
    if not parts:
        raise Unreadable("The PDF contains no text. Scanned pages must be converted to text first (OCR).")
    return Extracted("\n\n".join(parts), storable(title), False, headings)
