"""Markdown: extract the text that readers of the page see, its title, headings and tables."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyromark import Markdown, Options

from puffer.text import nests_deeply
from vectorstores.extraction.extracted import Extracted, LeftOut
from vectorstores.extraction.front_matter import reason_to_leave_out, split_front_matter

# Without tables: the parser fills up their rows, so a few kilobytes may give millions of cells.
MARKDOWN = Markdown(options=Options.ENABLE_HEADING_ATTRIBUTES)
MAX_HEADING = 300  # characters
TEMPLATE_COMMENTS = [("{{/*", "*/}}"), ("{/*", "*/}"), ("{% comment %}", "{% endcomment %}")]  # Hugo, MDX, Jekyll
Ranges = Sequence[tuple[int, int]]

IMAGE_IN_TEXT = re.compile(r"!\[([^\]\n]{0,1000})\]\(\s*<?data:[^\s)>]*>?[^)\n]{0,1000}\)", re.IGNORECASE)
IMAGE_DEFINITION = re.compile(r"^[ ]{0,3}\[([^\]\n]{1,1000})\]:[ \t]*<?data:[^\n]*$", re.IGNORECASE | re.MULTILINE)
IMAGE_ELEMENT = re.compile(r"<img\b[^<>]{0,2000}?\bsrc\s*=\s*[\"']?data:[^<>]*>", re.IGNORECASE)
DATA_URL = re.compile(r"data:[\w.+-]{1,100}/[\w.+-]{1,100};base64,[\w+/=%]{100,}", re.IGNORECASE)
IMAGE_USE = re.compile(r"!\[([^\]\n]{0,1000})\](?:\[([^\]\n]{0,1000})\])?(?!\()")
COMMENT_DEFINITION = re.compile(r"^[ ]{0,3}\[(?://|comment)\]:[^\n]*$", re.IGNORECASE | re.MULTILINE)
SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
MODULE = re.compile(
    r"import\s(?:[^\n]*?\sfrom\s*)?[\"']|import\s*[{*]|import\s+\w+\s*,\s*\{"
    r"|export\s+(?:const|let|var|function|class|default|async|type|interface)\b|export\s*[{*]"
)
ESCAPED = re.compile(r"(?<=[^\s\\])\\([_*&~.!$=+#-])|(?<!\\)\\([_*&~])(?=\w)")
DELIMITER_ROW = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*+\|?[ \t]*")


def from_markdown_file(text: str, *, is_mdx: bool = False) -> Extracted:
    """Extract a Markdown file as a site generator shows it. Raise LeftOut for drafts."""
    settings, text = split_front_matter(text.strip())
    if reason := reason_to_leave_out(settings):
        raise LeftOut(reason)
    title = settings.get("title")
    if is_mdx:
        text = without_modules(text)
    shown = without_escapes(without_images(without_comments(text)))
    return from_markdown(shown, " ".join(str(title).split()) if title else "")


def from_markdown(text: str, title: str = "") -> Extracted:
    """Find the headings of a text. The first one is the title unless one is given."""
    text = text.strip()
    path: list[tuple[int, str]] = []
    headings: list[tuple[int, str]] = []
    name: list[str] | None = None  # the text of the heading that is being read
    for event, start, _end in events(text):
        match event:
            case {"Start": {"Heading": _}}:
                name = []
            case {"Text": str(part)} | {"Code": str(part)} if name is not None:
                name.append(part)
            case {"End": {"Heading": str(tag)}}:
                words = " ".join("".join(name or []).split())[:MAX_HEADING]
                name = None
                if not words:
                    continue
                level = int(tag[1])
                title = title or words
                path = [*(above for above in path if above[0] < level), (level, words)]
                shown = path[1:] if path[0][1] == title else path  # the title is always shown above
                headings.append((start, " > ".join(words for _, words in shown)))
    return Extracted(text, title, True, headings)


def events(text: str) -> Iterator[tuple[Any, int, int]]:
    """Yield the events of the parser with the characters at which they start and end; none if that takes too long."""
    if nests_deeply(text):
        return
    data = text.encode()
    byte = character = 0

    def character_at(place: int) -> int:
        nonlocal byte, character
        if place >= byte:
            character += len(data[byte:place].decode())
        else:
            character -= len(data[place:byte].decode())
        byte = place
        return character

    for event, place in MARKDOWN.events_with_range(text):
        yield event, character_at(place["start"]), character_at(place["end"])


def without_comments(text: str) -> str:
    """Remove scripts, styles and the comments of HTML and of templates, except from code, which explains them."""
    parts: list[str] = []
    done = block_start = 0
    for event, start, end in events(text):
        match event:
            case {"Start": "HtmlBlock"}:
                block_start = start
            case {"End": "HtmlBlock"}:
                parts += [text[done:block_start], SCRIPT.sub("", strip_comments(text[block_start:end]))]
                done = end
            case {"InlineHtml": str(html)} if html.startswith("<!--"):
                parts.append(text[done:start])
                done = end
    text = COMMENT_DEFINITION.sub("", "".join([*parts, text[done:]]))
    for opening, closing in TEMPLATE_COMMENTS:
        if opening in text:
            text = strip_comments(text, opening, closing, code_in(text))
    return text


def without_modules(text: str) -> str:
    """Remove the lines of MDX that import and export for its components. Source: https://mdxjs.com/docs/what-is-mdx/"""
    parts: list[str] = []
    done = 0
    for event, start, end in events(text):
        match event:
            case {"Start": "Paragraph"} if start >= done and MODULE.match(text, start, end):
                parts.append(text[done:start])
                done = end
    return "".join([*parts, text[done:]])


