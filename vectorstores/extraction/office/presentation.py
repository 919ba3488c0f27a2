"""Presentations of PowerPoint (pptx): the slides in their order."""

from typing import Any

from vectorstores.extraction.extracted import Extracted
from vectorstores.extraction.office.archive import Archive, part_of_type
from vectorstores.extraction.office.chart import write_chart
from vectorstores.extraction.office.walk import Walk, finished
from vectorstores.extraction.outline import Outline


def from_pptx(data: bytes) -> Extracted:
    archive = Archive(data)
    main = part_of_type(archive, "", "officeDocument") or "ppt/presentation.xml"
    related = archive.related(main)
    outline = Outline()
    hidden = with_notes = missing = 0
    entries = archive.xml(main).iter("{*}sldId")
    names = [next((related[value][1] for value in entry.attrib.values() if value in related), "") for entry in entries]
    for number, name in enumerate(dict.fromkeys(names), 1):
        if name not in archive:
            missing += 1
            continue
        slide = archive.xml(name)
        if slide.get("show") in ("0", "false"):
            hidden += 1
            continue
        title = slide_title(slide)
        outline.heading(2, title or f"Slide {number}")
        Walk(outline, skips=lambda element: element.tag.endswith("}sp") and is_title(element)).through(slide)
        for kind, part in archive.related(name).values():
            if part not in archive:
                continue
            if kind == "diagramData":
                Walk(outline).through(archive.xml(part))
            elif kind == "chart":
                write_chart(outline, archive.xml(part))
            elif kind == "notesSlide":
                with_notes += has_speaker_notes(archive.xml(part))
    notes = [f"Hidden slides were skipped: {hidden}."] if hidden else []
    notes += [speaker_notes_skipped(with_notes)] if with_notes else []
    notes += [f"Slides that are missing in the file: {missing}."] if missing else []
    return finished(outline, archive, "docProps/core.xml", notes)


def speaker_notes_skipped(count: int) -> str:
    """Return the note about texts that the audience does not see."""
    return f"Speaker notes were skipped, because only the speaker sees them: those of {count} slides."


def is_title(shape: Any) -> bool:
    placeholder = next(shape.iter("{*}ph"), None)
    return placeholder is not None and placeholder.get("type") in ("title", "ctrTitle")


def slide_title(slide: Any) -> str:
    shape = next((shape for shape in slide.iter("{*}sp") if is_title(shape)), None)
    return "" if shape is None else " ".join("".join(text.itertext()) for text in shape.iter("{*}t"))


def has_speaker_notes(notes: Any) -> bool:
    bodies = [shape for shape in notes.iter("{*}sp") if any(ph.get("type") == "body" for ph in shape.iter("{*}ph"))]
    return any((text.text or "").strip() for shape in bodies for text in shape.iter("{*}t"))
