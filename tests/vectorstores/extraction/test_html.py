"""Web pages: all that a visitor can see or open is kept, their frame is not, and hostile pages take little time."""

import contextlib
import time

import pytest

from vectorstores.extraction import Unreadable, extract

LONG = "<p>A paragraph about the history of teapots of cast iron in a small town by the river.</p>" * 12


def read(body: str, head: str = "<title>Teapots</title>"):
    html = f"<!doctype html><html><head>{head}</head><body>{body}</body></html>"
    return extract(html.encode(), "text/html", "utf-8")


CONTACTS = [
    "<p>Call +49 30 1234567</p>",
    "<a href=mailto:a@b.example>Write</a>",
    "<div>Phone 030 / 12 34 56</div>",
    "a@b.example",
]


@pytest.mark.parametrize("contact", CONTACTS)
def test_of_other_margins_only_contacts_are_kept(contact):
    margin = f"<div><p>Our slogan</p><ul><li><a href=/a>Imprint</a></li></ul></div>{contact}<p>All rights reserved</p>"
    for page in ("<main><p>Text.</p></main><footer>{}</footer>", "<header>{}</header><p>Text.</p>"):
        text = read(page.format(margin)).text
        assert (contact.partition(">")[2].partition("<")[0] or contact) in text
        for word in ("slogan", "Imprint", "rights"):
            assert word not in text


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("<details><summary>How long?</summary><p>24 months</p></details>", ["How long?", "24 months"]),
        ("<details><summary>Norway?</summary>14 euro</details>", ["Norway?", "14 euro"]),
        ("<h3><button aria-controls=a>How long?</button></h3><div id=a hidden>2 years</div>", ["How long?", "2 years"]),
        ("<button class=q>How long?</button><div style='display:none'>2 years</div>", ["How long?", "2 years"]),
        ("<div class=price>Price: <span>39.90 €</span></div>", ["Price: 39.90 €"]),
        ("<p class=price><span><bdi>39,90&nbsp;<span>€</span></bdi></span></p>", ["39,90 €"]),
        ("<span class=sku_wrapper>SKU: <span class=sku>AB_1-2*</span></span>", ["SKU: AB_1-2*"]),
        ("<ul role=tablist><li><a href=#t2>Shipping</a></li></ul><div id=t2 style='display: none'>3 days</div>",
         ["Shipping", "3 days"]),
        ("<div class='tab-pane fade' hidden>3 days</div>", ["3 days"]),
        ("<aside><h2>Hours</h2><p>Mo-Fr 9-18</p></aside>", ["Hours", "Mo-Fr 9-18"]),
        ("<div class=sidebar><table><tr><th>Monday</th><td>9-18</td></tr></table></div>", ["Monday", "9-18"]),
        ("<dl><dt>Weight</dt><dd>1.2 kg</dd></dl>", ["Weight", "1.2 kg"]),
        ("<form><label>Size</label><select><option>S<option>M</select></form>", ["Size", "S", "M"]),
        ("<section class=menu><h2>Menu</h2><p>Soup 4 €</p><p>Tea 3 €</p></section>", ["Soup 4 €", "Tea 3 €"]),
        ("<article><header><h2>News</h2><p>Today</p></header><p>Text</p><footer>By Jane</footer></article>",
         ["News", "Today", "By Jane"]),
        ("<my-card><template shadowrootmode=open><p>In the shadow</p></template></my-card>", ["In the shadow"]),
        ("<figure><img alt=x><figcaption>The bridge</figcaption></figure>", ["The bridge"]),
        ("<address>Main street 1</address><blockquote>Fine tea</blockquote>", ["Main street 1", "Fine tea"]),
        ("<table><tr><td><h2>Layout</h2><p>left</p></td><td>right</td></tr></table>", ["## Layout", "left", "right"]),
        ("<pre>a  = 1\nb = 2</pre><p>one<br>two</p>", ["a  = 1\nb = 2", "one\ntwo"]),
        ("<ol><li>One<li>Two</ol><ol start=5><li>Five</ol>", ["1. One\n2. Two", "5. Five"]),
        ("<ol start=²><li>One</ol><ol start=-3><li>Two</ol>", ["1. One", "1. Two"]),
        (f"<ol start={'9' * 5000}><li>One</ol>", ["1. One"]),
        ("<ul><li>One<ul><li>Two</li></ul></li><li>Three</li></ul>", ["- One\n  - Two\n- Three"]),
        ("<div class=cookie-box><h2>Cookies</h2><p>Our box of cookies costs 12 €.</p><button>Buy</button></div>",
         ["Our box of cookies costs 12 €."]),
        ("<p>sho&shy;es</p>", ["shoes"]),
        ("<p>a\x08b<script></script>c&#8;d<i>&#xFFFE;</i>e&#55296;f&#99999999;</p>", ["ab", "cd", "ef"]),
        ("<div class=faq><button type=submit>Do you ship?</button><div>Yes</div></div>", ["Do you ship?", "Yes"]),
        ("<div><span>Basic</span><span>9 €</span></div><p><b>W</b>ord H<sub>2</sub>O</p>", ["Basic 9 €", "Word H2O"]),
        ("<p><a href='mailto:info@shop.example?subject=x'>Write</a></p>", ["Write (info@shop.example)"]),
        ("<p><a href='tel:030 123'>030 123</a></p>", ["030 123"]),
        ("<header><h2>Hours</h2><p>We close on Sundays.</p></header>", ["Hours", "We close on Sundays."]),
        ("<ul class=menu><li><a href=/1>Pie 9.50</a></li><li><a href=/2>Soup 4 €</a></li></ul>", ["Pie 9.50", "Soup"]),
        ("<p>Now $19<sup>99</sup>, 5<sup>95</sup> €, 10<sup>6</sup> m<sup>2</sup>, 5<sup>th</sup></p>",
         ["Now $19.99, 5.95 €, 10⁶ m², 5th"]),
        ("<p class=price><del>49 €</del><ins>39 €</ins></p><s><p>old</p></s>", ["~~49 €~~ 39 €", "old"]),
        ("<table><tr><th>Tea<td>$5<sup>90</sup><tr><th>Cup<td>6 m<sup>2</sup></table>", ["Tea | $5.90", "6 m²"]),
        ("<div class=page-cookie-policy><p>We use cookies if you accept.</p><a>x</a></div>", ["We use cookies if"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", LONG + "{}", "{}" + LONG, f"<main>{LONG}{{}}</main>"])
def test_what_visitors_see_is_kept(body, texts, around):
    text = read(around.format(body)).text
    for part in texts:
        assert part in text


@pytest.mark.parametrize(
    "body",
    [
        "<nav>UNWANTED</nav>",
        "<header><a href=/>UNWANTED</a></header>",
        "<footer>UNWANTED</footer>",
        "<header><nav>Home</nav><h2>UNWANTED</h2></header>",
        "<header class=site-header><h2>UNWANTED</h2></header>",
        "<header><h2><a href=/>UNWANTED</a></h2><p>The shop</p></header>",
        "<div role=navigation>UNWANTED</div><div role=contentinfo>UNWANTED</div>",
        "<ul class=main-menu><li><a href=/>UNWANTED</a></li><li><a href=/b>UNWANTED</a></li></ul>",
        "<script>UNWANTED</script><style>UNWANTED</style><template>UNWANTED</template><noscript>UNWANTED</noscript>",
        "<iframe>UNWANTED</iframe><svg><title>UNWANTED</title><text>UNWANTED</text></svg>",
        "<div hidden>UNWANTED</div><div style='display:none'>UNWANTED</div>",
        "<div class=modal style='display:none'>UNWANTED</div>",
        "<!-- UNWANTED --><textarea>UNWANTED</textarea><input value=UNWANTED>",
        "<div id=onetrust-consent-sdk><div><h2>UNWANTED</h2><button>Accept</button></div></div>",
        "<div class=cky-consent-container><p>UNWANTED</p></div>",
        "<div id=CybotCookiebotDialog>UNWANTED</div>",
        "<div id=cmplz-cookiebanner-container><div class=cmplz-cookiebanner>UNWANTED</div></div>",
        "<div id=BorlabsCookieBox>UNWANTED</div><div id=usercentrics-root>UNWANTED</div>",
        "<div class=cc-window>UNWANTED</div><div id=didomi-host>UNWANTED</div>",
        "<div role=dialog><p>UNWANTED We use cookies.</p><button>Accept all</button></div>",
        "<div class=cookie><p>UNWANTED Diese Seite nutzt Cookies.</p><a>OK</a></div>",
        "<form><button type=submit>UNWANTED</button></form>",
        "<section class=privacy-notice>UNWANTED Wir verwenden Cookies. <a>Akzeptieren</a></section>",
        "<div id=comments>UNWANTED</div><div class=breadcrumbs>UNWANTED</div>",
    ],
)
def test_the_frame_of_a_page_is_left_out(body):
    for around in ("{}<p>Text.</p>", "<main><p>Text.</p></main>{}"):
        text = read(around.format(body)).text
        assert "UNWANTED" not in text
        assert "Text." in text


def test_a_page_that_is_all_frame_is_read():
    assert read("<footer>All rights reserved</footer>").text == "All rights reserved"


@pytest.mark.parametrize(
    "contact",
    ["<p>Mon - Fri 9 am - 6:30 pm</p>", "<p>Mo-Fr 9.00 – 18.00 Uhr</p>", "<address>Main street 1</address>"],
)
def test_opening_hours_and_addresses_in_the_frame_are_kept(contact):
    links = "<nav>Home</nav><ul><li><a href=/a>Imprint</a></li></ul>"
    text = read(f"<main><p>Text.</p></main><footer>{links}{contact}</footer>").text
    assert contact.partition(">")[2].partition("<")[0] in text
    assert "Imprint" not in text


@pytest.mark.parametrize("element", ["title", "script src='a'", "iframe", "textarea", "a id='x'", "style"])
def test_xhtml_may_close_elements_itself(element):
    html = f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head/><body><{element}/><p>Text.</p></body></html>'
    assert extract(html.encode(), "application/xhtml+xml").text == "Text."


@pytest.mark.parametrize(
    ("body", "head", "title"),
    [
        ("<h1>Kyoto</h1>", "<title>Kyoto | Tea shop</title>", "Kyoto"),
        ("<h1>Kyoto</h1>", "<title>Buy tea</title>", "Buy tea"),
        ("<h1>Kyoto</h1><h1>Osaka</h1>", "<title>Kyoto - shop</title>", "Kyoto - shop"),
        ("<h1>Kyoto</h1>", "", "Kyoto"),
        ("<p>x</p>", '<meta property="og:title" content="Kyoto"><title>Shop</title>', "Kyoto"),
        ("<svg><title>Logo</title></svg><h2>Kyoto</h2>", "", "Kyoto"),
    ],
)
def test_titles(body, head, title):
    assert read(f"{body}<p>Text.</p>", head).title == title


def test_headings_are_paths():
    extracted = read("<h1>Tea</h1><h2>Pots</h2><p>a</p><h3>Iron</h3><p>b</p><h2>Cups</h2>", "<title>Shop</title>")
    assert [path for _, path in extracted.headings] == ["Tea", "Tea > Pots", "Tea > Pots > Iron", "Tea > Cups"]
    assert all(extracted.text[start:].startswith("#") for start, _ in extracted.headings)


TABLE = """<table><thead><tr><th rowspan=2>Room</th><th colspan=2>Season</th></tr>
<tr><th>Low</th><th>High</th></tr></thead><tr><td rowspan=2>Single</td><td>80 €</td><td>110 €</td></tr>
<tr><td>70 €</td><td><b>90</b> €<br>(late)</td></tr></table>"""


def test_merged_cells_are_filled_in():
    assert read(TABLE).text.split("\n") == [
        "| Room | Season Low | Season High |",
        "| --- | --- | --- |",
        "| Single | 80 € | 110 € |",
        "| Single | 70 € | 90 € (late) |",
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "<noscript>You need to enable JavaScript to run this app.</noscript><div id=root></div>",
            "without JavaScript",
        ),
        ("<div id=app></div><script src=a.js></script>", "without JavaScript"),
        ("<div id=app>Loading...</div><script></script>", "without JavaScript"),
        ("<p>Just a moment... Enable JavaScript and cookies to continue</p>", "without JavaScript"),
        ("<p>Bitte aktivieren Sie JavaScript.</p>", "without JavaScript"),
        ("<div>" * 3000, "nested too deeply"),
    ],
)
def test_pages_without_text_are_refused(body, reason):
    with pytest.raises(Unreadable, match=reason):
        read(body)


