"""Titles in the properties of documents, which are often not an author's."""

import re

# Titles that a program wrote, not an author.
JUNK = re.compile(
    r"microsoft (?:word|powerpoint|excel|office)\b.*|(?:microsoft )?powerpoint.?pr\w+|slide ?\d*|folie ?\d*"
    r"|(?:new |neues )?(?:document|dokument|documento|untitled|unbenannt|unnamed|sans titre|sin t[ií]tulo|senza titolo"
    r"|sem t[ií]tulo|naamloos|namnlös|bez názvu|без имени|no title|title|titel|layout|print|scan|\(?anonymous\)?|none"
    r"|null|test|page)(?: (?:document|dokument))?[ _-]?\d*|about:blank|(?:https?|file):.*|adobe photoshop pdf"
    r"|.*\.(?:docx?|dotx?|odt|ods|odp|rtf|txt|pdf|xlsx?|pptx?|pps|indd|qxd|qxp|tex|dvi|ps|eps|ai|cdr|pub|pmd|wpd|html?|"
    r"vsd|tiff?|jpe?g|png)",
    re.IGNORECASE,
)


def meaningful_title(title: str) -> str:
    """Return the title on one line; "" for one that a program wrote, or that has no letters."""
    title = " ".join(title.split())
    return "" if JUNK.fullmatch(title) or not any(map(str.isalpha, title)) else title
