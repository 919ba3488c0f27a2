"""Repair XML that is not well-formed, so that lxml's recovery loses nothing."""

import re
from html import unescape

# XML 1.0 allows no other characters, and the parser would end a text at them.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REFERENCE = re.compile(r"&#(?:(\d{1,7})|[xX]([0-9a-fA-F]{1,6}));?")
ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});)(\w{1,40};)?")
BARE_LESS_THAN = re.compile(r"<(?![A-Za-z_/!?])")
CDATA, CDATA_END = "<![CDATA[", "]]>"


def local_name(tag: str) -> str:
    """Return the name without its namespace, which is a prefix if the file does not declare it."""
    return tag.rpartition("}")[2].rpartition(":")[2]


def allowed(text: str) -> str:
    """Remove the characters that XML forbids, and references to them."""
    return REFERENCE.sub(allowed_reference, FORBIDDEN.sub("", text))


def allowed_reference(match: re.Match[str]) -> str:
    code = int(match[1]) if match[1] else int(match[2], 16)
    return match[0] if code <= 0x10FFFF and not FORBIDDEN.match(chr(code)) else ""


def well_formed(text: str) -> str:
    """Remove characters that XML forbids, and escape stray `&` and `<` and the entities of HTML outside CDATA."""
    text = allowed(text)
    parts: list[str] = []
    at = 0
    while (start := text.find(CDATA, at)) >= 0:
        end = text.find(CDATA_END, start)
        parts.append(escaped(text[at:start]))
        if end < 0:
            parts.append(text[start:] + CDATA_END)
            return "".join(parts)
        at = end + len(CDATA_END)
        parts.append(text[start:at])
    return "".join([*parts, escaped(text[at:])])


def escaped(text: str) -> str:
    return BARE_LESS_THAN.sub("&lt;", ENTITY.sub(escaped_entity, text))


def escaped_entity(match: re.Match[str]) -> str:
    """Return the character of an entity that only HTML knows; otherwise escape the ampersand."""
    character = unescape(match[0]) if match[1] else match[0]
    return character if character != match[0] and not {"<", "&"} & set(character) else f"&amp;{match[1] or ''}"
