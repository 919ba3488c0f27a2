"""Find the columns of a table, or keys of a JSON object, with the text, the title, the id and the URL of a document.

Columns that are not chosen are guessed by their names, as shops, help desks and office programs write them. All others
become "name: value" lines below the text, because questions are about prices and sizes too.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.text import Truncator
from lxml.etree import HTMLParser

from puffer.text import storable
from vectorstores.ingestion.documents import first_id
from vectorstores.ingestion.rows import Refused, Row, item_row, short_hash

# The names of each role in the order of preference, as normalized() writes them.
ANSWERS = ("answer", "answers", "response", "reply", "antwort", "réponse", "respuesta", "risposta", "resposta")
NAMES: Mapping[str, Sequence[str]] = {
    "content": (
        *("content", "text", "body", "body html", *ANSWERS, "page content", "post content", "content html"),
        *("content text", "description"),
        *("long description", "product description", "short description", "details", "inhalt", "beschreibung"),
        *("contenu", "contenido", "descripción", "contenuto", "descrizione", "antwoord", "omschrijving"),
    ),
    "title": (
        *("title", "question", "questions", "name", "heading", "headline", "subject", "product name", "post title"),
        *("titel", "frage", "betreff", "bezeichnung", "titre", "pregunta", "título", "titolo", "domanda", "vraag"),
    ),
    "id": (
        *("id", "handle", "uuid", "guid", "key", "slug", "sku", "product id", "post id", "number", "nr"),
        *("artikelnummer", "article number", "item number"),
    ),
    "url": ("url", "uri", "link", "permalink", "href", "page url", "product url", "web address"),
}
COLUMN_ROLES = tuple(NAMES)
UNPUBLISHED = {
    "published": {"false", "0", "-1", "no"},
    "status": {"draft", "private", "pending", "archived", "trash", "future", "auto-draft", "unpublished"},
    "draft": {"true", "1", "yes"},
}
UNPUBLISHED["post status"] = UNPUBLISHED["status"]

NOT_IN_NAMES = re.compile(r"[\W_]+")
HTML = re.compile(
    r"</[a-z]\w*\s*>|<!--|<(?:br|hr|img|p)\b[^<>]*>|&(?:[a-z]{2,8}|#\d{1,7}|#x[\da-f]{1,6});", re.IGNORECASE
)
LINE_STARTS = {"br", "hr", "p", "div", "li", "tr", "ul", "ol", "table", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "h6"}
CELLS = {"td", "th"}
NOT_SHOWN = {"script", "style", "head", "template"}
BLANKS = re.compile(r"[ \t\r\n\f\xa0]+")
IMAGE = re.compile(r"https?://\S+\.(?:png|jpe?g|gif|webp|svg|avif)(?:\?\S*)?|data:\S*", re.IGNORECASE)


class NoContentColumn(Exception):
    """A chosen column is missing, or no column for the text is chosen or recognized; the message says which."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The chosen names of columns, in any letter case. "" stands for a guess."""

    content: str = ""
    id: str = ""
    title: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the columns, and the position of those with a role: content, title, id, url."""

    names: Sequence[str]
    roles: Mapping[str, int]
    flags: Sequence[tuple[int, Collection[str]]]  # columns that say whether a row is published, and the values for no

    @classmethod
    def of(cls, names: Sequence[str], chosen: Columns) -> "Layout":
        """Find the columns with a role. Raise NoContentColumn."""
        positions: dict[str, int] = {}
        for position, name in enumerate(names):
            positions.setdefault(normalized(name), position)
        roles: dict[str, int] = {}
        for role in NAMES:
            if name := getattr(chosen, role):
                if normalized(name) not in positions:
                    raise NoContentColumn(f"It has no column {name!r}. {list_of_columns(names)}")
                roles[role] = positions[normalized(name)]
        for role, known in NAMES.items():
            if role not in roles:
                free = [positions[name] for name in known if positions.get(name, -1) not in (-1, *roles.values())]
                if free:
                    roles[role] = free[0]
        if "content" not in roles:
            reason = "It has no column 'content', nor another usual one for a text. Choose the column to read."
            raise NoContentColumn(f"{reason} {list_of_columns(names)}")
        flags = [(positions[name], words) for name, words in UNPUBLISHED.items() if name in positions]
        return cls(names, roles, flags)

    def guesses(self, chosen: Columns) -> str:
        """Return a sentence about the columns that were guessed by another name than their role's; "" if none were."""
        read = [
            f"{role} from {self.names[position]!r}"
            for role, position in self.roles.items()
            if not getattr(chosen, role) and normalized(self.names[position]) != role
        ]
        return f"Its columns were guessed: {', '.join(read)}. Choose other columns if that is wrong." if read else ""

    def is_unpublished(self, values: Sequence[str]) -> bool:
        """Return whether a column says that the row is a draft, private or deleted."""
        return any(values[at].strip().casefold() in words for at, words in self.flags if at < len(values))

    def value(self, role: str, values: Sequence[str]) -> str:
        position = self.roles.get(role)
        return values[position] if position is not None and position < len(values) else ""

    def others(self, values: Sequence[str]) -> list[tuple[str, str]]:
        """Return the name and the text of the other columns that are not empty."""
        taken = self.roles.values()
        named = zip(self.names, values, strict=False)
        found = [(name, text_of_cell(value)) for position, (name, value) in enumerate(named) if position not in taken]
        return [(name, value) for name, value in found if value]

    def row(self, values: Sequence[str], place: str, source: str, origin: str) -> Row | Refused:
        """Return the row of a document."""
        content = text_of_cell(self.value("content", values))
        others = self.others(values)
        facts = "\n".join(fact(name, value) for name, value in others if not IMAGE.fullmatch(value))
        if not content and normalized(self.names[self.roles["content"]]) not in ANSWERS:
            content, facts = facts, ""  # a product without a description still has a price
        metadata: dict[str, Any] = {name: value for name, value in others if name.lower() not in ("title", "url")}
        for role in ("title", "url"):
            if text := text_of_cell(self.value(role, values)):
                metadata[role] = text
        document_id, title = self.value("id", values).strip(), metadata.get("title")
        if not content:
            reason = f"It has no text in {self.names[self.roles['content']]!r}."
            return Refused(place, reason, not document_id, first_id(document_id))
        if not document_id and title:
            document_id = f"text-{short_hash(f'{title}/{content}')}"  # many questions have the answer "Yes."
        item = {"content": content, "id": document_id, "metadata": metadata}
        row = item_row(item, place, source, origin)
        return replace(row, facts=facts) if isinstance(row, Row) else row


