"""Web pages: the main text as Markdown."""

import trafilatura
from django.utils.html import strip_tags

from puffer.text import storable
from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.markdown import from_markdown


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
