"""Extract the text and the headings of a file, by its media type."""

from collections.abc import Callable
from pathlib import PurePath

from vectorstores.extraction.encoding import decode
from vectorstores.extraction.extracted import Extracted
from vectorstores.extraction.html import from_html
from vectorstores.extraction.markdown import from_markdown_file
from vectorstores.extraction.office import from_docx, from_epub, from_open_document, from_pptx, from_xlsx
from vectorstores.extraction.pdf import from_pdf

MICROSOFT = "application/vnd.openxmlformats-officedocument."
OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
MDX = "text/mdx"
TEXT_TYPES = {
    ".txt": "text/plain", ".text": "text/plain", ".rst": "text/plain", ".md": "text/markdown",
    ".markdown": "text/markdown", ".mdx": MDX, ".html": "text/html", ".htm": "text/html",
    ".xhtml": "text/html",
}  # fmt: skip
BINARY_TYPES = {
    ".pdf": "application/pdf", ".docx": f"{MICROSOFT}wordprocessingml.document",
    ".xlsx": f"{MICROSOFT}spreadsheetml.sheet", ".pptx": f"{MICROSOFT}presentationml.presentation",
    ".odt": f"{OPEN_DOCUMENT}text", ".odp": f"{OPEN_DOCUMENT}presentation", ".ods": f"{OPEN_DOCUMENT}spreadsheet",
    ".epub": "application/epub+zip",
}  # fmt: skip
MEDIA_TYPES = {**TEXT_TYPES, **BINARY_TYPES}
READERS: dict[str, Callable[[bytes], Extracted]] = {
    ".pdf": from_pdf, ".docx": from_docx, ".xlsx": from_xlsx, ".pptx": from_pptx, ".odt": from_open_document,
    ".odp": from_open_document, ".ods": from_open_document, ".epub": from_epub,
}  # fmt: skip
READERS_BY_TYPE = {BINARY_TYPES[suffix]: reader for suffix, reader in READERS.items()}


def media_type_of(name: str) -> str:
    """Return the media type by the file name's extension; "" for unsupported types."""
    return MEDIA_TYPES.get(PurePath(name).suffix.lower(), "")


def extract(data: bytes, media_type: str, charset: str | None = None) -> Extracted:
    """Extract the text of a file. Raise Unreadable or LeftOut."""
    if data.startswith(b"%PDF-"):
        return from_pdf(data)
    if reader := READERS_BY_TYPE.get(media_type):
        return reader(data)
    decoded = decode(data, charset, media_type)
    text = decoded.text
    if media_type in ("text/html", "application/xhtml+xml"):
        extracted = from_html(text)
    elif media_type in ("text/markdown", MDX):
        extracted = from_markdown_file(text, is_mdx=media_type == MDX)
    else:
        extracted = Extracted(text.strip())
    if decoded.encoding.doubt:
        extracted.notes.append(decoded.encoding.doubt)
    return extracted
