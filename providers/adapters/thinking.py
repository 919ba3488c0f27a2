"""Hide a model's thinking at the beginning of an answer, where the server leaves it in the text."""

import re

# The tags around thinking, where the server has no parser for them: DeepSeek, Qwen and others; Gemma; Seed; Kimi;
# Magistral; gpt-oss.
BLOCKS = {f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning", "seed:think")} | {
    "◁think▷": "◁/think▷",
    "[THINK]": "[/THINK]",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
    # A closing tag alone: the opening one is in the prompt, or the model did not think.
    **dict.fromkeys(["</think>", "</thinking>", "</thought>", "</reasoning>", "<|channel|>final<|message|>"], ""),
}
FIRST_CHARACTERS = frozenset(tag[0] for tag in BLOCKS)
CLOSINGS = {opening: re.compile(re.escape(closing), re.IGNORECASE) for opening, closing in BLOCKS.items()}
# The end of thinking whose beginning is in the prompt, on a line of its own: DeepSeek's and Qwen's templates.
UNMARKED = re.compile(r"\A(?:(?!<think).)*?\n</think(?:ing)?>[ \t]*\n\s*(?=\S)", re.IGNORECASE | re.DOTALL)


class ThinkingFilter:
    """A filter that removes blocks of thinking from the beginning of a text, which comes in pieces cut anywhere."""

    def __init__(self) -> None:
        self.held = ""  # a text that may become a tag
        self.block: str | None = None  # the opening tag of the block in which the text is
        self.has_passed = False  # the answer itself has begun

    def add(self, piece: str) -> str:
        """Return the text that can be shown after this piece."""
        if self.has_passed:
            return piece
        self.held += piece
        while not self.has_passed:
            if self.block:
                found = CLOSINGS[self.block].search(self.held)
                if found is None:
                    self.held = self.held[-len(BLOCKS[self.block]) :]
                    return ""
                self.held, self.block = self.held[found.end() :], None
            start = self.held.lstrip()
            if start and start[0] not in FIRST_CHARACTERS:
                self.has_passed = True
                break
            self.block = next((tag for tag in BLOCKS if matches(start[: len(tag)], tag)), None)
            if self.block:
                self.held = start[len(self.block) :]
            elif any(matches(tag[: len(start)], start) for tag in BLOCKS):
                return ""
            else:
                self.has_passed = True
        return self.rest()

    def rest(self) -> str:
        """Return the text that was held back. Call it at the end of the text."""
        text = "" if self.block else self.held
        self.held = ""
        return text


def without_unmarked_thinking(text: str) -> str:
    """Return a whole answer without thinking of which only the end is marked, so that a stream cannot hide it."""
    return UNMARKED.sub("", text, count=1)


def matches(text: str, tag: str) -> bool:
    return text.lower() == tag.lower()
