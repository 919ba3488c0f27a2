"""Judge a reply by rules, without a model: is it an answer, is it grounded in what it cites, is it correct?

A rule passes or fails a reply, or returns UNDECIDED: then the judge model decides, if one is chosen.
"""

from collections.abc import Iterable, Sequence

from chatbots.conversation.citations import source_numbers, without_marks
from chatbots.conversation.search_questions import SENTENCE
from chatbots.conversation.trace import TracedTurn
from chatbots.conversation.turn_events import Reply
from chatbots.models import Chatbot, GoldenResult, Outcome, Verdict
from chatbots.quality.facts import Fact, Sources, content_stems, facts_in
from puffer.text import normalize
from vectorstores.retrieval import Passage

# The share of a reply's content words that its sources must contain. Less is decided by the judge model: it may be a
# paraphrase, another language or an invention.
ENOUGH_WORDS = 0.7
MAX_SHOWN = 5  # facts in a verdict
QUESTION_MARKS = ("?", "\u061f", "\uff1f")

PASSED, UNDECIDED = Verdict(Outcome.PASSED), Verdict(Outcome.NOT_JUDGED, "undecided")


def failed(reason: str, detail: str = "") -> Verdict:
    return Verdict(Outcome.FAILED, reason, detail)


def not_applicable(reason: str) -> Verdict:
    return Verdict(Outcome.NOT_APPLICABLE, reason)


def answered(bot: Chatbot, question: GoldenResult, turn: TracedTurn) -> Verdict:
    """Judge whether the bot answered, and did not fail, refuse or say nothing."""
    reply = turn.reply
    if reply is None:
        return failed("error", turn.error)
    text = without_marks(reply.text).strip()
    if not text:
        return failed("empty")
    if text == bot.refusal_message.strip():
        expected = any(fact in plain(text) for fact in expected_facts(question))
        return Verdict(Outcome.PASSED, "refusal_expected") if expected else failed("refusal")
    if text == bot.knowledge_unavailable_message.strip():
        return failed("unavailable")
    return failed("filtered") if reply.finish_reason == "content_filter" else PASSED


def grounded(bot: Chatbot, question: GoldenResult, turn: TracedTurn) -> Verdict:
    """Judge whether what an answer says stands in the passages that it cites, or in the instructions."""
    reply = turn.reply
    if reply is None or not bot.uses_knowledge or turn.found is None or turn.asking is None:
        return not_applicable("no_knowledge")
    text = without_marks(reply.text).strip()
    if all(sentence.rstrip().endswith(QUESTION_MARKS) for sentence in SENTENCE.split(text) if sentence.strip()):
        return not_applicable("asks_back")
    if reply.passages and bot.show_sources and not reply.cited:
        return failed("uncited")
    sources = Sources([*map(text_of, cited_passages(bot, reply)), turn.asking.prompt.instructions])
    asked = Sources([question.question])
    missing = [fact for fact in facts_in(text) if not sources.support(fact)]
    if invented := [fact for fact in missing if not fact.uncertain and not asked.support(fact)]:
        return failed("unsupported", quoted(invented))
    return PASSED if not missing and sources.share_of(text) >= ENOUGH_WORDS else UNDECIDED


def correct(question: GoldenResult, reply: Reply) -> Verdict:
    """Judge whether an answer meets the expectations of a golden question: any fact of them, and the source."""
    source = plain(question.expected_source)
    if source and not any(source in names_of(passage) for passage in reply.passages):
        return failed("missing_source", question.expected_source.strip())
    facts = expected_facts(question)
    if not facts:
        return PASSED if source else not_applicable("no_expectation")
    said = plain(without_marks(reply.text))
    if any(fact in said or says_with_numbers(said, fact) for fact in facts):
        return PASSED
    return UNDECIDED


def says_with_numbers(text: str, expected: str) -> bool:
    """Return whether the text has all numbers, codes and words of a fact with numbers: "1,000 EUR" as "EUR 1000.00"."""
    facts = facts_in(expected)
    if not any(fact.kind in ("number", "code", "time") for fact in facts):
        return False
    sources = Sources([text])
    stems = [stem for stem in content_stems(expected) if not any(map(str.isdigit, stem))]
    return all(map(sources.support, facts)) and all(f"\n{stem}" in sources.words for stem in stems)


def missing(question: GoldenResult, reply: Reply) -> list[str]:
    """Return a sentence for each expectation that the reply does not meet to the letter."""
    problems = []
    facts = expected_facts(question)
    if facts and not any(fact in plain(reply.text) for fact in facts):
        problems.append(f"The answer does not contain {either(facts)}.")
    source = plain(question.expected_source)
    if source and not any(source in names_of(passage) for passage in reply.passages):
        problems.append(f"“{question.expected_source.strip()}” is not among the sources.")
    return problems


def expected_facts(question: GoldenResult) -> list[str]:
    return [fact for line in question.expected_facts.splitlines() if (fact := plain(line))]


def cited_passages(bot: Chatbot, reply: Reply) -> list[Passage]:
    """Return the passages that the reply cites, or all if the bot hides its sources and so asks for no marks."""
    numbers = source_numbers(reply.passages)
    return [
        passage
        for number, passage in zip(numbers, reply.passages, strict=True)
        if number in reply.cited or not bot.show_sources
    ]


def text_of(passage: Passage) -> str:
    """Return a passage with what else the model sees of it."""
    return "\n".join(filter(None, [passage.title, passage.headings, passage.url, passage.date, passage.text]))


def names_of(passage: Passage) -> Sequence[str]:
    return [plain(name) for name in (passage.title, passage.url, passage.document_id)]


def plain(text: str) -> str:
    """Normalize a text for comparison: case, Unicode form, white space, and a slash at the end of an address."""
    return " ".join(normalize("NFKC", text).casefold().split()).rstrip("/")


def quoted(facts: Iterable[Fact]) -> str:
    texts = list(dict.fromkeys(fact.text for fact in facts))
    return ", ".join(f"“{text}”" for text in texts[:MAX_SHOWN]) + (", …" if len(texts) > MAX_SHOWN else "")


def either(facts: Sequence[str]) -> str:
    return f"“{'” or “'.join(facts)}”"
