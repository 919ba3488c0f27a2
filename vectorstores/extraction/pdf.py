"""PDF: the text of each page and the values of its form, read by PDFium, which also reads damaged files."""

import ctypes
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from puffer.text import storable
from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.titles import meaningful_title

CATALOG = re.compile(rb"(\d{1,9})\s{1,9}(\d{1,5})\s{1,9}obj\b(?:(?!endobj).){0,1000}?/Type\s{0,9}/Catalog", re.DOTALL)
LIGATURES = re.compile("[\ufb00-\ufb06\ufb13-\ufb17\ufb50-\ufdfb\ufe70-\ufefc]")
SOFT_HYPHEN = re.compile("\xad(?:[ \t]*\n[ \t]*)?")
HYPHEN_OF_PDFIUM = re.compile("[\x02\ufffe]\n?")  # in place of a hyphen and the end of the line
HYPHENATED = re.compile(r"(\w{1,60})[-\u2010][ \t]*\n[ \t]*(\w{1,60})")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufeff\uffff]")
UNREADABLE = re.compile("[\ue000-\uf8ff\ufffd]")  # characters of fonts that do not say which letters they are
MOST_UNREADABLE = 0.3  # share of a page's text
WAITS_FOR_ACROBAT = "If this message is not eventually replaced"  # the text of a dynamic XFA form in other programs
SHOWN_PAGES = 10
MAX_STRING = 100_000  # bytes of a form's value
FORM_TEXTS = {pdfium_c.FPDF_FORMFIELD_TEXTFIELD, pdfium_c.FPDF_FORMFIELD_COMBOBOX, pdfium_c.FPDF_FORMFIELD_LISTBOX}
FORM_MARKS = {pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON}


def from_pdf(data: bytes) -> Extracted:
    with opened(data) as document:
        if document.get_formtype() != pdfium_c.FORMTYPE_NONE:
            document.init_forms()
        pages = [page_text(document, index) for index in range(len(document))]
        attached = document.count_attachments()
        title = readable(document.get_metadata_value("Title"))
    if not any(pages):
        raise Unreadable("The PDF contains no text. Scanned pages must be converted to text first (OCR).")
    if WAITS_FOR_ACROBAT in "".join(pages)[:2000]:
        raise Unreadable("The PDF is a dynamic form that only Acrobat shows. Print it to a PDF and import that.")
    parts: list[str] = []
    headings: list[tuple[int, str]] = []
    at = 0
    for number, text in enumerate(pages, 1):
        if text:
            headings.append((at, f"Page {number}"))
            parts.append(text)
            at += len(text) + 2
    notes = [f"Files that are attached to the PDF were not read: {attached}."] if attached else []
    notes += note_about_empty_pages([number for number, text in enumerate(pages, 1) if not text], len(pages))
    return Extracted("\n\n".join(parts), meaningful_title(title), False, headings, notes)


def opened(data: bytes) -> Any:
    """Open a PDF, which may lack its end. Raise Unreadable."""
    failure: Exception | None = None
    for attempt in (data, data[max(data.find(b"%PDF-"), 0) :] + new_end(data)):
        try:
            return pdfium.PdfDocument(attempt)
        except pdfium.PdfiumError as error:
            if getattr(error, "err_code", None) == pdfium_c.FPDF_ERR_PASSWORD:
                raise Unreadable("The PDF is password-protected.") from error
            failure = error
    raise Unreadable("The PDF is damaged and cannot be read.") from failure


def new_end(data: bytes) -> bytes:
    """Return a trailer that names the document's catalog, from which PDFium finds everything else."""
    catalog = CATALOG.search(data)
    return b"\ntrailer\n<< /Root %s %s R >>\n%%%%EOF\n" % (catalog[1], catalog[2]) if catalog else b""


def page_text(document: Any, index: int) -> str:
    """Return the text of a page, "" if it has none that can be read."""
    try:
        page = document[index]
        try:
            text = page.get_textpage().get_text_range()
            text = joined(readable(text)).strip()
            filled = [value for value in annotations(document, page) if value.rpartition(": ")[2] not in text]
        finally:
            page.close()
    except pdfium.PdfiumError:
        return ""
    text = "\n".join(filter(None, [text, *filled]))
    return "" if len(UNREADABLE.findall(text)) > MOST_UNREADABLE * len(text) else text


def readable(text: str) -> str:
    """Return the text with ligatures as letters, and without control characters."""
    text = HYPHEN_OF_PDFIUM.sub("-\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = LIGATURES.sub(lambda match: unicodedata.normalize("NFKC", match[0]), SOFT_HYPHEN.sub("", text))
    return storable(CONTROL.sub("", text))


def joined(text: str) -> str:
    """Join words that are divided at the end of a line, unless the text has them with a hyphen elsewhere."""
    flat = text.replace("\u2010", "-").lower()

    def join(match: re.Match[str]) -> str:
        before, after = match[1], match[2]
        keeps_hyphen = not (before[-1].isalpha() and after[0].islower()) or f"{before}-{after}".lower() in flat
        return f"{before}{'-' if keeps_hyphen else ''}{after}"

    return HYPHENATED.sub(join, text)


def annotations(document: Any, page: Any) -> Iterator[str]:
    """Yield the annotations of a page: "name: value" of each filled field, and notes that are always visible."""
    for index in range(pdfium_c.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, index)
        try:
            if document.formenv and (value := field_value(document.formenv, annotation)):
                yield value
            elif pdfium_c.FPDFAnnot_GetSubtype(annotation) == pdfium_c.FPDF_ANNOT_FREETEXT:
                yield readable(string(pdfium_c.FPDFAnnot_GetStringValue, annotation, b"Contents")).strip()
        finally:
            pdfium_c.FPDFPage_CloseAnnot(annotation)


def field_value(form: Any, annotation: Any) -> str:
    kind = pdfium_c.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in FORM_TEXTS:
        value = string(pdfium_c.FPDFAnnot_GetFormFieldValue, form, annotation)
    elif kind in FORM_MARKS and pdfium_c.FPDFAnnot_IsChecked(form, annotation):
        value = string(pdfium_c.FPDFAnnot_GetFormFieldExportValue, form, annotation)
    else:
        return ""
    name = string(pdfium_c.FPDFAnnot_GetFormFieldName, form, annotation)
    return f"{readable(name)}: {readable(value).strip()}" if value.strip() else ""


def string(function: Any, *arguments: Any) -> str:
    """Call a function of PDFium that writes UTF-16 into a buffer and returns its length in bytes."""
    length = min(function(*arguments, None, 0), MAX_STRING)
    buffer = ctypes.create_string_buffer(length)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(pdfium_c.FPDF_WCHAR)), length)
    return buffer.raw[: max(length - 2, 0)].decode("utf-16-le", "ignore")


def note_about_empty_pages(empty: list[int], count: int) -> list[str]:
    if not empty:
        return []
    shown = ", ".join(map(str, empty[:SHOWN_PAGES])) + (", …" if len(empty) > SHOWN_PAGES else "")
    return [f"{len(empty)} of {count} pages contain no text ({shown}). Scans must be converted to text first (OCR)."]
