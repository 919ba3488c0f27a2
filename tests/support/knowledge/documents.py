"""Small documents, written by hand: PDF, and Office files as ZIP archives."""

import io
import zipfile


def pdf(
    *pages: str, info: str = "", root: str = "", page: str = "", objects: tuple[str, ...] = (), end: bool = True
) -> bytes:
    """Return a PDF with a page for each text, which may hold lines. An empty text is a page without text.

    `root` and `page` are added to the catalog and each page; `objects` are numbered from 10.
    """
    first = 10 + len(objects)
    kids = " ".join(f"{first + 2 * at} 0 R" for at in range(len(pages)))
    bodies = {
        1: f"<< /Type /Catalog /Pages 2 0 R {root} >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        4: info or "<< >>",
        **dict(enumerate(objects, 10)),
    }
    for at, text in enumerate(pages):
        shown = " 0 -16 Td ".join(f"({line}) Tj" for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 72 720 Td {shown} ET" if text else ""
        bodies[first + 2 * at] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {first + 1 + 2 * at} 0 R"
            f" /Resources << /Font << /F1 3 0 R >> >> {page} >>"
        )
        bodies[first + 1 + 2 * at] = f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream"
    data, offsets = b"%PDF-1.4\n", []
    for number, body in bodies.items():
        offsets.append((number, len(data)))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    if not end:
        return data
    table = "".join(f"{number} 1\n{offset:010} 00000 n \n" for number, offset in offsets)
    trailer = f"<< /Size {max(bodies) + 1} /Root 1 0 R /Info 4 0 R >>"
    return data + f"xref\n{table}trailer\n{trailer}\nstartxref\n{len(data)}\n%%EOF\n".encode()


def zipped(**parts: str | bytes) -> bytes:
    """Return a ZIP archive. A part's name has "__" for "/"."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()
