"""Normalize texts for the search, which ignores letter case and accents."""

from typing import Any

from django.db import models

from puffer.text import normalize

ACCENTS = dict.fromkeys(range(0x300, 0x370))  # combining characters, as NFD leaves them
STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "ı": "i"})


def normalized(text: str) -> str:
    if text.isascii():
        return text.lower()
    bare = normalize("NFD", text.casefold()).translate(ACCENTS).translate(STROKES)
    return normalize("NFC", bare)


class NormalizedField(models.TextField):
    """The normalized values of the fields `of`, one per line; None if they are ASCII.

    Every database can lowercase ASCII itself, so most texts are not stored twice. save() and bulk_create() fill the
    field, update() and SQL do not: run `rebuild_search_index` after those.
    """

    def __init__(self, *args: Any, of: tuple[str, ...] = (), **options: Any) -> None:
        self.of = of
        super().__init__(*args, **{"null": True, "editable": False, **options})

    def deconstruct(self) -> Any:
        name, path, args, options = super().deconstruct()
        return name, path, args, options | {"of": self.of}

    def of_row(self, row: models.Model) -> str | None:
        text = "\n".join(getattr(row, name) for name in self.of)
        return None if text.isascii() else normalized(text)

    def pre_save(self, model_instance: models.Model, add: bool) -> str | None:
        value = self.of_row(model_instance)
        setattr(model_instance, self.attname, value)
        return value
