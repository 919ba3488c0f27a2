"""Extract the text and the headings of a file, by its media type."""

from pathlib import PurePath

from vectorstores.extraction.encoding import decode
from vectorstores.extraction.extracted import Extracted
from vectorstores.extraction.html import from_html
from vectorstores.extraction.markdown import from_markdown
from vectorstores.extraction.pdf import from_pdf

MEDIA_TYPES = {
    ".txt": "text/plain", ".text": "text/plain", ".md": "text/markdown", ".markdown": "text/markdown",
    ".html": "text/html", ".htm": "text/html", ".xhtml": "text/html", ".pdf": "application/pdf",
}  # fmt: skip


def media_type_of(name: str) -> str:
    """Return the media type by the file name's extension; "" for unsupported types."""
    return MEDIA_TYPES.get(PurePath(name).suffix.lower(), "")


def extract(data: bytes, media_type: str, charset: str | None = None) -> Extracted:
    """Extract the text of a file. Raises Unreadable and LeftOut."""
    if media_type == "application/pdf" or data.startswith(b"%PDF-"):
        return from_pdf(data)
    decoded = decode(data, charset, media_type)
    text = decoded.text
    if media_type in ("text/html", "application/xhtml+xml"):
        extracted = from_html(text)
    else:
        extracted = from_markdown(text) if media_type == "text/markdown" else Extracted(text.strip())
    if decoded.encoding.doubt:
        extracted.notes.append(decoded.encoding.doubt)
    return extracted
