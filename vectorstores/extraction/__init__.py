"""From the bytes of a file to text with headings, one module per format. Start reading at extract.py."""

from vectorstores.extraction.encoding import UTF16_MARKS, decode
from vectorstores.extraction.extract import MEDIA_TYPES, extract, media_type_of
from vectorstores.extraction.extracted import Extracted, Unreadable

__all__ = ["MEDIA_TYPES", "UTF16_MARKS", "Extracted", "Unreadable", "decode", "extract", "media_type_of"]
