"""Read export files of WordPress (WXR). Source: https://wordpress.org/documentation/article/tools-export-screen/

An export is often not well-formed: it has control characters, entities of HTML and prefixes that are never declared.
So the file is cut into its items, and lxml repairs each by itself: a damaged item does not harm the next one.
"""

import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from html import escape, unescape
from typing import BinaryIO, TextIO

from lxml import etree

from vectorstores.extraction import detect, iso_date
from vectorstores.extraction.xml_repair import local_name, well_formed
from vectorstores.ingestion.rows import File, Found, Note, Refused, Row, stable_id
from vectorstores.sources import row_files
from vectorstores.sources.shortcodes import without_shortcodes

POST_TYPES = ("post", "page")
NO_CONTENT = {"attachment", "nav_menu_item", "revision", "customize_changeset", "oembed_cache", "custom_css"}
READ_AT_ONCE = 256 * 1024
LONGEST_TAG = 600  # characters
TAG = re.compile(r"<!\[CDATA\[|<item(?=[\s>])[^>]{0,500}>|</item\s{0,20}>|</(?:channel|rss)\s{0,20}>")
TAG_ALONE = re.compile(TAG.pattern.partition("|")[2])
# The end of one item and the CDATA of the next one, within CDATA whose own end is damaged.
SWALLOWED = re.compile(r"</item>\s{0,50}<item>(?=.{0,2000}?<!\[CDATA\[)", re.DOTALL)
CDATA_END = re.compile(r"\]\]>")
FIELDS = {
    "title", "link", "guid", "encoded", "description", "status", "post_type", "post_id", "post_password", "meta_key",
    "meta_value", "category",
}  # fmt: skip
PRODUCT_FIELDS = {
    "_sku": "SKU", "_regular_price": "Price", "_sale_price": "Sale price", "_stock_status": "Availability",
    "_weight": "Weight", "_length": "Length", "_width": "Width", "_height": "Height",
}  # fmt: skip


def wordpress_rows(
    file: BinaryIO, source: str, origin: str, post_types: Collection[str] = (), charset: str | None = None
) -> Iterator[Found]:
    """Yield the published posts and pages, and those of other `post_types`; then notes on what was skipped.

    Entities that the file declares are never resolved, and nothing outside the file is read.
    """
    encoding = detect(iter(lambda: file.read(READ_AT_ONCE), b""), charset, "text/xml")
    file.seek(0)
    if encoding.doubt:
        yield Note(source, encoding.doubt)
    with io.TextIOWrapper(file, encoding.name, encoding.errors) as text:
        yield from posts(ItemSplitter(text), source, origin, {*POST_TYPES, *post_types})


def posts(splitter: "ItemSplitter", source: str, origin: str, wanted: Collection[str]) -> Iterator[Found]:
    skipped: Counter[str] = Counter()
    guids: set[str] = set()
    number = 0
    for number, item in enumerate(splitter.items(), 1):
        place = f"{source}: item {number}"
        fields = fields_of(item) if len(item) <= row_files.MAX_ITEM else None
        if fields is None:
            is_large = len(item) > row_files.MAX_ITEM
            reason = f"It is larger than {row_files.MAX_ITEM // 1024**2} MB." if is_large else "It is damaged."
            yield Refused(place, reason, True)
        elif reason := reason_to_skip(fields, wanted):
            skipped[reason] += 1
        else:
            yield post_row(fields, place, source, origin, guids)
    if splitter.breaks_off:
        yield Refused(f"{source}: after item {number}", "The file breaks off. Posts may be missing.", True)
    elif not number:
        yield Refused(source, "It is not a WordPress export: it contains no items.", True)
    for reason, count in sorted(skipped.items()):
        if reason not in NO_CONTENT:
            yield Note(source, f"Skipped {reason}: {count}." + hint(reason), left_out=count)


