"""Markdown: the title and the headings of a text."""

import re
from bisect import bisect_right

from vectorstores.extraction.extracted import Extracted

HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
CODE_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
FRONT_MATTER_TITLE = re.compile(r"^title:[ \t]*[\"']?(.*?)[\"']?[ \t]*$", re.MULTILINE)


def from_markdown(text: str, title: str = "") -> Extracted:
    if front := FRONT_MATTER.match(text):
        named = FRONT_MATTER_TITLE.search(front[1])
        title = title or (named[1] if named else "")
        text = text[front.end() :]
    text = text.strip()
    code = [(match.start(), match.end()) for match in CODE_FENCE.finditer(text)]
    code_starts = [start for start, _ in code]
    path: list[tuple[int, str]] = []
    headings: list[tuple[int, str]] = []
    for match in HEADING.finditer(text):
        before = bisect_right(code_starts, match.start())
        if before and match.start() < code[before - 1][1]:
            continue
        level, name = len(match[1]), match[2].strip()
        title = title or name
        path = [*(above for above in path if above[0] < level), (level, name)]
        shown = path[1:] if path[0][1] == title else path  # the title is always shown above
        headings.append((match.start(), " > ".join(name for _, name in shown)))
    return Extracted(text, title, True, headings)
