"""Word: the numbers it shows before paragraphs, hidden text, charts and what programs embed."""

import pytest

from tests.support.knowledge.documents import zipped
from vectorstores.extraction import extract, media_type_of

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
KINDS = {"numbering": "numbering.xml", "styles": "styles.xml", "chart": "charts/c.xml", "aFChunk": "page.mht"}


def docx(body: str, **parts: str):
    """Return what is extracted of a document with parts that have the names of their kinds."""
    names = {f"word__{KINDS[kind].replace('/', '__')}": text for kind, text in parts.items()}
    relations = "".join(f'<Relationship Id="{kind}" Type="x/{kind}" Target="{KINDS[kind]}"/>' for kind in parts)
    names["word___rels__document.xml.rels"] = f"<Relationships>{relations}</Relationships>"
    data = zipped(**{"word__document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>", **names})
    return extract(data, media_type_of("a.docx"))


def paragraph(text: str, *properties: str) -> str:
    return f"<w:p><w:pPr>{''.join(properties)}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def in_list(level: int = 0, number: int = 1) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'


def style(name: str) -> str:
    return f'<w:pStyle w:val="{name}"/>'


def numbering(*levels: tuple[str, str], start: int = 1, more: str = "") -> str:
    """Return lists: 1 and 2 count together, 3 starts again at `start`."""
    found = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{format}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for at, (format, text) in enumerate(levels)
    )
    lists = "".join(f'<w:num w:numId="{at}"><w:abstractNumId w:val="0"/></w:num>' for at in (1, 2))
    again = f'<w:lvlOverride w:ilvl="0"><w:startOverride w:val="{start}"/></w:lvlOverride>'
    lists += f'<w:num w:numId="3"><w:abstractNumId w:val="0"/>{again}</w:num>'
    return f'<w:numbering {W}><w:abstractNum w:abstractNumId="0">{found}</w:abstractNum>{more}{lists}</w:numbering>'


STEPS = paragraph("One", in_list()) + paragraph("Deep", in_list(1)) + paragraph("Two", in_list())


@pytest.mark.parametrize(
    ("levels", "text"),
    [
        ([("decimal", "%1."), ("lowerLetter", "%2)")], "1. One\na) Deep\n2. Two"),
        ([("upperRoman", "%1"), ("decimal", "%1.%2")], "I One\nI.1 Deep\nII Two"),
        ([("decimalZero", "§ %1"), ("upperLetter", "%2")], "§ 01 One\nA Deep\n§ 02 Two"),
        ([("bullet", "\uf0b7"), ("bullet", "o")], "- One\n- Deep\n- Two"),
        ([("none", ""), ("decimal", "%2.")], "One\n\n1. Deep\n\nTwo"),  # as LibreOffice writes headings
        ([("chineseCounting", "%1.")], "1. One\n- Deep\n2. Two"),
    ],
)
def test_numbers_of_lists_are_shown(levels, text):
    assert docx(STEPS, numbering=numbering(*levels)).text == text


def test_lists_count_together_or_start_again():
    again = [paragraph(name, in_list(0, number)) for name, number in (("a", 1), ("b", 2), ("c", 3), ("d", 3))]
    assert docx("".join(again), numbering=numbering(("decimal", "%1."), start=7)).text == "1. a\n2. b\n7. c\n8. d"


STYLES = f"""<w:styles {W}>
<w:style w:styleId="Heading1"><w:name w:val="heading 1"/><w:pPr>{in_list()}</w:pPr></w:style>
<w:style w:styleId="H2"><w:name w:val="heading 2"/><w:pPr>{in_list(1)}</w:pPr></w:style>
<w:style w:styleId="Mine"><w:name w:val="Kapitel"/><w:basedOn w:val="H2"/></w:style>
<w:style w:styleId="Clause"><w:name w:val="Clause"/><w:pPr>{in_list(2)}</w:pPr></w:style>
<w:style w:styleId="Loop"><w:name w:val="Loop"/><w:basedOn w:val="Loop"/></w:style></w:styles>"""


def test_numbers_of_headings_and_clauses_come_from_their_styles():
    body = [
        ("Scope", "Heading1"), ("Terms", "Mine"), ("The buyer pays.", "Clause"), ("The seller ships.", "Clause"),
        ("Price", "Heading1"), ("Tax", "H2"), ("VAT is added.", "Clause"), ("No number.", "Loop"),
    ]  # fmt: skip
    levels = [("decimal", "%1"), ("decimal", "%1.%2"), ("decimal", "%1.%2.%3")]
    extracted = docx(
        "".join(paragraph(text, style(name)) for text, name in body), numbering=numbering(*levels), styles=STYLES
    )
    assert extracted.text == (
        "# 1 Scope\n\n## 1.1 Terms\n\n1.1.1 The buyer pays.\n\n1.1.2 The seller ships.\n\n"
        "# 2 Price\n\n## 2.1 Tax\n\n2.1.1 VAT is added.\n\nNo number."
    )
    assert extracted.headings_at(len(extracted.text)) == "2 Price > 2.1 Tax"