def test_text_for_visitors_without_javascript_counts():
    assert read("<div id=root></div><noscript><p>We open at nine.</p></noscript>").text == "We open at nine."


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 2000 + "x", "<b>" * 15000, "<table><tr><td>" * 600, "<ul><li>" * 1000, "<h1>a" * 8000,
        "<table>" + "<tr><td rowspan=9999 colspan=9999>x" * 1000, "<div class=cookie>" * 200 + "cookie accept " * 2000,
        "<!--" * 10000, "<" * 40000, "# " * 20000, "<p># " + " " * 40000 + "x", "&amp" * 10000, "<a " + "x=" * 20000,
        "<div hidden>" * 2000, "<form><details><summary>" * 1500, "<select><option>" * 2500, "<p>" + "\t \n" * 13000,
        "<footer>" * 2000 + "9-18", "<?xml?>" + "<a/" * 13000,
        "<div role=dialog>" * 200 + "<a>cookie accept</a>" * 1500, "<pre>" * 2000, "<div class=menu>" * 2000,
    ],
)  # fmt: skip
def test_a_hostile_page_of_40_kilobytes_takes_little_time(html):
    started = time.thread_time()
    with contextlib.suppress(Unreadable):
        extract(html.encode()[:40_000], "text/html", "utf-8")
    assert time.thread_time() - started < 1.5
