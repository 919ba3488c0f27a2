"""Books (EPUB): their chapters in reading order, which are web pages. Source: https://www.w3.org/TR/epub-33/"""

import posixpath

from vectorstores.extraction.encoding import decode
from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.html import from_html
from vectorstores.extraction.office.archive import DAMAGED, Archive, joined_path

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
ONLY_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def from_epub(data: bytes) -> Extracted:
    archive = Archive(data)
    if ENCRYPTION in archive:
        methods = archive.xml(ENCRYPTION).iter("{*}EncryptionMethod")
        if any(method.get("Algorithm") not in ONLY_FONTS for method in methods):
            raise Unreadable("The book is copy-protected (DRM).")
    package = package_of(archive)
    book = archive.xml(package)
    items = {item.get("id"): item for item in book.iter("{*}item")}
    order = dict.fromkeys(entry.get("idref") for entry in book.iter("{*}itemref"))
    chapters = [items[name] for name in order if name in items]
    parts: list[str] = []
    headings: list[tuple[int, str]] = []
    at = missing = unread = 0
    for chapter in chapters:
        if "nav" in (chapter.get("properties") or "").split():
            continue
        name = joined_path(posixpath.dirname(package), (chapter.get("href") or "").partition("#")[0])
        try:
            page = decode(archive.read(name), None, "application/xhtml+xml").text
            extracted = from_html(page, keeps_frame=True)
        except Unreadable:
            missing += name not in archive
            unread += name in archive
            continue
        if extracted.text:
            headings += [(at + start, path) for start, path in extracted.headings] or [(at, extracted.title)]
            parts.append(extracted.text)
            at += len(extracted.text) + 2
    notes = [f"Chapters that are missing in the file: {missing}."] if missing else []
    notes += [f"Chapters that are damaged or have no text: {unread}."] if unread else []
    title = next((title.text or "" for title in book.iter("{*}title")), "")
    return Extracted("\n\n".join(parts), " ".join(title.split()), True, headings, notes)


def package_of(archive: Archive) -> str:
    """Return the name of the part that lists all others."""
    names: list[str] = []
    if CONTAINER in archive:
        names = [root.get("full-path") or "" for root in archive.xml(CONTAINER).iter("{*}rootfile")]
    found = next((name for name in [*names, *archive.infos] if name.endswith(".opf") and name in archive), "")
    if not found:
        raise Unreadable(DAMAGED)
    return found
