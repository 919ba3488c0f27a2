"""Markdown as site generators read it: front matter, drafts, headings, comments, images, tables."""

import pytest

from tests.support.processor import cpu_milliseconds
from vectorstores.extraction import LeftOut, extract, media_type_of
from vectorstores.ingestion.chunking import cut_by_structure


def read(text):
    return extract(text.encode(), "text/markdown")


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("---\ntitle: The handbook\ntags:\n- a\n\n---\nText.", "The handbook", "Text."),
        ("\ufeff\n---\r\ntitle: Windows\r\n---\r\nText.", "Windows", "Text."),
        ("---\ntitle: 2024-02-31\n...\nText.", "2024-02-31", "Text."),
        ("---\nTitle: Returns: how they work\n\tnot: yaml\n---\nText.", "Returns: how they work", "Text."),
        ('+++\ntitle = "TOML"\ndate = 2024-01-01\n+++\nText.', "TOML", "Text."),
        ('{\n"title": "JSON",\n"draft": false}\n\nText.', "JSON", "Text."),
        ("---\ndraft: false\npublished: true\nstatus: publish\n---\n# Heading\nText.", "Heading", "# Heading\nText."),
        ("---\nexpiryDate: 2999-01-01\npublishDate: 2001-01-01\n---\nText.", "", "Text."),
        # Rules, and what only looks like front matter, stay.
        ("---\n\nText.\n\n---\nMore.", "", "---\n\nText.\n\n---\nMore."),
        ("---\nText between rules.\n\n---\nMore.", "", "---\nText between rules.\n\n---\nMore."),
        ("---\n- a\n---\nText.", "", "---\n- a\n---\nText."),
        ("{not json}\n\nText.", "", "{not json}\n\nText."),
        ("Text.\n\n---\ntitle: late\n---\nMore.", None, "Text.\n\n---\ntitle: late\n---\nMore."),
        ("---\n" + "a: " + "[" * 20_000 + "\n---\nText.", "", "Text."),
    ],
)
def test_front_matter(text, title, rest):
    extracted = read(text)
    assert extracted.text == rest
    assert title is None or extracted.title == title


@pytest.mark.parametrize(
    "front_matter",
    [
        "---\ntitle: Soon\ndraft: true\n---", "---\ndraft: Yes\n---", "---\npublished: false\n---",
        "+++\ndraft = true\n+++", '{"draft": true}', "---\nstatus: draft\n---", "---\nvisibility: private\n---",
        "---\nunlisted: true\n---", "---\ntitle: a: b\ndraft: true\n---", "---\r\ndraft: true\r\n---",
        "---\npublishDate: 2999-12-31\n---", "+++\nexpiryDate = 2001-01-01T10:00:00Z\n+++",
    ],
)  # fmt: skip
def test_drafts_are_left_out(front_matter):
    with pytest.raises(LeftOut):
        read(f"{front_matter}\nThe new model costs 99 euro.")


HEADINGS = """\
Tea händbook
============

Intro.

Returns
-------

    # code

```text
# code
~~~
```

~~~~
## code
~~~
~~~~

### By *post* and `mail` [here](https://x.example) ###

# Other {#anchor}
"""


def test_headings_of_any_kind():
    extracted = read(HEADINGS)
    assert extracted.title == "Tea händbook"
    found = [(extracted.text[at:].splitlines()[0], path) for at, path in extracted.headings]
    assert found == [
        ("Tea händbook", ""),
        ("Returns", "Returns"),
        ("### By *post* and `mail` [here](https://x.example) ###", "Returns > By post and mail here"),
        ("# Other {#anchor}", "Other"),
    ]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A.\n\n<!-- internal:\n\n90 days -->\n\nB.", "A.\n\n\n\nB."),
        ("A <!-- 90 days --> B.", "A  B."),
        ("<!-- 90 --> A <!-- 90 --> B.", "A  B."),
        ("<div>\n<!-- 90 -->\nA</div>", "<div>\n\nA</div>"),
        ("A.\n\n[//]: # (90 days)\n[comment]: <> (90)\n\nB.", "A.\n\n\n\n\nB."),
        ("A {/* 90 */} B {{/* 90 */}} C {% comment %}90{% endcomment %} D", "A  B  C  D"),
        ("`{/* a */}` {/* b */}\n\n    {/* c */}", "`{/* a */}` \n\n    {/* c */}"),
        # Code explains comments, and nobody knows where one ends that is not closed.
        ("`<!-- a -->`\n\n```\n<!-- b -->\n```", "`<!-- a -->`\n\n```\n<!-- b -->\n```"),
        ("A.\n\n<!-- open\n\nB.", "A.\n\n<!-- open\n\nB."),
        ("A.\n\n<script>\nvar a = 1;\n</script>\n<style>b {}</style>\n\nB.", "A.\n\n\n\n\nB."),
        ("```\n<script>a</script>\n```", "```\n<script>a</script>\n```"),
    ],
)
def test_comments_are_removed(text, left):
    assert read(text).text == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("AB\\_1 costs 5\\* EUR\\!", "AB_1 costs 5* EUR!"),
        ("1\\. \\_private\\_name", "1. _private_name"),
        ("`AB\\_1` and C:\\\\_x \\# no heading", "`AB\\_1` and C:\\\\_x \\# no heading"),
    ],
)
def test_backslashes_of_markdown_are_removed(text, left):
    assert read(text).text == left


