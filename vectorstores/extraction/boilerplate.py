"""Remove what is not the content of a web page: menus, header, footer, cookie banners, hidden elements.

When in doubt, an element stays: a superfluous line costs less than a price that is missing.
"""

import re
from itertools import takewhile
from typing import Any

from lxml import etree

NEVER_TEXT = {
    "script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "applet", "audio", "video", "canvas",
    "map", "link", "meta", "base", "input", "textarea", "datalist", "progress", "meter", "frameset", "noframes",
}  # fmt: skip
SECTIONS = ("article", "main", "section", "aside", "blockquote")
FRAME_ROLES = {"navigation", "search", "menubar", "toolbar"}
FRAME_NAMES = {
    "breadcrumb", "breadcrumbs", "woocommerce-breadcrumb", "rank-math-breadcrumb", "yoast-breadcrumbs", "pagination",
    "post-navigation", "nav-links", "wpadminbar", "skip-link",
    "skip-to-content", "searchform", "search-form", "sharedaddy", "addtoany_share_save_container", "jp-relatedposts",
    "comments", "comments-area", "comment-list", "respond", "disqus_thread", "material-icons",
    "material-symbols-outlined", "material-symbols-rounded", "material-symbols-sharp",
}  # fmt: skip
MARGIN_NAMES = {"site-header", "site-footer", "masthead", "colophon"}
MENU_NAME = re.compile(r"(?:^|[-_ ])(?:menu|nav|navbar|navigation)(?:$|[-_ ])", re.IGNORECASE)
TABS = re.compile(r"tab", re.IGNORECASE)
# "9-18", "9 am to 6:30 pm", "9.00 - 18.00 Uhr": a footer with opening hours is content.
HOUR = r"\b\d{1,2}(?:[:.]\d{2})?\s?(?:am|pm|a\.m\.|p\.m\.|uhr|h)?"
HOURS = re.compile(rf"{HOUR}\s?(?:[-\u2013\u2014]|to|until|bis|à)\s?{HOUR}\b(?!\d)", re.IGNORECASE)
PRICE = re.compile(
    r"\d[.,]\d{2}\b|[$€£¥]\s?\d|\d\s?(?:[$€£¥]|EUR\b|USD\b|CHF\b|kr\b|zł)"
)  # in the menu of a restaurant
LINES = {"p", "li", "div", "td", "dd", "dt", "span", "address", "section", "h2", "h3", "h4", "h5", "h6"}
CONTACT = re.compile(r"(?:\+|\b0)\d[\d\s()/.\-]{6,20}\d|[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]{2,64}")
LONGEST_CONTACT = 300  # characters of a block
LONGEST_FOOTER = 3000  # characters
MOSTLY_LINKS = 0.8  # share of a menu's text that is links

# Cookie banners by the names that their vendors give them.
BANNER_NAME = re.compile(
    r"^(?:onetrust|ot-sdk|optanon|cky-|cookie-law-info|cli-(?:bar|modal|settings)|wt-cli|cybotcookiebot|cookiebot|cmplz"
    r"|complianz|borlabs-?cookie|brlbs|usercentrics|uc-banner|didomi|qc-cmp|truste|trustarc|iubenda-cs|klaro"
    r"|moove[-_]gdpr|termly|t-consent|osano|tarteaucitron|cookiehub|ch2|axeptio|sp_message|cc-window|cc-banner"
    r"|cookieconsent|cookie-?script|cookiefirst|cookieyes|real-cookie-banner|eu-cookie|evidon|fc-consent|ccc-|cookie-notice"
    r"|hu-cookie|wpcc|pea_cook|catapult-cookie|gdpr-cookie|gdpr_cookie|ez-cookie|shopify-pc__banner|cm-cookie"
    r"|consent-manager|cmpbox|cmpwrapper|sliding-popup|silktide|termsfeed)",
    re.IGNORECASE,
)
# Names of other elements that are banners if their text is that of a banner.
MAYBE_BANNER = re.compile(r"cookie|consent|gdpr|dsgvo|rgpd|privacy|cmp\b", re.IGNORECASE)
# Names of the content of a page about cookies: "page-cookie-policy", but not "cookie-policy-banner".
POLICY_NAME = re.compile(r"^(?!.*(?:banner|bar|notice|popup|modal|consent)).*(?:polic|page|post|entry)", re.IGNORECASE)
COOKIE = re.compile(r"cookie|クッキー|куки", re.IGNORECASE)
CHOICE = re.compile(
    r"accept|agree|allow|consent|reject|decline|refuse|preference|opt.out"
    r"|got it|\bok\b|okay|verstanden|akzept|zustimm|einverstanden|ablehn"
    r"|einwillig|accord|accepter|refus|acept|rechaz|consient|accett|rifiut|aceit|recus|akkoord|weiger|accepteer|godk"
    r"|zgadza|akcept|odrzu|souhlas|приня|соглас|同意|接受",
    re.IGNORECASE,
)
LONGEST_BANNER = 6000  # characters

HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
# Names of elements that a click shows: tabs, accordions, answers.
REVEALED = re.compile(
    r"tab|accordion|collaps|panel|pane|faq|toggle|answer|content|details|expand|slide|more|desc", re.I
)
MODAL = re.compile(
    r"modal|popup|pop-up|lightbox|offcanvas|overlay|drawer|newsletter|toast|tooltip|loader|spinner", re.I
)
REVEALERS = {"h1", "h2", "h3", "h4", "h5", "h6", "button", "dt", "summary", "label"}


def remove_boilerplate(root: Any, *, keeps_frame: bool = False) -> None:
    """Remove everything but the content; with `keeps_frame`, only hidden elements and cookie banners."""
    lengths = text_lengths(root)
    revealed = ids_that_are_revealed(root)
    only_h1 = headings[0] if len(headings := list(root.iter("h1"))) == 1 else None
    for element in list(root.iter()):
        if not isinstance(element.tag, str) or element.getparent() is None or element.tag in ("html", "body", "head"):
            continue
        is_dropped = (
            is_never_text(element)
            or is_cookie_banner(element, lengths)
            or is_hidden(element, revealed)
            or (not keeps_frame and is_frame(element, only_h1, lengths))
        )
        if is_dropped:
            element.drop_tree()


def names_of(element: Any) -> list[str]:
    return f"{element.get('id') or ''} {element.get('class') or ''}".split()


def text_lengths(root: Any) -> dict[Any, tuple[int, int]]:
    """Return for each element the number of its characters, and the number of those in links."""
    lengths: dict[Any, tuple[int, int]] = {}
    for _, element in etree.iterwalk(root, events=("end",)):
        total = len((element.text or "").strip())
        links = 0
        for child in element:
            child_total, child_links = lengths.get(child, (0, 0))
            total += child_total + len((child.tail or "").strip())
            links += child_links
        if element.tag in ("script", "style", "noscript"):
            total = links = 0
        lengths[element] = (total, total if element.tag == "a" else links)
    return lengths


def ids_that_are_revealed(root: Any) -> set[str]:
    """Return the ids of elements that a click on another element shows."""
    found: set[str] = set()
    for element in root.iter():
        for name in ("aria-controls", "data-target", "data-bs-target", "data-toggle-target"):
            found.update(value.lstrip("#") for value in (element.get(name) or "").split())
        if element.tag == "a" and (element.get("href") or "").startswith("#"):
            found.add(element.get("href")[1:])
        if element.tag == "label" and element.get("for"):
            found.add(element.get("for"))
    return found - {""}


def is_never_text(element: Any) -> bool:
    if element.tag == "template":  # a declarative shadow root is visible
        return element.get("shadowrootmode") is None and element.get("shadowroot") is None
    if element.tag == "button" and element.get("type") in ("submit", "reset"):
        return next(element.iterancestors("form"), None) is not None  # elsewhere it may be a question that opens
    return element.tag in NEVER_TEXT


def is_cookie_banner(element: Any, lengths: dict[Any, tuple[int, int]]) -> bool:
    names = names_of(element)
    is_dialog = element.get("role") in ("dialog", "alertdialog") or element.tag == "dialog"
    is_named = any(BANNER_NAME.match(name) for name in names)
    if not (is_named or is_dialog or any(map(MAYBE_BANNER.search, names))) or any(map(POLICY_NAME.search, names)):
        return False
    if element.tag in ("main", "article") or lengths.get(element, (0, 0))[0] > LONGEST_BANNER:
        return False
    if next(element.iter("h1", "main", "article"), None) is not None:
        return False
    if is_named:
        return True
    text = "".join(element.itertext())
    has_buttons = next(element.iter("button", "a", "input"), None) is not None
    return bool(has_buttons and COOKIE.search(text) and CHOICE.search(text))