def without_escapes(text: str) -> str:
    """Remove the backslashes of Markdown within words and numbers, AB\\_1, except from code."""
    if "\\" not in text:
        return text
    code = code_in(text)
    starts = [start for start, _ in code]
    return ESCAPED.sub(lambda found: found[0] if is_within(found.start(), code, starts) else found[1] or found[2], text)


def strip_comments(text: str, opening: str = "<!--", closing: str = "-->", code: Ranges = ()) -> str:
    """Remove comments outside code. A comment that is not closed stays, because its end is unknown."""
    parts: list[str] = []
    done = at = 0
    starts = [start for start, _ in code]
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start + len(opening))) >= 0:
        if is_within(start, code, starts):
            at = start + len(opening)
            continue
        parts.append(text[done:start])
        done = at = end + len(closing)
    return "".join([*parts, text[done:]])


def without_images(text: str) -> str:
    """Remove images embedded as data URLs, which are thousands of meaningless letters. Their names stay."""
    if "data:" not in text.lower():
        return text
    embedded = {name.casefold() for name in IMAGE_DEFINITION.findall(text)}
    text = IMAGE_ELEMENT.sub("", IMAGE_DEFINITION.sub("", IMAGE_IN_TEXT.sub(r"\1", text)))
    if embedded:
        text = IMAGE_USE.sub(lambda use: use[1] if (use[2] or use[1]).casefold() in embedded else use[0], text)
    return DATA_URL.sub("", text)


@dataclass(frozen=True, slots=True)
class Table:
    """The characters of a table: its header rows from `start`, its other rows from `body` up to `end`."""

    start: int
    body: int
    end: int


def tables_in(text: str) -> list[Table]:
    """Find the tables: a row, a row of dashes, and the rows up to a blank line. Those in code are left out."""
    tables: list[Table] = []
    at = 0
    previous, is_open = "", False
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        row = line.rstrip("\r\n")
        if "|" not in row:
            previous, is_open = "", False
        elif is_open:
            tables[-1] = replace(tables[-1], end=at)
        elif previous and DELIMITER_ROW.fullmatch(row):
            tables.append(Table(start - len(previous), at, at))
            is_open = True
        else:
            previous = line
    if not tables:
        return []
    code = code_in(text)
    starts = [start for start, _ in code]
    return [table for table in tables if not is_within(table.start, code, starts)]


def code_in(text: str) -> Ranges:
    """Return the start and the end of each piece of code, in order, in characters."""
    ranges: list[tuple[int, int]] = []
    for event, start, end in events(text):
        match event:
            case {"Start": {"CodeBlock": _}} | {"Code": _}:
                ranges.append((start, end))
    return ranges


def is_within(character: int, ranges: Ranges, starts: Sequence[int]) -> bool:
    before = bisect_right(starts, character)
    return bool(before) and character < ranges[before - 1][1]