def list_of_columns(names: Sequence[str]) -> str:
    return f"Its columns: {Truncator(', '.join(filter(None, names)) or 'none').chars(1000)}."


def fact(name: str, value: str) -> str:
    return f"{name}: {' '.join(value.split())}" if name else value


def normalized(name: str) -> str:
    """Return the name in lower case, with single blanks in place of all but letters and digits."""
    return NOT_IN_NAMES.sub(" ", name.casefold()).strip()


def text_of_cell(value: str) -> str:
    """Return the text of a cell that may contain HTML, as exports of shops do."""
    value = storable(value).strip()
    if not HTML.search(value):
        return value
    shown = VisibleText()
    parser = HTMLParser(target=shown, huge_tree=True)
    parser.feed(f"<div>{value}</div>")
    parser.close()
    lines = (" ".join(BLANKS.split("".join(parts))).strip() for parts in shown.lines)
    return "\n".join(line for line in lines if line not in ("", "-"))


class VisibleText:
    """The target of an HTML parser that collects the visible text, line by line."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]
        self.hidden = 0  # open elements that are not shown

    def start(self, tag: str, attributes: object) -> None:
        self.hidden += tag in NOT_SHOWN
        if tag in LINE_STARTS:
            self.lines.append(["- "] if tag == "li" else [])
        elif tag in CELLS:
            self.data(" ")

    def end(self, tag: str) -> None:
        self.hidden -= tag in NOT_SHOWN and self.hidden > 0
        if tag in LINE_STARTS:
            self.lines.append([])

    def data(self, text: str) -> None:
        if not self.hidden:
            self.lines[-1].append(text)

    def comment(self, text: str) -> None:
        """Ignore comments."""

    def close(self) -> None:
        """End the text. The parser requires it."""
