"""Web pages: all text that a visitor can see or open, as Markdown, without menus and cookie banners.

Extractors for articles guess which part of a page is its main text, and lose prices, tabs and answers of shops and help
pages. So everything stays that is not known to belong to the page's frame: see boilerplate.py.
"""

import re
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import urldefrag, urljoin

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from puffer.net import USER_AGENT
from vectorstores.extraction.boilerplate import remove_boilerplate
from vectorstores.extraction.extracted import Extracted, Unreadable, iso_date
from vectorstores.extraction.outline import Outline, superscript
from vectorstores.extraction.tables import is_data_table, table_rows
from vectorstores.extraction.xml_repair import allowed

BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "button", "caption", "center", "dd", "details", "dialog",
    "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "label",
    "legend", "li", "main", "menu", "nav", "ol", "optgroup", "option", "p", "search", "section", "select", "summary",
    "table", "tbody", "td", "template", "tfoot", "th", "thead", "tr", "ul",
}  # fmt: skip
HEADINGS = {f"h{level}": level for level in range(1, 7)}
STRUCK = {"del", "s", "strike"}  # an old price, for example
LISTS = {"ul", "ol", "menu", "dir"}
XHTML, XHTML_WITHIN = re.compile(r"^\s*<\?xml|//DTD XHTML|xmlns=[\"']http://www.w3.org/1999/xhtml"), 1000  # characters
VOID = "area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr"
SELF_CLOSED = re.compile(rf"<(?!(?:{VOID})\b)([A-Za-z][\w-]{{0,40}})((?:\s[^<>]{{0,2000}})?)/>")
MAX_DEPTH = 12  # of the indentation of lists
MAX_OPTIONS = 40  # of a choice: a longer one is a list of countries or years
# Texts of pages that show nothing without JavaScript.
TURN_ON = (
    "enable|require|turn on|activat|without|disabled|need|aktivier|benötig|ohne|activ|désactiv|sans|habilit|abilit"
    "|disattiv|inschakel|uitgeschakeld|włącz|включ|отключ|启用|有効|無効"
)
NEEDS_JAVASCRIPT = re.compile(
    rf"(?:{TURN_ON})[^.]{{0,80}}java ?script|java ?script[^.]{{0,80}}(?:{TURN_ON})", re.IGNORECASE
)
LOADING = "loading|please wait|one moment|just a moment|bitte warten|wird geladen|chargement|cargando|caricamento"
ONLY_LOADING = re.compile(rf"\W*(?:{LOADING})\b.{{0,40}}", re.IGNORECASE)
DATES = ("article:modified_time", "og:updated_time", "dateModified", "article:published_time", "datePublished")
SHORT = 300  # characters; a longer page has other text too
NO_TEXT_WITHOUT_JAVASCRIPT = "The page contains no text without JavaScript. Save it in a browser and import the file."


@dataclass(frozen=True, slots=True)
class Head:
    """What a page says about itself to crawlers: its canonical URL ("" if none), and whether it forbids indexing."""

    canonical: str = ""
    is_noindex: bool = False


def from_html(html: str, *, keeps_frame: bool = False) -> Extracted:
    """Extract the text of a page with its headings and tables. Raise Unreadable.

    `keeps_frame` is for documents that are not pages of a site, such as the chapters of a book.
    """
    root = parsed(html)
    title, date = title_of(root), date_of(root)
    noscript = " ".join(" ".join(element.itertext()) for element in root.iter("noscript"))
    has_script = next(root.iter("script"), None) is not None
    remove_boilerplate(root, keeps_frame=keeps_frame)
    text = replace(Writer().written(root).extracted(title), date=date)
    if not text.text and not keeps_frame:  # then the frame is the content
        root = parsed(html)
        remove_boilerplate(root, keeps_frame=True)
        text = replace(Writer().written(root).extracted(title), date=date)
    bare = " ".join(text.text.split())
    if len(bare) < SHORT and NEEDS_JAVASCRIPT.search(bare):
        raise Unreadable(NO_TEXT_WITHOUT_JAVASCRIPT)
    if not bare or ONLY_LOADING.fullmatch(bare):
        if noscript.strip() and not NEEDS_JAVASCRIPT.search(noscript):
            return Extracted(" ".join(re.sub(r"<[^<>]{0,2000}>", " ", noscript).split()), title)
        if noscript.strip() or bare or has_script:
            raise Unreadable(NO_TEXT_WITHOUT_JAVASCRIPT)
    return text


