"""Damaged files of each kind are read or refused with words; no reader fails in another way."""

import contextlib
import io
import random

import pytest
from openpyxl import Workbook

from tests.support.knowledge.documents import pdf, zipped
from vectorstores.extraction import Unreadable, extract, media_type_of


def xlsx() -> bytes:
    book, file = Workbook(), io.BytesIO()
    book.active.append(["Name", "Price"])
    book.active.append(["Teapot", 39.9])
    book.save(file)
    return file.getvalue()


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PARAGRAPH = '<x:p xmlns:x="{0}"><x:r><x:t>Text of a paragraph.</x:t></x:r></x:p>'
HTML = """<!doctype html><html><head><title>T</title></head><body><nav>a</nav><main><h1>T</h1><p>b <b>c</b></p>
<table><tr><th rowspan=2>d</th><td>e</td></tr><tr><td>f</td></tr></table><script>g</script><ul><li>h</ul></main>"""
PACKAGE = "<package><item id='a' href='a.html'/><itemref idref='a'/></package>"
SLIDES = {"ppt__presentation.xml": "<p:sldIdLst xmlns:p='p'/>", "ppt__slides__1.xml": PARAGRAPH.format("a")}
FILES = {
    "a.html": HTML.encode(),
    "a.xhtml": b'<?xml version="1.0" encoding="UTF-8"?>' + HTML.encode(),
    "a.pdf": pdf("Hello.", "", "Bye."),
    "a.docx": zipped(**{"word__document.xml": PARAGRAPH.format(W)}),
    "a.pptx": zipped(
        **{"ppt__presentation.xml": "<p:sldIdLst xmlns:p='p'/>", "ppt__slides__1.xml": PARAGRAPH.format("a")}
    ),
    "a.odt": zipped(**{"content.xml": f"<o:body xmlns:o='o'>{PARAGRAPH.format('t')}</o:body>"}),
    "a.epub": zipped(
        **{"a.opf": "<package><item id='a' href='a.html'/><itemref idref='a'/></package>", "a.html": HTML}
    ),
    "a.xlsx": xlsx(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused(name, seed):
    generator = random.Random(f"{name} {seed}")
    for _ in range(50):
        data = bytearray(FILES[name])
        if generator.random() < 0.3:
            del data[generator.randrange(len(data)) :]
        for _ in range(generator.choice([1, 3, 20])):
            at = generator.randrange(len(data) + 1)
            data[at : at + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
        with contextlib.suppress(Unreadable):
            assert isinstance(extract(bytes(data), media_type_of(name)).text, str)