def is_hidden(element: Any, revealed: set[str]) -> bool:
    """Return whether visitors never see the element. What a click shows counts as visible."""
    hidden = element.get("hidden")
    if (hidden is None or hidden == "until-found") and not HIDING.search(element.get("style") or ""):
        return False
    names = " ".join(names_of(element))
    if MODAL.search(names):
        return True
    if element.get("role") == "tabpanel" or element.get("id") in revealed or REVEALED.search(names):
        return False
    before = element.getprevious()
    is_after_question = before is not None and (before.tag in REVEALERS or before.get("role") in ("button", "tab"))
    return not is_after_question and next(element.iterancestors("details"), None) is None


def is_frame(element: Any, only_h1: Any, lengths: dict[Any, tuple[int, int]]) -> bool:
    role, names = element.get("role"), names_of(element)
    if element.tag in ("nav", "search") or role in FRAME_ROLES:
        return True
    if element.tag in ("main", "article") or contains(element, only_h1):
        return False
    is_page_level = next(element.iterancestors(*SECTIONS, "header", "footer"), None) is None
    is_margin = element.tag in ("header", "footer") or role in ("banner", "contentinfo")
    if (is_margin and is_page_level) or not MARGIN_NAMES.isdisjoint(names):
        return not (
            has_address_or_hours(element, lengths) or introduces(element) or reduced_to_contacts(element, lengths)
        )
    if not FRAME_NAMES.isdisjoint(names):
        return True
    if element.tag in ("ul", "ol") and next(element.iterancestors("header", "footer"), None) is not None:
        names = [*names, "menu"]
    if element.tag == "a" or not any(MENU_NAME.search(name) for name in names) or any(map(TABS.search, names)):
        return False
    total, links = lengths.get(element, (0, 0))
    return total > 0 and links / total >= MOSTLY_LINKS and not PRICE.search("".join(element.itertext()))


def has_address_or_hours(element: Any, lengths: dict[Any, tuple[int, int]]) -> bool:
    """Return whether a header or footer has an address or opening hours, which visitors ask for."""
    if lengths.get(element, (0, 0))[0] > LONGEST_FOOTER:
        return False
    has_address = next(element.iter("address"), None) is not None
    return has_address or HOURS.search(" ".join(element.itertext())) is not None


def reduced_to_contacts(element: Any, lengths: dict[Any, tuple[int, int]]) -> bool:
    """Remove all from a header or footer but the blocks with a telephone number or an e-mail address, if there are any.

    The rest is repeated on each page of a site.
    """
    kept: set[Any] = set()
    for part in element.iter(etree.Element):
        own = " ".join(filter(None, [part.text, *(child.tail for child in part)]))
        href = (part.get("href") or "").strip().lower()
        if href.startswith(("tel:", "mailto:")) or CONTACT.search(own):
            inside = takewhile(lambda above: above is not element, (part, *part.iterancestors()))
            block = next((above for above in inside if above.tag in LINES), part)
            if lengths.get(block, (0, 0))[0] > LONGEST_CONTACT:
                block = part
            kept |= {block, *block.iterancestors()}
            if block is not element:
                kept.update(block.iterdescendants())
    if not kept:
        return False
    for part in list(element.iterdescendants()):
        if part not in kept and part.getparent() is not None:
            part.drop_tree()
    return True


def introduces(element: Any) -> bool:
    """Return whether a header has the heading of the page's text, and is not the name of the site above its menu."""
    if element.tag != "header" or not MARGIN_NAMES.isdisjoint(names_of(element)):
        return False
    if next(element.iter("nav", "form", "button"), None) is not None or element.get("role") == "banner":
        return False
    headings = [heading for heading in element.iter("h1", "h2", "h3") if next(heading.iter("a"), None) is None]
    return any("".join(heading.itertext()).strip() for heading in headings)


def contains(element: Any, heading: Any) -> bool:
    return heading is not None and any(ancestor is element for ancestor in heading.iterancestors())
