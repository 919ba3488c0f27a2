"""Office files and books: all text in them, in order, and archives that are damaged or hostile."""

import io
from datetime import date

import pytest
from openpyxl import Workbook

from tests.support.knowledge.documents import zipped
from vectorstores.extraction import Unreadable, extract, media_type_of, tables_in

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="a" xmlns:p="p" xmlns:r="r"'
ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
    ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    ' xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
)


def read(name: str, data: bytes):
    return extract(data, media_type_of(name))


def relations(**targets: str) -> str:
    entries = "".join(
        f'<Relationship Id="{key}" Type="x/{kind}" Target="{target}"/>' for key, (kind, target) in targets.items()
    )
    return f"<Relationships>{entries}</Relationships>"


def docx(body: str, **parts: str) -> bytes:
    return zipped(**{"word__document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>", **parts})


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def test_docx_has_headings_lists_and_tables():
    styles = f"""<w:styles {W}><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style></w:styles>"""
    body = (
        paragraph("Terms", '<w:pStyle w:val="Title"/>')
        + paragraph("Warranty", '<w:pStyle w:val="berschrift2"/>')
        + paragraph("One", "<w:numPr/>") + paragraph("Two", "<w:numPr/>")
        + table(
            cell("Size") + cell("Price", '<w:gridSpan w:val="2"/>'),
            cell("S", '<w:vMerge w:val="restart"/>') + cell("1") + cell("2"),
            cell("", "<w:vMerge/>") + cell("3") + cell("4"),
        )
    )  # fmt: skip
    parts = {"word___rels__document.xml.rels": relations(a=("styles", "styles.xml")), "word__styles.xml": styles}
    extracted = read("a.docx", docx(body, **parts))
    assert extracted.text == (
        "# Terms\n\n## Warranty\n\n- One\n- Two\n\n| Size | Price | Price |\n| --- | --- | --- |\n"
        "| S | 1 | 2 |\n| S | 3 | 4 |"
    )
    assert (extracted.title, extracted.headings[1][1]) == ("Terms", "Warranty")
    (found,) = tables_in(extracted.text)
    assert extracted.text[found.start : found.body] == "| Size | Price | Price |\n| --- | --- | --- |\n"
    assert extracted.text[found.body : found.end] == "| S | 1 | 2 |\n| S | 3 | 4 |"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "<w:p><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del></w:p>",
            "new",
        ),
        (f"<w:sdt><w:sdtContent>{paragraph('control')}</w:sdtContent></w:sdt>", "control"),
        (
            "<w:p><w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink><w:r><w:tab/><w:t>end</w:t></w:r></w:p>",
            "link end",
        ),
        (f"<w:p><w:r><w:t>out</w:t><w:txbxContent>{paragraph('box')}</w:txbxContent></w:r></w:p>", "box\n\nout"),
        (f"<w:p><x><Fallback>{paragraph('twice')}</Fallback></x><w:r><w:t>once</w:t></w:r></w:p>", "once"),
        ("<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t></w:r><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>", "a\nb"),
        (table(cell("alone")), "alone"),
        ("<w:p><w:r><w:t>AB_1 *x*</w:t></w:r></w:p>", "AB_1 *x*"),
    ],
)
def test_docx_loses_no_text(body, text):
    assert read("a.docx", docx(body)).text == text


def test_footnotes_are_read():
    note = f"<w:footnotes {W}>{paragraph('A note.')}</w:footnotes>"
    parts = {"word___rels__document.xml.rels": relations(a=("footnotes", "footnotes.xml")), "word__footnotes.xml": note}
    assert read("a.docx", docx(paragraph("Text."), **parts)).text == "Text.\n\nA note."


@pytest.mark.parametrize(
    ("title", "shown"), [("Price list", "Price list"), ("Document1", ""), ("PowerPoint Presentation", "")]
)
def test_titles_in_properties(title, shown):
    core = f'<x:coreProperties xmlns:x="x" xmlns:dc="dc"><dc:title>{title}</dc:title></x:coreProperties>'
    assert read("a.docx", docx(paragraph("Text."), docProps__core=core)).title == ""
    assert read("a.docx", docx(paragraph("Text."), **{"docProps__core.xml": core})).title == shown