def parsed(html: str) -> Any:
    """Parse a page. Raise Unreadable."""
    html = allowed(html)  # lxml raises an error when it moves text with other characters
    if XHTML.search(html[:XHTML_WITHIN]):
        # HTML has no self-closing elements: <title/> would hide all that follows.
        html = SELF_CLOSED.sub(r"<\1\2></\1>", html)
    parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = document_fromstring(html.encode(errors="replace"), parser)
    except (etree.LxmlError, ValueError, AssertionError) as error:
        raise Unreadable("The page contains no text.") from error
    if any(error.type_name == "ERR_RESOURCE_LIMIT" or "depth" in error.message for error in parser.error_log):
        raise Unreadable("The HTML is nested too deeply to be read.")
    return root


def date_of(root: Any) -> str:
    """Return the day on which the page says that it was last changed or published; "" if it does not."""
    metas = {meta.get("property") or meta.get("itemprop"): meta.get("content", "") for meta in root.iter("meta")}
    return next(filter(None, (iso_date(metas.get(name, "")) for name in DATES)), "")


def title_of(root: Any) -> str:
    """Return the title: og:title or <title>; the only <h1> if the title is the <h1> and the name of the site."""
    named = [meta.get("content", "") for meta in root.iter("meta") if meta.get("property") == "og:title"]
    named += ["".join(title.itertext()) for title in root.iter("title") if not within(title, "svg")]
    title = next((" ".join(name.split()) for name in named if name.strip()), "")
    headings = [" ".join("".join(h1.itertext()).split()) for h1 in islice(root.iter("h1"), 2)]
    if len(headings) == 1 and (not title or (headings[0] and headings[0] in title)):
        return headings[0]
    return title


def within(element: Any, name: str) -> bool:
    return next(element.iterancestors(name), None) is not None


def head_of(html: str, url: str) -> Head:
    """Return what the page at `url` says to crawlers. Source: RFC 6596, https://www.robotstxt.org/meta.html"""
    try:
        root = parsed(html)
    except Unreadable:
        return Head()
    links = {
        link.get("href", "").strip() for link in root.iter("link") if "canonical" in link.get("rel", "").lower().split()
    }
    metas = [meta for meta in root.iter("meta") if meta.get("name", "").strip().lower() in ("robots", USER_AGENT)]
    canonical = links.pop() if len(links) == 1 else ""
    try:
        canonical = urldefrag(urljoin(url, canonical))[0] if canonical else ""
    except ValueError:
        canonical = ""
    return Head(canonical, any(forbids_indexing(meta.get("content", "")) for meta in metas))


def forbids_indexing(rules: str) -> bool:
    """Return whether a list of rules, as in <meta name="robots">, has noindex or none."""
    return not {"noindex", "none"}.isdisjoint(re.split(r"[\s,;]+", rules.lower()))