def test_a_list_may_name_its_levels_by_a_style():
    linked = '<w:abstractNum w:abstractNumId="1"><w:numStyleLink w:val="S"/></w:abstractNum>'
    lists = (
        numbering(("decimal", "%1."), more=linked)
        .replace('"0"><w:lvl ', '"0"><w:styleLink w:val="S"/><w:lvl ')
        .replace('<w:num w:numId="1"><w:abstractNumId w:val="0"/>', '<w:num w:numId="1"><w:abstractNumId w:val="1"/>')
    )
    assert docx(paragraph("One", in_list()), numbering=lists).text == "1. One"


@pytest.mark.parametrize("number", ["9" * 5000, "²", "-1", "x", ""])
def test_odd_numbers_do_no_harm(number):
    level = f'<w:numPr><w:ilvl w:val="{number}"/><w:numId w:val="1"/></w:numPr><w:outlineLvl w:val="{number}"/>'
    lists = numbering(("decimal", "%1.")).replace('<w:start w:val="1"/>', f'<w:start w:val="{number}"/>')
    assert docx(paragraph("One", level), numbering=lists).text == "1. One"


def test_a_hostile_list_takes_little_space():
    levels = [("lowerLetter", "%1" * 1000)]
    lists = numbering(*levels).replace('<w:start w:val="1"/>', '<w:start w:val="999999999"/>')
    assert len(docx(STEPS, numbering=lists).text) < 500


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('<w:p><w:r><w:t>19</w:t></w:r><w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>99</w:t></w:r>'
         "<w:r><w:t> EUR</w:t></w:r></w:p>", "19.99 EUR"),
        ('<w:p><w:r><w:t>10</w:t></w:r><w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>6</w:t></w:r></w:p>',
         "10⁶"),
        ('<w:p><w:pPr><w:outlineLvl w:val="1"/></w:pPr><w:r><w:t>Own level</w:t></w:r></w:p>', "## Own level"),
    ],
)  # fmt: skip
def test_how_text_is_shown_counts(body, text):
    assert docx(body).text == text


def test_hidden_text_is_skipped_and_told():
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>purchase price 12</w:t></w:r>"
    shown = '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>shown</w:t></w:r>'
    extracted = docx(f"<w:p>{hidden}{shown}</w:p>")
    assert extracted.text == "shown"
    assert extracted.notes == ["Hidden text was skipped: 1 passages."]


def test_charts_become_tables():
    def points(*values: str) -> str:
        return "".join(f'<c:pt idx="{at}"><c:v>{value}</c:v></c:pt>' for at, value in enumerate(values))

    series = "".join(
        f"<c:ser><c:tx>{points(name)}</c:tx><c:cat>{points('2023', '2024')}</c:cat>"
        f"<c:val>{points(*values)}</c:val></c:ser>"
        for name, values in {"Green": ["120", "140"], "Black": ["90"]}.items()
    )
    chart = f'<c:chartSpace xmlns:c="c" xmlns:a="a"><c:title><a:t>Sales</a:t></c:title>{series}</c:chartSpace>'
    assert docx(paragraph("Below"), chart=chart).text == (
        "Below\n\nSales\n\n|  | Green | Black |\n| --- | --- | --- |\n| 2023 | 120 | 90 |\n| 2024 | 140 |  |"
    )


MHT = (
    'MIME-Version: 1.0\nContent-Type: multipart/related; boundary="b"\n\n--b\n'
    'Content-Type: text/html; charset="utf-8"\n'
    "Content-Transfer-Encoding: quoted-printable\n\n<h1>Terms</h1><h2>Warranty</h2><p>Two ye=\nars</p>\n--b--\n"
)


@pytest.mark.parametrize("page", [MHT, "<html><h1>Terms</h1><h2>Warranty</h2><p>Two years</p></html>"])
def test_pages_that_a_program_embeds_are_read(page):
    extracted = docx(paragraph("Above") + "<w:altChunk/>", aFChunk=page)
    assert extracted.text == "Above\n\n# Terms\n\n## Warranty\n\nTwo years"
    assert extracted.headings_at(len(extracted.text)).endswith("Warranty")


def test_documents_that_a_program_embeds_are_told():
    (note,) = docx(paragraph("Above"), aFChunk="PK\x03\x04").notes
    assert "embedded in the file cannot be read: 1" in note


def test_damaged_text_is_told():
    data = zipped(**{"word__document.xml": f"<w:document {W}><w:body>{paragraph('First')}<w:p><w:r><w:t>La"})
    extracted = extract(data, media_type_of("a.docx"))
    assert extracted.text.startswith("First")
    assert extracted.notes == ["The file is damaged, so text may be missing: word/document.xml."]
