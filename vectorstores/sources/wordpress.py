"""Export files of WordPress (WXR). Source: https://wordpress.org/documentation/article/tools-export-screen/"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from vectorstores.ingestion.extract import Unreadable, from_html
from vectorstores.sources.row_files import BoundedItems
from vectorstores.sources.rows import Refused, Row, stable_id


def wordpress_rows(file: BinaryIO, source: str, origin: str) -> Iterator[Row | Refused]:
    """Published posts and pages. Entities and external files are refused by the parser."""
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
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last two for odd encodings
        yield Refused(f"{source}: after item {number}", f"It is no XML that may be read: {error}.", True)
    else:
        if not number:
            yield Refused(source, "It is no export of WordPress: it has no items.", True)


def items(file: BoundedItems) -> Iterator[Element]:
    """One after the other, and none is kept."""
    above: list[Element] = []
    for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
        if event == "start":
            above.append(element)
            continue
        above.pop()
        if local_name(element.tag) == "item" and above:
            yield element
            above[-1].clear()


def post_row(fields: Mapping[str, str], place: str, source: str, origin: str) -> Row | Refused:
    """Known by its guid, which WordPress never changes and which names the site."""
    url, title = fields.get("link", "").strip(), fields.get("title", "").strip()
    document_id = stable_id(fields.get("guid") or url or title)
    try:
        extracted = from_html(f"<html><body><article>{fields.get('encoded', '')}</article></body></html>")
    except Unreadable as error:
        return Refused(place, str(error), document_id=document_id)
    if not extracted.text:
        return Refused(place, "The post has no text.", document_id=document_id)
    metadata = {"title": title or extracted.title, "url": url, "post_type": fields["post_type"]}
    return Row({"content": extracted.text, "id": document_id, "metadata": metadata}, place, source, origin, extracted)


def local_name(tag: str) -> str:
    return tag.rpartition("}")[2]