def slide(title: str, body: str, more: str = "") -> str:
    shape = '<p:sp><p:nvSpPr><p:nvPr><p:ph type="title"/></p:nvPr></p:nvSpPr><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sp>'
    texts = f"<p:sp><a:p><a:r><a:t>{body}</a:t></a:r></a:p></p:sp>"
    return f"<p:sld {A} {more}>{shape.format(title) if title else ''}<p:grpSp>{texts}</p:grpSp></p:sld>"


def test_pptx_has_its_slides_in_order():
    order = "".join(f'<p:sldId r:id="{key}"/>' for key in ("b", "a", "c"))
    targets = {"a": ("slide", "slides/1.xml"), "b": ("slide", "/ppt/slides/2.xml"), "c": ("slide", "slides/3.xml")}
    data = zipped(
        **{
            "ppt__presentation.xml": f"<p:presentation {A}>{order}</p:presentation>",
            "ppt___rels__presentation.xml.rels": relations(**targets),
            "ppt__slides__1.xml": slide("", "Second"),
            "ppt__slides__2.xml": slide("Teapots", "First"),
            "ppt__slides__3.xml": slide("", "Draft", 'show="0"'),
        }
    )
    extracted = read("a.pptx", data)
    assert extracted.text == "## Teapots\n\nFirst\n\n## Slide 2\n\nSecond"
    assert extracted.title == "Teapots"
    assert "Hidden slides" in extracted.notes[0]


def pptx(slide_xml: str, **parts: str) -> bytes:
    """Return a presentation of one slide, which names the parts by their kinds."""
    targets = {kind: (kind, f"../{kind}.xml") for kind in parts}
    return zipped(
        **{
            "ppt__presentation.xml": f'<p:presentation {A}><p:sldId r:id="a"/></p:presentation>',
            "ppt___rels__presentation.xml.rels": relations(a=("slide", "slides/1.xml")),
            "ppt__slides__1.xml": slide_xml,
            "ppt__slides___rels__1.xml.rels": relations(**targets),
            **{f"ppt__{kind}.xml": text for kind, text in parts.items()},
        }
    )


def test_speaker_notes_are_told():
    notes = f'<p:notes {A}><p:sp><p:ph type="body"/><a:t>Say it slowly</a:t></p:sp></p:notes>'
    number = f'<p:notes {A}><p:sp><p:ph type="sldNum"/><a:t>1</a:t></p:sp></p:notes>'
    extracted = read("a.pptx", pptx(slide("Teapots", "First"), notesSlide=notes))
    assert "Say it slowly" not in extracted.text
    assert "those of 1 slides" in extracted.notes[0]
    assert not read("a.pptx", pptx(slide("Teapots", "First"), notesSlide=number)).notes


def test_tables_and_charts_of_slides():
    def cell(text: str, more: str = "") -> str:
        return f"<a:tc {more}><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:tc>"

    rows = [[cell("Tea", 'rowSpan="2"'), cell("small 5")], [cell("", 'vMerge="1"'), cell("large 9")]]
    table = "".join(f"<a:tr>{''.join(row)}</a:tr>" for row in rows)
    chart = "<c:chart xmlns:c='c'><c:ser><c:val><c:pt idx='0'><c:v>12</c:v></c:pt></c:val></c:ser></c:chart>"
    text = read("a.pptx", pptx(f"<p:sld {A}><a:tbl>{table}</a:tbl></p:sld>", chart=chart)).text
    assert "| Tea | small 5 |" in text
    assert "| Tea | large 9 |" in text
    assert text.endswith("Value\n\n12")


def test_odt_has_headings_lists_and_tables():
    body = """<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>
    <text:h text:outline-level="1">Terms</text:h><text:p>It <text:span>lasts</text:span> 24<text:s/>months.</text:p>
    <text:list><text:list-item><text:p>One</text:p></text:list-item></text:list>
    <table:table><table:table-row><table:table-cell><text:p>Size</text:p></table:table-cell>
    <table:table-cell><text:p>Price</text:p></table:table-cell></table:table-row>
    <table:table-row table:number-rows-repeated="2">
    <table:table-cell table:number-columns-repeated="2"><text:p>5</text:p></table:table-cell>
    <table:table-cell table:number-columns-repeated="16000"/></table:table-row></table:table>
    </office:text>"""
    content = f"<office:document-content {ODF}><office:body>{body}</office:body></office:document-content>"
    extracted = read("a.odt", zipped(**{"content.xml": content}))
    assert extracted.text == (
        "# Terms\n\nIt lasts 24 months.\n\n- One\n\n| Size | Price |\n| --- | --- |\n| 5 | 5 |\n| 5 | 5 |"
    )


