"""The verdicts on a reply: what was judged, the outcome, and the reason in the reader's language."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

# By the name that is stored. `detail` is a text from elsewhere: a part of the reply, a message of a provider.
REASONS = {
    "error": _("The chatbot could not reply: %(detail)s"),
    "empty": _("The reply is empty."),
    "refusal": _("The reply is the refusal text."),
    "refusal_expected": _("The refusal text was expected."),
    "unavailable": _("The collections could not be searched."),
    "filtered": _("The provider's content filter stopped the reply."),
    "not_answered": _("There is no answer to judge."),
    "no_knowledge": _("The reply was not made from passages."),
    "asks_back": _("The reply is a question."),
    "uncited": _("The reply cites none of the passages that were found."),
    "unsupported": _("Not in the cited passages: %(detail)s."),
    "no_expectation": _("Nothing is expected of this reply."),
    "missing_fact": _("The reply does not contain %(detail)s."),
    "missing_source": _("“%(detail)s” is not among the sources."),
    "undecided": _("The rules do not decide this, and no judge model was chosen."),
    "internal": _("Internal error. See the worker's log."),
    "judge": _("The judge model: %(detail)s"),
    "judge_unsure": _("The judge model is not sure. %(detail)s"),
    "judge_failed": _("The judge model could not be asked: %(detail)s"),
    "judge_nonsense": _("The judge model's answer is not the JSON that was asked for."),
    "judge_too_small": _("The passages do not fit into the judge model's context window."),
}


class Criterion(models.TextChoices):
    """What a reply is judged on."""

    ANSWERED = "answered", _("Answered")
    GROUNDED = "grounded", _("Grounded")
    CORRECT = "correct", _("Correct")


class Outcome(models.TextChoices):
    """The outcome of a verdict, or of all verdicts on a reply."""

    PASSED = "passed", _("passed")
    FAILED = "failed", _("failed")
    NOT_JUDGED = "not judged", _("not judged")
    NOT_APPLICABLE = "not applicable", _("not applicable")


class Change(models.TextChoices):
    """The difference of an outcome to that of the run before."""

    NEWLY_FAILING = "newly failing", _("newly failing")
    NEWLY_PASSING = "newly passing", _("newly passing")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict on one criterion, by rules or by the judge model. `reason` is a key of REASONS, or ""."""

    outcome: str
    reason: str = ""
    detail: str = ""
    by_judge: bool = False

    def __str__(self) -> str:
        """Return the reason as a sentence, or "" for a verdict without one."""
        text = REASONS.get(self.reason, "")
        return str(text) % {"detail": self.detail} if text else ""

    @property
    def label(self) -> str:
        return str(Outcome(self.outcome).label)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Verdicts = Mapping[Criterion, Verdict]


def as_verdicts(stored: Mapping[str, Mapping[str, Any]]) -> dict[Criterion, Verdict]:
    return {criterion: Verdict(**stored[criterion]) for criterion in Criterion if criterion in stored}


def overall(verdicts: Verdicts) -> Outcome:
    """Return the worst outcome: a reply passes only if no criterion failed or was left undecided."""
    outcomes = {verdict.outcome for verdict in verdicts.values()}
    return next((worst for worst in (Outcome.FAILED, Outcome.NOT_JUDGED) if worst in outcomes), Outcome.PASSED)