class Writer:
    """A writer of the blocks of a page. It does not recurse, because pages may be nested thousands deep."""

    def __init__(self) -> None:
        self.outline = Outline()
        self.inline: list[str] = []
        self.heading = 0  # the level of the heading that is being written
        self.heading_depth = 0
        self.lists: list[int | None] = []  # the next number of each open list; None for one with bullets
        self.marker = ""
        self.in_list = False  # whether the previous block was a list item

    def written(self, root: Any) -> Outline:
        skipped = None
        for event, element in etree.iterwalk(root, events=("start", "end")):
            if skipped is not None:
                if event == "end" and element is skipped:
                    skipped = None
                    self.text(element.tail)
                continue
            if event == "start" and self.start(element):
                skipped = element
            elif event == "end":
                self.end(element)
        self.flush()
        return self.outline

    def start(self, element: Any) -> bool:
        """Begin an element. Return whether it is already written with all its content."""
        name = element.tag
        if name in ("head", "title"):
            return True
        if name in BLOCKS or name in HEADINGS or "-" in name:
            self.flush()
        if name in HEADINGS and not self.heading:
            self.heading = HEADINGS[name]
        elif name in LISTS:
            start = element.get("start", "1")
            is_numbered = name == "ol" and start.isdecimal() and len(start) < 10
            self.lists.append(int(start) if is_numbered else 1 if name == "ol" else None)
        elif name == "li":
            self.marker = self.next_marker()
        elif name == "br":
            self.inline.append("\n")
        elif name == "pre":
            self.flush()
            self.outline.block(preformatted(element))
            return True
        elif name == "table" and is_data_table(element):
            for caption in element.iter("caption"):
                self.outline.block(" ".join("".join(caption.itertext()).split()))
            self.outline.table(table_rows(element))
            return True
        elif name == "select" and len(element) > MAX_OPTIONS:
            return True
        elif name == "sup" and (raised := "".join(element.itertext()).strip()).isdecimal():
            self.inline.append(superscript(raised))
            return True
        elif name in STRUCK:
            self.inline.append(" ~~" if is_struck(element) else " ")
        elif name not in BLOCKS and self.touches(element):
            self.inline.append(" ")
        self.text(element.text)
        return False

    def end(self, element: Any) -> None:
        name = element.tag
        if name in HEADINGS:
            self.flush()
            self.heading = 0
        elif name in BLOCKS or "-" in name:
            self.flush()
        if name in STRUCK:
            self.inline.append("~~ " if is_struck(element) else " ")
        if name == "a" and (contact := contact_in(element)):
            self.inline.append(f" ({contact})")
        if name in LISTS and self.lists:
            self.lists.pop()
        elif name == "li":
            self.marker = ""
        self.text(element.tail)

    def touches(self, element: Any) -> bool:
        """Return whether the words of two elements would become one: <span>Basic</span><span>9 €</span>."""
        before = element.getprevious()
        is_beside = before is not None and not before.tail and before.tag != "wbr" and bool(self.inline)
        words = (self.inline[-1], element.text or "") if is_beside else ("", "")
        return all(len(word) > 1 for word in words) and words[0][-1].isalnum() and words[1][0].isalnum()

    def next_marker(self) -> str:
        if not self.lists or (number := self.lists[-1]) is None:
            return "- "
        self.lists[-1] = number + 1
        return f"{number}. "

    def text(self, text: str | None) -> None:
        if text:
            self.inline.append(re.sub(r"[ \t\r\n\f\xa0]+", " ", text.replace("\xad", "").replace("\u200b", "")))

    def flush(self) -> None:
        """End the current block."""
        lines = [" ".join(line.split()) for line in "".join(self.inline).split("\n")]
        self.inline = []
        text = "\n".join(line for line in lines if line)
        if not text:
            return
        if self.heading:
            self.outline.heading(self.heading, text)
        elif self.lists:
            indent = "  " * min(len(self.lists) - 1, MAX_DEPTH)
            marker = self.marker or "  "
            self.outline.block(indent + marker + text.replace("\n", f"\n{indent}  "), tight=self.in_list)
        else:
            self.outline.block(text)
        self.in_list = bool(self.lists)
        self.marker = ""


def is_struck(element: Any) -> bool:
    """Return whether a text on one line is crossed out."""
    return bool("".join(element.itertext()).strip()) and next(element.iter(*BLOCKS, "br"), None) is None


def contact_in(link: Any) -> str:
    """Return the address or number of a mailto: or tel: link, if the page does not show it."""
    scheme, _, contact = (link.get("href") or "").partition(":")
    contact = contact.partition("?")[0].strip()[:100]
    is_contact = scheme.strip().lower() in ("mailto", "tel") and contact
    return contact if is_contact and contact not in "".join(link.itertext()) else ""


def preformatted(element: Any) -> str:
    """Return the text of <pre> with its lines, fenced unless it is a single one."""
    for br in element.iter("br"):
        br.tail = "\n" + (br.tail or "")
    text = "".join(element.itertext()).strip("\n").rstrip()
    return f"```\n{text}\n```" if "\n" in text and "```" not in text else text
