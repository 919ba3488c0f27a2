"""An answer's Markdown -> HTML that any page can show. It is a stranger's text: a document may have dictated it.

    Markdown -> tokens, none of them for raw HTML, images and reference definitions -> HTML -> sanitised, and that last

A text that asks for too much work, or nests too deeply, is shown as it is written.
"""

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline, autolink, link
from markdown_it.token import Token

from puffer.text.clean import storable

MAX_EFFORT = 30_000  # documentation of 50 KB takes a sixth to a half of it; a unit costs 3 to 6 microseconds
MAX_EFFORT_OF_A_PAGE = 200_000  # of all its texts together; a hundred ordinary answers take less than half of it
EFFORT_OF_AN_INLINE_RULE = 3
EFFORT_OF_A_LINK = 10
MAX_DEPTH = 16  # a list within a list is two deeper, a quote one
# markdown-it drops, silently, what is nested deeper than this. Nothing gets there: MAX_DEPTH is met before.
LIBRARY_DEPTH = 20

SCHEMES = {"http", "https", "mailto"}
BARE_URL = re.compile(r"\bhttps?://[^\s<>\"`]{1,2000}", re.IGNORECASE)
ENDS_A_SENTENCE = ".,;:!?'*_~"

SANITISER = nh3.Cleaner(
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


class Budget:
    """What the texts of one page may take together. Once it is spent, the others are shown as they are written."""

    def __init__(self) -> None:
        self.left = MAX_EFFORT_OF_A_PAGE


def render(text: str, budget: Budget | None = None) -> str:
    text = storable(text)
    effort = Effort(min(MAX_EFFORT, budget.left) if budget else MAX_EFFORT)
    try:
        html = MARKDOWN.render(text, {"effort": effort})
    except (TooMuch, RecursionError):
        html = as_written(text)
    if budget:
        budget.left = max(0, budget.left - effort.spent)
    return SANITISER.clean(html)


def as_written(text: str) -> str:
    lines = escape(text.strip()).replace("\n", "<br>\n")
    return f"<p>{lines}</p>\n"


class TooMuch(Exception):
    """A text that cannot be rendered quickly."""


class Effort:
    """Counts what rendering costs: rules tried and tokens made. Time depends on the machine, and this does not."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.rules = self.block_tokens = 0

    @property
    def spent(self) -> int:
        return self.rules + self.block_tokens

    def spend(self, effort: int) -> None:
        self.rules += effort
        if self.spent > self.most:
            raise TooMuch


def count_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A rule that never applies: it is tried before all others, wherever a block can begin or end."""
    effort = state.env["effort"]
    effort.block_tokens = len(state.tokens)
    effort.spend(1)
    if state.level > MAX_DEPTH:
        raise TooMuch
    return False


def count_inline(state: StateInline, silent: bool) -> bool:
    state.env["effort"].spend(EFFORT_OF_AN_INLINE_RULE)
    return False


def counting(rule: Callable[[StateInline, bool], bool]) -> Callable[[StateInline, bool], bool]:
    """The rule for a link, whose URL is parsed and written anew: dearer than the others."""

    def link_rule(state: StateInline, silent: bool) -> bool:
        is_link = rule(state, silent)
        if is_link:
            state.env["effort"].spend(EFFORT_OF_A_LINK)
        return is_link

    return link_rule


def is_allowed_link(url: str) -> bool:
    try:
        return urlsplit(url).scheme in SCHEMES
    except ValueError:
        return False


def link_bare_urls(state: StateCore) -> None:
    """A URL that stands in the text for itself is a link too. (linkify-it-py would be a dependency for this alone.)"""
    for block in state.tokens:
        if block.type == "inline" and block.children and "://" in block.content:
            block.children = with_links(state, block.children)


def with_links(state: StateCore, tokens: Sequence[Token]) -> list[Token]:
    linked: list[Token] = []
    links_open = 0
    for token in tokens:
        links_open += {"link_open": 1, "link_close": -1}.get(token.type, 0)
        if token.type == "text" and not links_open:
            linked += split_at_urls(state, token)
        else:
            linked.append(token)
    return linked


def split_at_urls(state: StateCore, token: Token) -> list[Token]:
    parts: list[Token] = []
    done = 0
    for match in BARE_URL.finditer(token.content):
        url = without_end_of_sentence(match[0])
        href = state.md.normalizeLink(url)
        if not (is_allowed_link(href) and urlsplit(href).hostname):
            continue
        state.env["effort"].spend(EFFORT_OF_A_LINK)
        parts += [
            Token("text", "", 0, content=token.content[done : match.start()], level=token.level),
            Token("link_open", "a", 1, attrs={"href": href}, level=token.level),
            Token("text", "", 0, content=url, level=token.level + 1),
            Token("link_close", "a", -1, level=token.level),
        ]
        done = match.start() + len(url)
    return [*parts, Token("text", "", 0, content=token.content[done:], level=token.level)]


def without_end_of_sentence(url: str) -> str:
    """Without the signs at its end that belong to the sentence, as a bracket does that was opened before it."""
    closed_too_often = url.count(")") - url.count("(")
    end = len(url)
    while url[end - 1] in ENDS_A_SENTENCE or (url[end - 1] == ")" and closed_too_often > 0):
        closed_too_often -= url[end - 1] == ")"
        end -= 1
    return url[:end]


def alt_text(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Of an image, which is not shown: a picture's address can carry off what was said in the chat."""
    return escape(renderer.renderInlineAsText(tokens[index].children or [], options, env))


def make_markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": LIBRARY_DEPTH})
    markdown.enable(["table", "strikethrough"])
    # A reference is defined once and used a thousand times: 100 KB would become 16 MB.
    markdown.disable(["html_block", "html_inline", "reference"])
    wherever = ["paragraph", "reference", "blockquote", "list"]
    markdown.block.ruler.before("table", "count_block", count_block, {"alt": wherever})
    markdown.inline.ruler.before("text", "count_inline", count_inline)
    markdown.inline.ruler.at("link", counting(link))
    markdown.inline.ruler.at("autolink", counting(autolink))
    markdown.core.ruler.after("text_join", "link_bare_urls", link_bare_urls)
    markdown.add_render_rule("image", alt_text)
    markdown.validateLink = is_allowed_link  # type: ignore[method-assign]
    return markdown


MARKDOWN = make_markdown()
