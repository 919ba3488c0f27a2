"""Extract text with headings from the bytes of a file, one module per format. Start reading at extract.py."""

from vectorstores.extraction.encoding import COMMON_ENCODINGS, Encoding, decode, detect, known_encoding
from vectorstores.extraction.extract import MEDIA_TYPES, extract, media_type_of
from vectorstores.extraction.extracted import Extracted, LeftOut, Unreadable, iso_date
from vectorstores.extraction.html import forbids_indexing, head_of
from vectorstores.extraction.markdown import Table, tables_in
from vectorstores.extraction.recognize import is_html, recognize

__all__ = [
    "COMMON_ENCODINGS",
    "MEDIA_TYPES",
    "Encoding",
    "Extracted",
    "LeftOut",
    "Table",
    "Unreadable",
    "decode",
    "detect",
    "extract",
    "forbids_indexing",
    "head_of",
    "is_html",
    "iso_date",
    "known_encoding",
    "media_type_of",
    "recognize",
    "tables_in",
]
