"""WordPress exports: what is imported, what stays out, and exports that are not well-formed."""

import random

import pytest

from tests.support.knowledge.imports import counts, post, run, stored, texts, write, wxr
from vectorstores.sources.shortcodes import without_shortcodes

pytestmark = pytest.mark.django_db

PASSWORD = "<wp:post_password><![CDATA[secret]]></wp:post_password>"


def test_published_posts_and_pages_are_imported(model, tmp_path):
    export = wxr(
        post(1), post(2, status="draft"), post(3, post_type="page"), post(4, post_type="attachment"),
        post(5, status="private"), post(6, content="<!-- wp:image --> "), post(7, more=PASSWORD),
        post(8, status="trash"), post(9, status="future"), post(10, post_type="product"),
    )  # fmt: skip
    summary = run(write(tmp_path / "blog.xml", export), code=1)
    assert counts(summary) == (2, 0, 1)
    assert "item 6" in summary["refusals"][0]["place"]
    found = {vector.metadata["title"]: vector for vector in stored().values()}
    assert found.keys() == {"Post 1", "Post 3"}
    assert found["Post 3"].text == "Text of number 3."
    assert found["Post 3"].metadata["url"] == "https://blog.example/3/"
    assert found["Post 3"].metadata["post_type"] == "page"
    notes = " ".join(note["text"] for note in summary["notes"])
    for part in (
        "draft: 1",
        "private: 1",
        "password-protected posts: 1",
        "of the type product: 1",
        "--post-type product",
    ):
        assert part in notes
    assert "attachment" not in notes


META = "<wp:postmeta><wp:meta_key>{}</wp:meta_key><wp:meta_value><![CDATA[{}]]></wp:meta_value></wp:postmeta>"


def test_other_post_types_on_request(model, tmp_path):
    more = META.format("_sku", "AB-1") + META.format("_regular_price", "39.90")
    more += '<category domain="pa_color" nicename="red"><![CDATA[Red]]></category>'
    export = write(tmp_path / "shop.xml", wxr(post(1, post_type="product", more=more), post(2, post_type="event")))
    assert "No documents" in run(export, code=2)["error"]
    summary = run(export, post_type=["product"])
    (text,) = texts()
    for part in ("Excerpt 1", "Text of number 1.", "SKU: AB-1", "Price: 39.90", "color: Red"):
        assert part in text
    assert "event: 1" in summary["notes"][0]["text"]


def test_the_price_of_a_product_with_variations(model, tmp_path):
    export = write(tmp_path / "shop.xml", wxr(post(1, post_type="product", more=META.format("_price", "39.90"))))
    run(export, post_type=["product"])
    assert "Price: 39.90" in texts().pop()


def test_posts_with_the_same_guid_are_told_apart(model, tmp_path):
    copy = post(2).replace("?p=2", "?p=1")
    assert counts(run(write(tmp_path / "blog.xml", wxr(post(1), copy)))) == (2, 0, 0)
    assert counts(run(tmp_path / "blog.xml")) == (0, 2, 0)


@pytest.mark.parametrize(
    "export",
    [
        "\n\n " + wxr(post(1), post(2), post(3)),
        "\ufeff" + wxr(post(1), post(2), post(3)),
        wxr(post(1), post(2), post(3)).encode("utf-16"),
        wxr(post(1), post(2), post(3)).replace("UTF-8", "martian"),
        wxr(post(1), post(2), post(3), before='<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'),
        wxr(post(1), post(2, title="&b;"), post(3), before='<!DOCTYPE a [<!ENTITY b "bb">]>'),
        wxr(post(1), post(2, title="A&nbsp;B & C &copy; &#8; <3"), post(3)),
        wxr(post(1), post(2, content="<p>Text of number 2.\x08\x0b\x00</p>"), post(3)),
        wxr(post(1), post(2, more="<yoast:title>x</yoast:title><a:b:c/>"), post(3)),
        wxr(post(1), post(2, more="<open>"), post(3)),
        wxr(post(1), post(2, content="<p>Text of number 2.</p><pre></item><item></pre>"), post(3)),
        wxr(post(1), post(2).replace("</item>", ""), post(3)),
        wxr(post(1), post(2), post(3)) + "\n<b>Warning</b>: a plugin's output <br>",
        "<br><b>Note</b>: undefined & <" + wxr(post(1), post(2), post(3)),
        wxr(post(1), post(2).replace("<title>Post 2</title>", "<title>Post 2</titel>"), post(3)),
    ],
)
def test_malformed_exports_lose_nothing(model, tmp_path, export):
    summary = run(write(tmp_path / "blog.xml", export))
    assert counts(summary) == (3, 0, 0)
    for number in (1, 2, 3):
        assert any(f"Text of number {number}." in text for text in texts())
    assert not any("root:" in text for text in texts())


