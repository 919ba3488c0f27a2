"""Office files and books, which are ZIP archives of XML."""

from vectorstores.extraction.office.epub import from_epub
from vectorstores.extraction.office.open_document import from_open_document
from vectorstores.extraction.office.presentation import from_pptx
from vectorstores.extraction.office.spreadsheet import from_xlsx
from vectorstores.extraction.office.word import from_docx

__all__ = ["from_docx", "from_epub", "from_open_document", "from_pptx", "from_xlsx"]
