"""Judge whether a passage may answer a question: by its cosine, the words that both share, and exact codes."""

from collections.abc import Sequence

from vectorstores.retrieval.passages import Passage
from vectorstores.terms import codes_in, has_stems, stems_of

# The cosine up to which texts are unrelated, by the start of the model's id; near 0 for models that are not listed.
# Measured with the bundled model on questions and passages in English and German: unrelated pairs have 0.74 on average
# and 0.78 at the 90th percentile, related pairs 0.82 to 0.92.
UNRELATED_COSINES = {"multilingual-e5": 0.77}

# How far below the threshold a cosine may be, as shares of the range from unrelated to identical. Measured by
# benchmarks/conversations.py: higher values find no more answers, but passages for questions without an answer.
ONE_WORD = 0.10  # a question of one word is not very similar to anything
OTHER_SCRIPT = 0.05  # a question in Arabic about a passage in Latin letters
MAX_QUESTION, MAX_PASSAGE = 2000, 20_000  # characters that are compared


def least_cosine(model: str, threshold: int) -> float:
    """Return the cosine that a threshold requires: 0 percent is unrelated for this model, 100 percent identical."""
    return floor_of(model) + (1 - floor_of(model)) * threshold / 100


def floor_of(model: str) -> float:
    name = model.rpartition("/")[2]
    return next((floor for start, floor in UNRELATED_COSINES.items() if name.startswith(start)), 0.0)


class Evidence:
    """The judgment of passages for one search. Any of the questions may find its evidence in a passage."""

    def __init__(self, questions: Sequence[str], model: str, threshold: int) -> None:
        self.least = least_cosine(model, threshold)
        self.range = 1 - floor_of(model)
        texts = [question[:MAX_QUESTION] for question in questions]
        self.questions = [(stems_of(text), is_latin(text)) for text in texts]
        self.codes = codes_in(texts[0], as_typed=True)

    def is_enough(self, passage: Passage) -> bool:
        if passage.score >= self.least:
            return True
        text = f"{passage.title}\n{passage.headings}\n{passage.text}"[:MAX_PASSAGE]
        if self.codes and self.codes & codes_in(text):
            return True
        if any(has_stems(text, stems) for stems, _ in self.questions):
            return True
        missing = (self.least - passage.score) / self.range
        return any(missing <= allowance(stems, in_latin, text) for stems, in_latin in self.questions)


def allowance(stems: Sequence[str], question_is_latin: bool, text: str) -> float:
    return ONE_WORD * (len(stems) == 1) + OTHER_SCRIPT * (question_is_latin != is_latin(text))


def is_latin(text: str) -> bool:
    """Return whether more than half of the letters are Latin."""
    letters = [character for character in text[:1000] if character.isalpha()]
    return sum(character < "\u0250" for character in letters) * 2 > len(letters)
