"""Text documents of Word (docx)."""

import email
from collections.abc import Mapping
from typing import Any

from vectorstores.extraction.encoding import decode
from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.html import from_html
from vectorstores.extraction.office.archive import Archive, part_of_type
from vectorstores.extraction.office.chart import write_chart
from vectorstores.extraction.office.numbering import Numbering
from vectorstores.extraction.office.styles import Styles
from vectorstores.extraction.office.walk import Walk, finished, small_number, value_of
from vectorstores.extraction.outline import LEVELS, Outline


def from_docx(data: bytes) -> Extracted:
    archive = Archive(data)
    main = part_of_type(archive, "", "officeDocument") or "word/document.xml"
    related = archive.related(main)
    styles = Styles.of(archive, related)
    numbering = Numbering.of(archive, related, styles)
    outline = Outline()
    hidden = 0

    def level_of(paragraph: Any) -> int:
        own_level = small_number(value_of(paragraph.find("{*}pPr/{*}outlineLvl")))
        if own_level is not None and own_level < LEVELS:
            return own_level + 1
        return styles.level(value_of(paragraph.find("{*}pPr/{*}pStyle")))

    def is_hidden(element: Any) -> bool:
        """Return whether a run has the property that hides its text."""
        nonlocal hidden
        vanish = element.find("{*}rPr/{*}vanish") if element.tag.endswith("}r") else None
        if vanish is None or value_of(vanish) in ("0", "false", "off"):
            return False
        hidden += element.find("{*}t") is not None
        return True

    Walk(outline, level_of, numbering.label, skips=is_hidden).through(archive.xml(main))
    for kind, name in dict.fromkeys(related.values()):
        # A letter may have its text in the header; usually headers repeat what is on each page.
        is_wanted = kind in ("footnotes", "endnotes") or (not outline.blocks and kind in ("header", "footer"))
        if is_wanted and name in archive:
            Walk(outline).through(archive.xml(name))
        elif kind == "chart" and name in archive:
            write_chart(outline, archive.xml(name))
    unread = write_embedded(outline, archive, related)
    notes = [f"Hidden text was skipped: {hidden} passages."] if hidden else []
    notes += [f"Documents that are embedded in the file cannot be read: {unread}."] if unread else []
    return finished(outline, archive, "docProps/core.xml", notes)


def write_embedded(outline: Outline, archive: Archive, related: Mapping[str, tuple[str, str]]) -> int:
    """Write the web pages that programs embed in place of paragraphs, and return how many cannot be read."""
    unread = 0
    for kind, name in dict.fromkeys(related.values()):
        if kind == "aFChunk":
            try:
                outline.include(embedded_page(archive.read(name)))
            except Unreadable:
                unread += 1
    return unread


def embedded_page(data: bytes) -> Extracted:
    """Return the text of a web page that may be wrapped as an e-mail (MHTML). Raise Unreadable."""
    if data.startswith(b"PK"):
        raise Unreadable("A whole document is embedded.")
    if data[:1000].lstrip().lower().startswith((b"mime-version", b"content-type", b"from:")):
        try:
            parts = list(email.message_from_bytes(data.lstrip()).walk())
        except (RecursionError, ValueError, LookupError) as error:
            raise Unreadable("The embedded page is damaged.") from error
        page = next((part for part in parts if part.get_content_type() == "text/html"), None)
        body = page.get_payload(decode=True) if page else None
        if page is None or not isinstance(body, bytes):
            raise Unreadable("It contains no web page.")
        return from_html(decode(body, page.get_content_charset(), "text/html").text, keeps_frame=True)
    return from_html(decode(data, None, "text/html").text, keeps_frame=True)
