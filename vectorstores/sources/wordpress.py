"""Read export files of WordPress (WXR). Source: https://wordpress.org/documentation/article/tools-export-screen/"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from vectorstores.extraction import Unreadable
from vectorstores.ingestion.rows import File, Found, Refused, Row, stable_id
from vectorstores.sources.row_files import BoundedItems


def wordpress_rows(file: BinaryIO, source: str, origin: str) -> Iterator[Found]:
    """Yield the published posts and pages. The parser refuses entities and external files."""
    bounded = BoundedItems(file)
    number = 0
    try:
        for item in items(bounded):
            number += 1
            bounded.next_item()
            fields = {local_name(child.tag): child.text or "" for child in item if "excerpt" not in child.tag}
            if fields.get("status") == "publish" and fields.get("post_type") in ("post", "page"):
                yield post_row(fields, f"{source}: item {number}", source, origin)
    except Unreadable as error:
        yield Refused(f"{source}: after item {number}", str(error), True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last two: unknown encodings
        yield Refused(f"{source}: after item {number}", f"It cannot be read as XML: {error}.", True)
    else:
        if not number:
            yield Refused(source, "It is not a WordPress export: it contains no items.", True)


def items(file: BoundedItems) -> Iterator[Element]:
    """Yield the items one by one, and remove each from the tree, so that the memory stays small."""
    parents: list[Element] = []
    for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if local_name(element.tag) == "item" and parents:
            yield element
            parents[-1].clear()


def post_row(fields: Mapping[str, str], place: str, source: str, origin: str) -> Row:
    """Identify a post by its guid, which WordPress never changes and which names the site."""
    url, title = fields.get("link", "").strip(), fields.get("title", "").strip()
    html = f"<html><body><article>{fields.get('encoded', '')}</article></body></html>"
    metadata = {"title": title, "url": url, "post_type": fields["post_type"]}
    item = {"id": stable_id(fields.get("guid") or url or title), "metadata": metadata}
    return Row(item, place, source, origin, File(html.encode(errors="replace"), "text/html", "utf-8"))


def local_name(tag: str) -> str:
    return tag.rpartition("}")[2]