def test_xlsx_shows_cells_as_a_spreadsheet_program_does():
    book = Workbook()
    sheet = book.active
    sheet.append(["Price list"])
    sheet.append(["Name", "Price", None, "From", "Tax", "Sold"])
    sheet.append(["Teapot", 39.9, None, date(2026, 1, 2), 0.19, True])
    for name, style in (("B3", '0.00 "€"'), ("E3", "0%")):
        sheet[name].number_format = style
    sheet.append([])
    sheet.append(["Open", "9-18"])
    book.create_sheet("Secret").sheet_state = "hidden"
    sheet["A9"] = "=SUM(B3:B4)"
    file = io.BytesIO()
    book.save(file)
    extracted = read("a.xlsx", file.getvalue())
    assert extracted.text == (
        "Price list\n\n| Name | Price | From | Tax | Sold |\n| --- | --- | --- | --- | --- |\n"
        "| Teapot | 39.90 € | 2026-01-02 | 19 % | True |\n\n| Open | 9-18 |\n| --- | --- |"
    )
    hidden, missing = extracted.notes
    assert "Hidden sheets were skipped: 1." in hidden
    assert "without a stored value: 1" in missing


def test_epub_has_its_chapters_in_order():
    chapter = '<?xml version="1.0"?><html xmlns="x"><body><h1>{0}</h1><p>About {0}.</p></body></html>'
    package = """<package><metadata><dc:title xmlns:dc="dc">Tea</dc:title></metadata><manifest>
    <item id="n" href="nav.xhtml" properties="nav"/><item id="a" href="text/a%20b.xhtml"/>
    <item id="c" href="text/c.xhtml"/></manifest>
    <spine><itemref idref="n"/><itemref idref="c"/><itemref idref="a"/><itemref idref="x"/></spine></package>"""
    data = zipped(
        **{
            "META-INF__container.xml": '<container><rootfile full-path="OEBPS/book.opf"/></container>',
            "OEBPS__book.opf": package,
            "OEBPS__nav.xhtml": chapter.format("contents"),
            "OEBPS__text__a b.xhtml": chapter.format("cups"),
            "OEBPS__text__c.xhtml": chapter.format("pots"),
        }
    )
    extracted = read("a.epub", data)
    assert extracted.text == "# pots\n\nAbout pots.\n\n# cups\n\nAbout cups."
    assert extracted.title == "Tea"
    assert [start for start, _ in extracted.headings] == [0, 21]


def test_chapters_of_a_book_keep_what_would_be_the_frame_of_a_page():
    chapter = (
        "<html><body><header><h2>Two</h2><p>Epigraph.</p></header><p>Text.</p><footer>The end.</footer></body></html>"
    )
    order = "<spine><itemref idref='a'/><itemref idref='b'/><itemref idref='a'/></spine>"
    items = "<item id='a' href='a.xhtml'/><item id='b' href='b.xhtml'/>"
    extracted = read(
        "a.epub", zipped(**{"b.opf": f"<package>{items}{order}</package>", "a.xhtml": chapter, "b.xhtml": ""})
    )
    assert extracted.text == "## Two\n\nEpigraph.\n\nText.\n\nThe end."
    assert "damaged or have no text: 1" in extracted.notes[0]


BOMB = zipped(**{"word__document.xml": b"<x>" + b" " * (301 * 1024 * 1024)})


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        *((name, b"x", "damaged") for name in ("a.docx", "a.xlsx", "a.pptx", "a.odt", "a.epub")),
        *((name, zipped(other="x"), "damaged") for name in ("a.docx", "a.xlsx", "a.pptx", "a.odt", "a.epub")),
        ("a.docx", docx(paragraph("x"))[:-40], "damaged"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, "password-protected or in an old format"),
        ("a.odt", zipped(**{"META-INF__manifest.xml": "<encryption-data/>", "content.xml": "x"}), "password-protected"),
        ("a.docx", BOMB, "unpacks to more than"),
    ],
)
def test_files_that_cannot_be_read(name, data, reason):
    with pytest.raises(Unreadable, match=reason):
        read(name, data)


def test_entities_are_not_resolved():
    declared = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    data = zipped(**{"word__document.xml": f"{declared}<w:document {W}>{paragraph('x&b;&c;y')}</w:document>"})
    text = read("a.docx", data).text
    assert "root:" not in text
    assert "bbbb" not in text