class ItemSplitter:
    """A splitter of a file into its items. A tag within CDATA is text, unless the CDATA never ends."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.breaks_off = False  # whether the file ended within an item, or after one without the end of the list

    def items(self) -> Iterator[str]:
        """Yield each item. Of an item larger than MAX_ITEM only the beginning is yielded."""
        data = ""
        at, item_start, cdata_start, in_cdata, ignores_cdata = 0, -1, 0, False, False
        while True:
            pattern = CDATA_END if in_cdata else TAG_ALONE if ignores_cdata else TAG
            if tag := pattern.search(data, at):
                if in_cdata:
                    in_cdata = False
                    swallowed = SWALLOWED.search(data, cdata_start if item_start >= 0 else at, tag.start())
                    at = swallowed.start() if swallowed else tag.end()
                    continue
                at = tag.end()
                if tag[0] == "<![CDATA[":
                    in_cdata, cdata_start = True, at
                elif tag[0].startswith(("</channel", "</rss")):
                    self.breaks_off = False
                elif tag[0].startswith("<item"):
                    self.breaks_off = True
                    if item_start >= 0:
                        yield data[item_start : tag.start()]  # it was never closed
                    data, at, item_start = data[tag.start() :], at - tag.start(), 0
                elif tag[0].startswith("</item") and item_start >= 0:
                    yield data[item_start:at]
                    data = data[at:]
                    at, item_start, ignores_cdata = 0, -1, False
                continue
            at = max(at, len(data) - LONGEST_TAG)
            if item_start < 0:
                data = data[at:]
                at = 0
            chunk = self.file.read(READ_AT_ONCE)
            data += chunk
            if item_start >= 0 and (not chunk or len(data) - item_start > row_files.MAX_ITEM):
                if in_cdata:
                    at, in_cdata, ignores_cdata = item_start + len("<item"), False, True
                elif chunk:
                    yield data[item_start : item_start + row_files.MAX_ITEM + 1]
                    item_start = -1
                else:
                    return
            elif not chunk:
                return


def fields_of(item: str) -> dict[str, str] | None:
    """Return the texts of the item by the names of their elements, without prefixes; None if it cannot be read."""
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(well_formed(item).encode(errors="replace"), parser)
    except etree.LxmlError:
        return None
    if root is None:
        return None
    fields: dict[str, str] = {}
    key = ""
    for element in root.iter(etree.Element):
        name = local_name(element.tag)
        text = "".join(element.itertext()) if not any(field_in(child) for child in element) else element.text or ""
        if name == "encoded" and "excerpt" in element.tag:
            name = "excerpt"
        if name == "meta_key":
            key = text.strip()
        elif name == "meta_value":
            name = key
        elif name == "category":
            name = element.get("domain", "")
            text = ", ".join(filter(None, [fields.pop(name, ""), text]))
        if name:
            fields.setdefault(name, text)
    return fields


def field_in(element: etree._Element) -> bool:
    return isinstance(element.tag, str) and local_name(element.tag) in FIELDS


def reason_to_skip(fields: Mapping[str, str], wanted: Collection[str]) -> str:
    """Return why the item is skipped, or its post type; "" for an item to read, such as any item of a feed."""
    if not {"status", "post_type", "post_id"} & fields.keys():
        return ""
    status, post_type = fields.get("status", "").strip(), fields.get("post_type", "").strip()
    if post_type in NO_CONTENT:
        return post_type
    if status != "publish":
        return f"posts with the status {status or 'unknown'}"
    if fields.get("post_password", "").strip():
        return "password-protected posts"
    return "" if post_type in wanted else f"posts of the type {post_type or 'unknown'}"


def hint(reason: str) -> str:
    """Return how to import the skipped posts, if a post type is the reason."""
    _, is_type, post_type = reason.partition(" of the type ")
    return f" To import them: import_vectors --post-type {post_type}." if is_type and post_type != "unknown" else ""


def post_row(fields: Mapping[str, str], place: str, source: str, origin: str, guids: set[str]) -> Row:
    """Identify a post by its guid, which WordPress never changes and which names the site.

    Plugins that duplicate posts also duplicate the guid. Then the post's number tells them apart.
    """
    url, title = fields.get("link", "").strip(), unescape(fields.get("title", "")).strip()
    guid = fields.get("guid", "").strip()
    key = guid or url or title
    if guid and guid in guids and (number := fields.get("post_id", "").strip()):
        key = f"{guid}#{number}"
    guids.add(guid)
    post_type = fields.get("post_type", "").strip() or "post"
    html = f"<html><body><article>{html_of(fields, post_type)}</article></body></html>"
    metadata = {"title": title, "url": url, "post_type": post_type}
    if date := iso_date(fields.get("post_modified", "") or fields.get("post_date", "")):
        metadata["date"] = date
    item = {"id": stable_id(key), "metadata": metadata}
    return Row(item, place, source, origin, File(html.encode(errors="replace"), "text/html", "utf-8"))


def html_of(fields: Mapping[str, str], post_type: str) -> str:
    """Return the content of a post. Products also have an excerpt that visitors see, prices and attributes."""
    content = fields.get("encoded", "")
    if not content.strip():
        content = fields.get("excerpt", "").strip() or fields.get("description", "")
    html = with_paragraphs(without_shortcodes(content))
    if post_type != "product":
        return html
    excerpt = fields.get("excerpt", "")
    named = [(label, fields[key]) for key, label in PRODUCT_FIELDS.items() if fields.get(key)]
    if fields.get("_price") and not (fields.get("_regular_price") or fields.get("_sale_price")):
        named.append(("Price", fields["_price"]))  # of a product with variations, the lowest
    named += [(key[3:].replace("-", " "), value) for key, value in fields.items() if key.startswith("pa_")]
    lines = "".join(f"<p>{escape(label)}: {escape(value)}</p>" for label, value in named)
    return f"{with_paragraphs(without_shortcodes(excerpt)) if excerpt != content else ''}{html}{lines}"


def with_paragraphs(html: str) -> str:
    """Make paragraphs of blank lines, as WordPress does in texts of the classic editor."""
    return html if "<p" in html.lower() else re.sub(r"\n\s*\n", "<p>", html.replace("\r", ""))
