"""Render an answer's Markdown as HTML that any page can show.

The text is untrusted, because a document may have dictated it. pyromark parses it in linear time; raw HTML, images and
reference definitions stay text; nh3 sanitizes the result last.
"""

import re
from html import escape
from typing import Any
from urllib.parse import quote

import nh3
from pyromark import Markdown, Options

from puffer.text.clean import storable, without_bidi
from puffer.text.link_text import has_credentials, misleads

MARKDOWN = Markdown(options=Options.ENABLE_TABLES | Options.ENABLE_STRIKETHROUGH)
MAX_DEPTH = 20  # open elements: a list within a list is two deeper, a quote one
# The parser pads the rows of a table: 10 KB of text can become 260,000 cells.
MAX_PARTS, MAX_PARTS_PER_CHARACTER = 1000, 4
# The parser walks through all open quotes and list items at each line. One line must not open thousands of them.
DEEP_LINE = re.compile(r"(?:^|\r)(?:[ \t]*+(?:>|(?:[*+-]|\d{1,9}[.)])[ \t])){50}", re.MULTILINE)

# The parser has no switch for raw HTML, reference definitions and ~single tildes~: noncharacters break them, also in
# code, until the text is shown. A backslash and the character it escapes stay as they are.
SYNTAX = re.compile(r"\\[^\n]|<(?!https?://|mailto:|[\w.+-]+@)|(?<=\]):|(?<!~)~(?!~)")
BREAK, TILDE = "\ufdd0", "\ufdd1"
BROKEN = {"<": "<" + BREAK, ":": BREAK + ":", "~": TILDE}

MAX_URL = 8000
TEXT_NODE = 4000  # characters that nh3 gets at once
SCHEMES = {"http", "https", "mailto"}
ALLOWED_URL = re.compile(rf"(?:{'|'.join(SCHEMES)}):", re.IGNORECASE)
BARE_URL = re.compile(rf"\b(https?://(?=[\w\[])[^\s<>\"`]{{1,{MAX_URL}}})", re.IGNORECASE)
ENDS_A_SENTENCE = ".,;:!?'*_~"
KEPT_IN_A_URL = "%/:?#[]@!$&'()*+,;=~"  # the others are percent-encoded

TAGS = {
    "Paragraph": ("<p>", "</p>\n"),
    "BlockQuote": ("<blockquote>", "</blockquote>\n"),
    "Item": ("<li>", "</li>\n"),
    "CodeBlock": ("<pre><code>", "</code></pre>\n"),
    "Table": ("<table>", "</tbody>\n</table>\n"),
    "TableHead": ("<thead>\n<tr>", "</tr>\n</thead>\n<tbody>\n"),
    "TableRow": ("<tr>", "</tr>\n"),
    "Emphasis": ("<em>", "</em>"),
    "Strong": ("<strong>", "</strong>"),
    "Strikethrough": ("<s>", "</s>"),
}
# An image is shown as its alternative text, without markup: loading its address could leak the conversation.
PLAIN = ("", "")
NO_LINKS = {"</a>", TAGS["CodeBlock"][1], PLAIN[1]}  # where a bare URL stays text