MDX = """import Tabs from '@theme/Tabs';
import {
  Card,
} from 'cards';

export const price = {
  tea: 5,
};

# Guide

<Tabs>

import duties are paid by the buyer.

```js
import a from 'b';
from tests.support.processor import cpu_milliseconds
```

</Tabs>
"""


def test_the_modules_of_mdx_are_left_out():
    text = extract(MDX.encode(), media_type_of("a.mdx")).text
    assert text == MDX[MDX.index("# Guide") :].strip()
    assert "@theme" in extract(MDX.encode(), media_type_of("a.md")).text


PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 20


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"A ![][image1] B ![Logo][image1].\n\n[image1]: <{PICTURE}>", "A  B Logo."),
        (f'A ![Logo]({PICTURE} "Title") B.', "A Logo B."),
        (f"A <img alt='x' src='{PICTURE}'/> B.", "A  B."),
        (f"A [download]({PICTURE}) B.", "A [download]() B."),
        (f"A url({PICTURE}) ![b](https://x.example/b.png) [c]\n\n[c]: https://x.example",
         "A url() ![b](https://x.example/b.png) [c]\n\n[c]: https://x.example"),
    ],
)  # fmt: skip
def test_images_in_the_text_are_removed(text, left):
    assert read(text).text == left


HEADER = "| SKU | Name | Price |\n|:---|:---:|---:|\n"
TEAPOTS = "".join(f"| AB-{number} | Teapot number {number} | {number}.90 € |\n" for number in range(120))


def test_each_chunk_of_a_long_table_has_its_header():
    other = "a|b\n-|-\n1|2\n"
    text = f"# Prices\n\n{'All prices. ' * 30}\n\n## Pots\n\n{HEADER}{TEAPOTS}\n## Code\n\n```\n{other * 50}```\n"
    chunks = cut_by_structure(read(text), 500, 0)
    of_table = [chunk for chunk in chunks if "AB-" in chunk.text]
    assert len(of_table) > 5
    assert all(HEADER in chunk.text for chunk in of_table)
    assert all(chunk.text.startswith(HEADER) and chunk.headings == "Pots" for chunk in of_table[1:])
    assert all(len(chunk.text) <= 500 for chunk in chunks)
    assert "".join(chunk.text.rpartition("---:|\n")[2] + "\n" for chunk in of_table) == TEAPOTS
    assert not any(chunk.text.count(other) > 1 and "-|-\n1|2\n-|-" in chunk.text for chunk in chunks)


def test_short_texts_around_a_table_stay_with_its_rows():
    chunks = cut_by_structure(read(f"# Prices\n\nAll prices.\n\n{HEADER}{TEAPOTS}\nPrices include VAT.\n"), 500, 0)
    assert all(HEADER in chunk.text and len(chunk.text) <= 500 for chunk in chunks)
    assert chunks[0].text.startswith("# Prices\n\nAll prices.\n\n| SKU")
    assert chunks[-1].text.endswith("|\n\nPrices include VAT.")
    assert [(chunk.start, chunk.end) for chunk in chunks] == sorted((chunk.start, chunk.end) for chunk in chunks)


def test_tables_below_each_other():
    chunks = cut_by_structure(read(f"{HEADER}{TEAPOTS}\nCups:\n\n{HEADER.replace('SKU', 'Nr')}{TEAPOTS}"), 500, 0)
    assert all("| SKU |" in chunk.text or "| Nr |" in chunk.text for chunk in chunks)
    assert sum(chunk.text.count("Teapot number 7 ") for chunk in chunks) == 2
    assert sum(chunk.text.count("Cups:") for chunk in chunks) == 1


def test_a_row_that_is_longer_than_a_chunk_is_cut():
    long = "x" * 400
    chunks = cut_by_structure(read(f"|a|b|\n|-|-|\n|1|{long}|\n|2|3|\n"), 100, 0)
    assert all(chunk.text.startswith("|a|b|\n|-|-|\n") and len(chunk.text) <= 100 for chunk in chunks)
    assert sum(chunk.text.count("x") for chunk in chunks) == 400


@pytest.mark.parametrize("mark", ["> ", ">", "1. ", "- "])
def test_many_quotes_and_lists_in_one_line_take_linear_time(mark):
    text = f"# Title\n\n{mark * 100_000}word"
    assert extract(text.encode(), "text/markdown", "utf-8").text == text
    assert cpu_milliseconds(lambda: extract(text.encode(), "text/markdown", "utf-8"), 1000) < 1000
