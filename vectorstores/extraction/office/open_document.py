"""Documents of LibreOffice and other programs: texts, presentations and spreadsheets (odt, odp, ods)."""

from typing import Any

from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.office.archive import DAMAGED, Archive
from vectorstores.extraction.office.presentation import speaker_notes_skipped
from vectorstores.extraction.office.walk import Walk, finished, repeated, value_of
from vectorstores.extraction.outline import Outline


def from_open_document(data: bytes) -> Extracted:
    archive = Archive(data)
    if "META-INF/manifest.xml" in archive and b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise Unreadable("The file is password-protected.")
    root = archive.xml("content.xml")
    body = next(root.iter("{*}body"), None)
    if body is None:
        raise Unreadable(DAMAGED)
    outline = Outline()
    notes: list[str] = []
    slides, sheets = body.findall("{*}presentation/{*}page"), body.findall("{*}spreadsheet/{*}table")
    hidden = hidden_styles(root)
    shown = [part for part in (*slides, *sheets) if value_of(part, "style-name") not in hidden]
    if skipped := len(slides) + len(sheets) - len(shown):
        notes.append(f"Hidden {'sheets' if sheets else 'slides'} were skipped: {skipped}.")
    if slides:
        write_slides(outline, shown)
        with_notes = sum(any("".join(part.itertext()).strip() for part in s.findall("{*}notes")) for s in shown)
        notes += [speaker_notes_skipped(with_notes)] if with_notes else []
    elif sheets:
        for sheet in shown:
            if len(shown) > 1:
                outline.heading(2, value_of(sheet, "name"))
            walk(outline).through(sheet)
    else:
        walk(outline).through(body)
    return finished(outline, archive, "meta.xml", notes, has_sheets=bool(sheets))


def walk(outline: Outline, title: Any = None) -> Walk:
    """Return a walk that leaves out the title of a slide, which is its heading."""

    def level_of(paragraph: Any) -> int:
        return repeated(paragraph, "outline-level") if paragraph.tag.endswith("}h") else 0

    def label_of(paragraph: Any) -> str:
        parent = paragraph.getparent()
        return "- " if parent is not None and parent.tag.endswith("}list-item") else ""

    return Walk(outline, level_of, label_of, is_mixed=True, skips=lambda element: element is title)


def hidden_styles(root: Any) -> set[str]:
    """Return the styles of hidden sheets and slides."""
    return {
        value_of(style, "name")
        for style in root.iter("{*}style")
        for properties in style
        if value_of(properties, "display") == "false" or value_of(properties, "visibility") == "hidden"
    }


def write_slides(outline: Outline, slides: list[Any]) -> None:
    for number, slide in enumerate(slides, 1):
        title = next((frame for frame in slide.iter("{*}frame") if value_of(frame, "class") == "title"), None)
        paragraphs = [] if title is None else title.iter("{*}p")
        name = " ".join("".join(paragraph.itertext()) for paragraph in paragraphs)
        outline.heading(2, name if name.strip() else f"Slide {number}")
        walk(outline, title).through(slide)