SANITIZER = nh3.Cleaner(
    tags={
        *("p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
    },
    attributes={"*": set(), "a": {"href"}, "ol": {"start"}},  # without "*" any element may have a title
    url_schemes=SCHEMES,
    url_relative="deny",
    link_rel="nofollow noopener noreferrer",
    set_tag_attribute_values={"a": {"target": "_blank"}},
)


def render(text: str) -> str:
    """Return the text as sanitized HTML."""
    text = without_bidi(storable(text))
    html = to_html(text)
    return SANITIZER.clean(as_written(text) if html is None else html)


def as_written(text: str) -> str:
    """Return the text as a paragraph that shows its Markdown."""
    lines = escape_text(text.strip()).replace("\n", "<br>\n")
    return f"<p>{lines}</p>\n"


def nests_deeply(text: str) -> bool:
    """Return whether a line opens so many quotes and lists that a Markdown parser needs quadratic time."""
    return DEEP_LINE.search(text) is not None


def to_html(text: str) -> str | None:
    """Return the text as HTML that is still to be sanitized, or None if it nests too deeply or grows too much."""
    if nests_deeply(text):
        return None
    parts: list[str] = []
    closing: list[str] = []  # the end tags of the open elements
    link: tuple[int, str] = (0, "")  # where the open link begins in `parts`, and its address
    for event in MARKDOWN.events(SYNTAX.sub(break_syntax, text)):
        match event:
            case {"Start": tag}:
                start, end = tags(tag, closing)
                if end.endswith("\n") and parts and not parts[-1].endswith("\n"):
                    parts.append("\n")
                if end == "</a>":
                    link = len(parts), address_of(tag)
                parts.append(start)
                closing.append(end)
                if len(closing) > MAX_DEPTH or len(parts) > MAX_PARTS + MAX_PARTS_PER_CHARACTER * len(text):
                    return None
            case {"End": _}:
                parts.append(closing.pop())
                if parts[-1] == "</a>" and misleads("".join(parts[link[0] + 1 :]), quoted(link[1])):
                    parts[link[0]], parts[-1] = "", f" ({start_of_link(link[1])}{escape_text(link[1])}</a>)"
            case {"Code": str(code)} if PLAIN[1] not in closing:
                parts.append(f"<code>{escape_text(shown(code))}</code>")
            case {"Text": str(content)} | {"Code": str(content)}:
                parts.append((escape_text if NO_LINKS.intersection(closing) else link_urls)(shown(content)))
            case "Rule":
                parts.append("\n<hr>\n")
            case _:  # a line break
                parts.append("<br>\n")
    return "".join(parts)


def break_syntax(found: re.Match[str]) -> str:
    return BROKEN.get(found[0], found[0])


def shown(text: str) -> str:
    return without_bidi(text.replace(BREAK, "").replace(TILDE, "~"))  # a character reference may stand for one


def tags(tag: Any, closing: list[str]) -> tuple[str, str]:
    """Return the start tag and the end tag of an element; `closing` holds the end tags of the elements around it."""
    if PLAIN[1] in closing:
        return PLAIN
    match tag:
        case {"Heading": {"level": level}}:
            return f"<{level}>", f"</{level}>\n"
        case {"List": None}:
            return "<ul>", "</ul>\n"
        case {"List": first}:
            return f'<ol start="{first}">' if first != 1 else "<ol>", "</ol>\n"
        case {"Link": _}:
            url = address_of(tag)
            is_link = ALLOWED_URL.match(url) and len(url) <= MAX_URL and not has_credentials(quoted(url))
            return (start_of_link(url), "</a>") if is_link else ("[", link_urls(f"]({url})"))
        case {"Image": _}:
            return PLAIN
        case "TableCell":
            return ("<th>", "</th>\n") if TAGS["TableHead"][1] in closing else ("<td>", "</td>\n")
    return TAGS.get(tag if isinstance(tag, str) else next(iter(tag)), PLAIN)


def address_of(tag: Any) -> str:
    link = tag["Link"]
    return ("mailto:" if link["link_type"] == "Email" else "") + shown(link["dest_url"])


def escape_text(text: str) -> str:
    """Return the text as HTML, in pieces: nh3 takes quadratic time for a long text node that is full of `&` or `©`."""
    pieces = [text[begin : begin + TEXT_NODE] for begin in range(0, len(text), TEXT_NODE)]
    return "<!---->".join(escape(piece, quote=False) for piece in pieces)


def start_of_link(url: str) -> str:
    return f'<a href="{escape(quoted(url))}">'


def quoted(url: str) -> str:
    return quote(url, KEPT_IN_A_URL)


def link_urls(text: str) -> str:
    """Return the text as HTML with a link for each bare URL."""
    parts: list[str] = []
    for position, part in enumerate(BARE_URL.split(text)):
        url = without_end_of_sentence(part) if position % 2 else ""
        if url and not has_credentials(quoted(url)):
            parts.append(f"{start_of_link(url)}{escape_text(url)}</a>")
            part = part[len(url) :]
        parts.append(escape_text(part))
    return "".join(parts)


def without_end_of_sentence(url: str) -> str:
    """Return the URL without trailing punctuation, and without closing brackets that were opened before it."""
    unopened = url.count(")") - url.count("(")
    end = len(url)
    while url[end - 1] in ENDS_A_SENTENCE or (url[end - 1] == ")" and unopened > 0):
        unopened -= url[end - 1] == ")"
        end -= 1
    return url[:end]
