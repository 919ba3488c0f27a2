"""WordPress' shortcodes: [gallery ids="1,2"], [caption]...[/caption], page builders' [vc_row] and [et_pb_text].

Source: https://codex.wordpress.org/Shortcode_API
"""

import re
from collections.abc import Callable
from html import escape, unescape

# Quotes may contain brackets. All repetitions are bounded, so that hostile text takes linear time.
QUOTED = r'"[^"]{0,4000}"|“[^”]{0,4000}”|&#8220;.{0,4000}?&#8221;|\'[^\']{0,4000}\'|[^][<>"“\'&]|&(?!#8220;)'
SHORTCODE = re.compile(rf"(\[?)\[(/?)([A-Za-z][\w-]{{0,60}})((?:[\s=/:,](?:{QUOTED}){{0,400}})?)\](\]?)", re.DOTALL)
VALUE = r"""(?:"([^"]*)"|'([^']*)'|“([^”]*)”|&#8220;(.*?)&#8221;|\S)"""
ATTRIBUTE = re.compile(rf"([\w-]{{1,60}})\s{{0,9}}=\s{{0,9}}{VALUE}", re.DOTALL)
CODED = re.compile(r"\[(vc_raw_html|vc_raw_js)\b[^]]{0,4000}\][A-Za-z0-9+/=%\s]*\[/\1\]")  # base64
# Shortcodes of WordPress and common plugins that may stand alone. Any other word in brackets may be text.
KNOWN = {
    "audio", "caption", "contact-form", "contact-form-7", "embed", "ez-toc", "gallery", "gravityform", "mailpoet",
    "playlist", "products", "toc", "video", "wpforms", "wp-rss-aggregator",
}  # fmt: skip
# Shortcodes that show the value of an attribute: questions, names of tabs, headings.
WITH_HEADING = re.compile(r"accordion|toggle|tab|faq|blurb|heading|tta_section|question|spoiler|collaps", re.IGNORECASE)
HEADINGS = ("title", "heading", "question", "text")


def without_shortcodes(html: str) -> str:
    """Remove shortcodes, but keep the text in them and the headings in their attributes."""
    html = CODED.sub(" ", html)
    closed = {match[3].lower() for match in SHORTCODE.finditer(html) if match[2]}
    return SHORTCODE.sub(replacement(closed), html)


def replacement(closed: set[str]) -> "Callable[[re.Match[str]], str]":
    def replace(match: re.Match[str]) -> str:
        opening, slash, name, rest, closing = match.groups()
        if opening and closing:  # WordPress shows [[gallery]] as [gallery]
            return match[0][1:-1]
        attributes = {found[1].lower(): value_of(found) for found in ATTRIBUTE.finditer(rest)}
        is_shortcode = (
            slash or attributes or name.lower() in closed or name.lower() in KNOWN or "_" in name or rest.endswith("/")
        )
        if not is_shortcode:
            return match[0]
        heading = next((attributes[key] for key in HEADINGS if attributes.get(key)), "")
        if heading and not slash and WITH_HEADING.search(name):
            return f"{opening}<h3>{escape(unescape(heading))}</h3>{closing}"
        return f"{opening} {closing}"

    return replace


def value_of(attribute: re.Match[str]) -> str:
    return next((value for value in attribute.groups()[1:] if value), "")
