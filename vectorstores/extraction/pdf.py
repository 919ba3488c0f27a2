"""PDF: the text of each page."""

import io

import pypdf

from puffer.text import storable
from vectorstores.extraction.extracted import Extracted, Unreadable


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
