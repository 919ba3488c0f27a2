"""Recognize the media type of a file that another server sent, even if it is declared wrongly."""

import io
import zipfile

from vectorstores.extraction.extract import MEDIA_TYPES, media_type_of

PDF_MARK, PDF_MARK_WITHIN = b"%PDF-", 1024  # bytes, as PDF viewers do
HTML_MARKS = (b"<!doctype html", b"<html", b"<head", b"<body")
ZIP_MARK = b"PK\x03\x04"
MARKS_WITHIN = 1024
UNDECLARED = {
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/x-download",
    "application/force-download",
}
UNSPECIFIC = {"text/plain", "application/zip", "application/xml", "text/xml"}  # a file name may say more
SAME_AS = {
    "application/xhtml+xml": "text/html", "application/x-pdf": "application/pdf", "text/x-markdown": "text/markdown",
    "application/csv": "text/csv", "text/json": "application/json", "application/ld+json": "application/json",
}  # fmt: skip


def is_pdf(data: bytes) -> bool:
    """Return whether it is a PDF, which may have other bytes before it."""
    return PDF_MARK in data[:PDF_MARK_WITHIN]


def is_html(data: bytes) -> bool:
    """Return whether it starts like a web page."""
    return data[:MARKS_WITHIN].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_MARKS)


def recognize(data: bytes, declared: str, name: str) -> str:
    """Return the media type of a file by its bytes, then by what its sender declares, then by its name."""
    declared = SAME_AS.get(declared, declared)
    if is_pdf(data):
        return "application/pdf"
    if is_html(data) and declared in {*UNDECLARED, *UNSPECIFIC, "application/pdf"} - {"text/plain"}:
        return "text/html"
    by_name = media_type_of(name)
    if data.startswith(ZIP_MARK) and (found := office_type(data)) in MEDIA_TYPES.values():
        return found
    if declared in UNDECLARED or declared in UNSPECIFIC:
        return by_name or (guessed(data) if declared in UNDECLARED else declared)
    return declared


def guessed(data: bytes) -> str:
    """Return the type of a file with no known type or name: text, unless it has NUL bytes."""
    return "" if b"\x00" in data[:MARKS_WITHIN] else "text/plain"


def office_type(data: bytes) -> str:
    """Return the media type of a document that is a ZIP file; "" for another archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            if "mimetype" in names and archive.getinfo("mimetype").file_size < MARKS_WITHIN:
                return archive.read("mimetype").decode("ascii", "replace").strip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return ""
    parts = {"word/document.xml": ".docx", "xl/workbook.xml": ".xlsx", "ppt/presentation.xml": ".pptx"}
    return next((media_type_of(f"x{suffix}") for part, suffix in parts.items() if part in names), "")
