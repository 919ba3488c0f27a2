"""Office files and books, which are ZIP archives of XML."""

from vectorstores.extraction.office.documents import from_docx, from_open_document, from_pptx
from vectorstores.extraction.office.epub import from_epub
from vectorstores.extraction.office.spreadsheet import from_xlsx

__all__ = ["from_docx", "from_epub", "from_open_document", "from_pptx", "from_xlsx"]