def test_invalid_bytes_are_read_as_the_old_encoding(model, tmp_path):
    run(write(tmp_path / "blog.xml", wxr(post(1), post(2, title="Caf\u00e9")).encode("cp1252")))
    assert "Caf\u00e9" in {vector.metadata["title"] for vector in stored().values()}


@pytest.mark.parametrize("length", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_an_export_that_breaks_off_is_told(model, tmp_path, length):
    export = wxr(*(post(number) for number in range(10)))
    summary = run(write(tmp_path / "blog.xml", export[: int(len(export) * length)]), code=1)
    assert "breaks off" in summary["refusals"][-1]["reason"]
    assert summary["documents"] >= int(10 * length) - 2


def test_no_broken_export_loses_a_post_without_a_word(model, tmp_path):
    """Damage 30 exports at random: each of the 12 posts is stored, refused or counted as skipped, or damage is told."""
    generator = random.Random(7)
    export = wxr(*(post(number) for number in range(12))).encode()
    for _ in range(60):
        data = bytearray(export)
        for _ in range(3):
            at = generator.randrange(data.index(b"<item"), len(data))
            data[at : at + generator.randrange(4)] = bytes([generator.randrange(256)])
        summary = run(write(tmp_path / "blog.xml", bytes(data)), code=None, dry_run=True)
        found = summary["documents"] + summary["refused"] + summary["left_out"]
        assert found >= data.count(b"<item>"), bytes(data)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('[gallery ids="1,2"] Open daily.', "Open daily."),
        ('[caption id="a" align="b"]<img src="x"> The bridge[/caption]', '<img src="x"> The bridge'),
        ("[vc_row][vc_column width='1/2']Bikes[/vc_column][/vc_row]", "Bikes"),
        ('[et_pb_text css=".a{b:c}[d]"]<p>Three days.</p>[/et_pb_text]', "<p>Three days.</p>"),
        ('[vc_toggle title="How long?"]24 months[/vc_toggle]', "<h3>How long?</h3>24 months"),
        ("[et_pb_toggle title=&#8220;How long?&#8221;]24 months[/et_pb_toggle]", "<h3>How long?</h3>24 months"),
        ('[contact-form-7 id="1" title="Contact form"]', ""),
        ('[vc_raw_html el_class="a"]JTNDaWZyYW1l[/vc_raw_html]Text', "Text"),
        ("[one_half]left[/one_half] [button link=/x]Order[/button]", "left   Order"),
        ("[gallery] [products limit=4] [foo/]", ""),
        ("[[gallery]]", "[gallery]"),
        *(
            (text, text)
            for text in ("[1]", "[citation needed]", "a[i]", "[sic]", "[Update: new]", "[ ] to do", "[x](y)")
        ),
    ],
)
def test_shortcodes_are_removed_and_their_text_is_kept(html, text):
    assert without_shortcodes(html).strip() == text


def test_an_item_without_an_end_of_its_cdata_does_not_swallow_the_next_one(model, tmp_path):
    long = f"<p>Text of number 1.</p>{'x ' * 200_000}"  # more than is read at once
    export = wxr(post(1, content=long).replace("]]></content", "</content"), post(2), post(3))
    assert run(write(tmp_path / "blog.xml", export))["documents"] == 3
