"""PDF: text as people write it, titles, forms, and damaged files."""

import pytest

from tests.support.knowledge.documents import pdf
from vectorstores.extraction import Unreadable, extract


def read(data: bytes):
    return extract(data, "application/pdf")


def test_pages_become_headings():
    extracted = read(pdf("Returns within 45 days.", "Shipping on Mondays."))
    assert extracted.text == "Returns within 45 days.\n\nShipping on Mondays."
    assert extracted.headings == [(0, "Page 1"), (25, "Page 2")]
    assert extracted.notes == []


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("Die Versand-\nkosten", "Die Versandkosten"),
        ("by E-\nMail", "by E-Mail"),
        ("24-\n36 months", "24-36 months"),
        ("well-known and well-\nknown", "well-known and well-known"),
        ("one\ntwo", "one\ntwo"),
        ("a - b", "a - b"),
    ],
)
def test_divided_words_are_joined(written, text):
    assert read(pdf(written)).text == text


LIGATURES = """<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 10 0 R >>"""
CMAP = """/CIDInit /ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange
2 beginbfchar <61> <FB01> <62> <FB03> endbfchar endcmap end end"""


def test_ligatures_become_letters():
    data = pdf("aeld oble", objects=(f"<< /Length {len(CMAP)} >>\nstream\n{CMAP}\nendstream",))
    data = data.replace(b"/Subtype /Type1", b"/ToUnicode 10 0 R /Subtype /Type1")  # the offsets are rebuilt
    assert "field" in read(data).text.replace("\ufb01", "fi") or "fi" in read(data).text
    assert "\ufb01" not in read(data).text


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Price list", "Price list"),
        ("Document retention rules", "Document retention rules"),
        ("Microsoft Word - Dokument1.doc", ""),
        ("Microsoft PowerPoint - Folien", ""),
        ("PowerPoint Presentation", ""),
        ("untitled", ""),
        ("Untitled Document 2", ""),
        ("Unbenannt-1", ""),
        ("Document1", ""),
        ("prices_final.indd", ""),
        ("file:///C:/prices", ""),
        ("(anonymous)", ""),
        ("---", ""),
        ("", ""),
    ],
)
def test_titles_that_programs_write_are_ignored(title, shown):
    escaped = title.replace("(", r"\(").replace(")", r"\)")
    assert read(pdf("Hello.", info=f"<< /Title ({escaped}) >>")).title == shown


def test_pages_without_text_are_counted():
    (note,) = read(pdf("Hello.", "", "", "Bye.")).notes
    assert "2 of 4 pages contain no text (2, 3)" in note


@pytest.mark.parametrize("info", ["[ 1 2 ]", "(text)", "<< /Title 5 >>", "null"])
def test_a_damaged_info_does_no_harm(info):
    extracted = read(pdf("Hello.", info=info))
    assert (extracted.text, extracted.title) == ("Hello.", "")


@pytest.mark.parametrize(
    "data",
    [
        pdf("Hello.", end=False),
        pdf("Hello.").replace(b"startxref", b"startxxxx"),
        pdf("Hello.").replace(b"xref\n1 1", b"xref\n7 1"),
        pdf("Hello.").partition(b"startxref")[0],
        pdf("Hello.").replace(b"%%EOF", b""),
        b"\r\n<b>Warning</b> of a plugin\r\n" + pdf("Hello."),
        b"x" * 3000 + pdf("Hello."),
        pdf("Hello.") + b"\x00" * 5000,
    ],
)
def test_damaged_files_are_read_as_viewers_do(data):
    assert read(data).text == "Hello."


FIELD = "<< /Type /Annot /Subtype /Widget /Rect [0 0 9 9] /F 4 {} >>"


def test_values_of_forms_are_read():
    fields = (
        FIELD.format("/FT /Tx /T (name) /V (Jane Sample)"),
        FIELD.format("/FT /Ch /Ff 131072 /T (size) /Opt [(S) (M)] /V (M)"),
        FIELD.format("/FT /Btn /T (gift) /V /Yes /AS /Yes /AP << /N << /Yes 3 0 R /Off 3 0 R >> >>"),
        FIELD.format("/FT /Tx /T (empty)"),
        "<< /Type /Annot /Subtype /FreeText /Rect [0 0 99 99] /DA (/F1 12 Tf) /Contents (Sold out) >>",
    )
    references = " ".join(f"{10 + at} 0 R" for at in range(len(fields)))
    form = f"/AcroForm << /Fields [{references}] >>"
    lines = read(pdf("Order form.", root=form, page=f"/Annots [{references}]", objects=fields)).text.split("\n")
    assert lines[:3] == ["Order form.", "name: Jane Sample", "size: M"]
    assert "Sold out" in lines
    assert any(line.startswith("gift: ") for line in lines)
    assert not any(line.startswith("empty") for line in lines)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4 broken", "damaged"),
        (b"", "damaged"),
        (pdf(""), "no text"),
        (pdf("Please wait...", "If this message is not eventually replaced with the proper contents"), "Acrobat"),
    ],
)
def test_files_that_cannot_be_read(data, reason):
    with pytest.raises(Unreadable, match=reason):
        read(data)
