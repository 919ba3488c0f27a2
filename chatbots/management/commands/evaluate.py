import json
import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from tqdm import tqdm

from chatbots.models import Chatbot, GoldenResult, GoldenRun, Outcome
from chatbots.quality.evaluation import Estimate, Evaluation, Totals, estimate, totals_of
from chatbots.quality.golden import carry_out, claim_now, queue_results, results_to_get
from chatbots.quality.judge import Judge, NoSuchJudge, judge_named, read_judge
from chatbots.quality.sample import MAX_SAMPLE
from logs.usage import PriceBook
from providers.run_async import run_async
from puffer.api import ApiError
from puffer.runtime import LeaseLost
from puffer.text import counted, dollars, excerpt

NOT_GOOD_ENOUGH, NOTHING_DONE, INTERRUPTED = 1, 2, 130  # exit codes; 130 is what shells use for Ctrl-C
MAX_SHOWN = 100  # characters of a question
COLUMNS = "{outcome:<11} {change:<14} {answered:<15} {grounded:<15} {correct:<15} {question}"


class Command(BaseCommand):
    help = (
        "Ask a chatbot its golden questions and a random sample of visitors' questions, and judge the replies: "
        "whether they are answers, say only what the cited passages say, and contain the expected facts. Rules judge; "
        "what they leave undecided is judged by the model that --judge names, otherwise it is not judged. Each "
        "question is billed like a visitor's, and so is each call of the judge; visitors' questions are not logged "
        "again. "
        "Exit codes: 0 evaluated, 1 below --fail-under or a regression with --no-regressions, 2 nothing could be "
        "evaluated, 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bot", type=int, required=True, metavar="ID", help="the chatbot, published or a draft")
        parser.add_argument(
            "--sample",
            type=number(0, MAX_SAMPLE),
            default=20,
            metavar="N",
            help=f"how many visitors' questions from the log to ask, at most {MAX_SAMPLE} (default: 20)",
        )
        parser.add_argument(
            "--since", type=number(1, 36_500), default=30, metavar="DAYS", help="sample the last days (default: 30)"
        )
        parser.add_argument(
            "--seed",
            type=int,
            default=0,
            help="another number draws another sample; the same one draws the same questions again (default: 0)",
        )
        parser.add_argument(
            "--judge", default="", metavar="PROVIDER/MODEL", help="the model that judges what the rules leave undecided"
        )
        parser.add_argument(
            "--fail-under", type=number(0, 100), metavar="PERCENT", help="exit with 1 if fewer questions pass"
        )
        parser.add_argument(
            "--no-regressions",
            action="store_true",
            help="exit with 1 if a question fails that passed in the last run",
        )
        parser.add_argument("--dry-run", action="store_true", help="list the questions, estimate the cost, ask nothing")
        parser.add_argument("--json", action="store_true", help="print the results as JSON")

    def handle(self, *, bot: int, **options: Any) -> None:
        chatbot = Chatbot.objects.filter(pk=bot).first()
        if chatbot is None:
            raise CommandError(f"There is no chatbot {bot}.", returncode=NOTHING_DONE)
        if not chatbot.answers_api_calls:
            raise CommandError("This chatbot is in the trash, so it answers no one.", returncode=NOTHING_DONE)
        judge = self.judge(options["judge"])
        evaluation = Evaluation(options["sample"], options["since"], options["seed"], str(judge or ""))
        questions = results_to_get(chatbot, evaluation)
        if not questions:
            raise CommandError(
                "There are no questions to ask: the chatbot has no golden questions, and no visitor asked anything "
                f"in the last {counted(options['since'], 'day')}.",
                returncode=NOTHING_DONE,
            )
        self.stderr.write(
            f"Chatbot {chatbot.pk} ({chatbot.name}), {chatbot.get_status_display().lower()}: {counts_of(questions)}."
        )
        if options["dry_run"]:
            self.write_estimate(chatbot, questions, judge, options)
            return
        results = self.evaluate(chatbot, evaluation, questions)
        totals = totals_of(results)
        self.write_results(chatbot, evaluation, results, totals, options)
        self.exit_unless_good(totals, options)

    def judge(self, name: str) -> Judge | None:
        try:
            return run_async(lambda: read_judge(name)) if name else None
        except NoSuchJudge as error:
            raise CommandError(str(error), returncode=NOTHING_DONE) from None

    def evaluate(
        self, chatbot: Chatbot, evaluation: Evaluation, questions: Sequence[GoldenResult]
    ) -> list[GoldenResult]:
        """Run the evaluation in this process, and return its results."""
        with transaction.atomic():  # so that no worker sees the run before it is claimed
            run = claim_now(queue_results(chatbot, None, questions, evaluation=evaluation))
        assert run is not None
        with ctrl_c_cancels(run) as is_interrupted:
            try:
                # disable=None: only on a terminal
                with tqdm(total=len(questions), unit=" questions", disable=None, file=sys.stderr) as bar:
                    carry_out(run, bar.update)
            except LeaseLost:
                if is_interrupted.is_set():
                    raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
                text = "The run was cancelled, or replaced by a newer run."
                raise CommandError(text, returncode=NOTHING_DONE) from None
        return list(GoldenRun.objects.get(pk=run.pk).results.all())

    # Output

    def write_estimate(
        self, chatbot: Chatbot, questions: Sequence[GoldenResult], judge: Judge | None, options: dict[str, Any]
    ) -> None:
        texts, prices = [row.question for row in questions], PriceBook()
        try:
            cost = run_async(lambda: estimate(chatbot, texts, judge, prices))
        except ApiError as error:
            raise CommandError(error.message, returncode=NOTHING_DONE) from None
        if options["json"]:
            listed = [{"question": row.question, "message_id": row.message_id or None} for row in questions]
            self.stdout.write(as_json({"dry_run": True, "questions": listed, **cost_json(cost)}))
            return
        for row in questions:
            self.stdout.write(f"{kind_of(row):<9} {excerpt(row.question, MAX_SHOWN)}")
        self.stdout.write(
            f"Would ask {counted(cost.questions, 'question')}; the replies {price(cost.cost)}, "
            + (f"the judge {price(cost.judge_cost)} at most." if judge else "without a judge model.")
        )

    def write_results(
        self,
        chatbot: Chatbot,
        evaluation: Evaluation,
        results: Sequence[GoldenResult],
        totals: Totals,
        options: dict[str, Any],
    ) -> None:
        if options["json"]:
            self.stdout.write(as_json(report(chatbot, evaluation, results, totals)))
            return
        names = {name: name.capitalize() for name in ("answered", "grounded", "correct")}
        self.stdout.write(COLUMNS.format(outcome="Result", change="Change", question="Question", **names))
        for result in results:
            verdicts = {criterion.value: verdict.outcome for criterion, verdict in result.judged.items()}
            question = excerpt(result.question, MAX_SHOWN)
            outcome, change = result.outcome or "", result.change or ""
            row = COLUMNS.format(outcome=outcome, change=change, question=question, **verdicts)
            self.stdout.write(row, self.style.ERROR if result.outcome == Outcome.FAILED else None)
            for criterion, verdict in result.judged.items():
                if verdict.outcome in (Outcome.FAILED, Outcome.NOT_JUDGED):
                    self.stdout.write(f"    {criterion.value}: {excerpt(str(verdict), 3 * MAX_SHOWN)}")
        self.stdout.write(
            f"{totals.passed} of {counted(totals.questions, 'question')} passed ({totals.percent:.1f} %), "
            f"{totals.failed} failed, {totals.not_judged} not judged; {totals.newly_failing} newly failing, "
            f"{totals.newly_passing} newly passing; {dollars(totals.cost)} for the replies, "
            f"{dollars(totals.judge_cost)} for the judge, as far as prices are known."
        )

    def exit_unless_good(self, totals: Totals, options: dict[str, Any]) -> None:
        problems = []
        if options["fail_under"] is not None and totals.percent < options["fail_under"]:
            problems.append(f"{totals.percent:.1f} % passed, less than {options['fail_under']} %.")
        if options["no_regressions"] and totals.newly_failing:
            problems.append(f"{counted(totals.newly_failing, 'question')} passed in the last run and failed now.")
        if problems:
            raise CommandError(" ".join(problems), returncode=NOT_GOOD_ENOUGH)


@contextmanager
def ctrl_c_cancels(run: GoldenRun) -> Iterator[threading.Event]:
    """Cancel the run on Ctrl-C, so that it ends within a second, and no worker continues it. Set the event.

    KeyboardInterrupt would leave the event loop waiting for the thread that it interrupted. A second Ctrl-C kills.
    """
    is_interrupted = threading.Event()

    def cancel(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        is_interrupted.set()
        threading.Thread(target=run.cancel).start()  # this thread may be in the middle of a query

    if threading.current_thread() is not threading.main_thread():  # which alone can handle signals
        yield is_interrupted
        return
    previous = signal.signal(signal.SIGINT, cancel)
    try:
        yield is_interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def number(least: int, most: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= (value := int(text[:9])) <= most:
            raise ArgumentTypeError(f"must be a number from {least} to {most}")
        return value

    return parse


def kind_of(result: GoldenResult) -> str:
    return "visitor's" if result.message_id else "golden"


def counts_of(questions: Sequence[GoldenResult]) -> str:
    sampled = sum(bool(question.message_id) for question in questions)
    return f"{counted(len(questions) - sampled, 'golden question')}, {counted(sampled, 'question')} of visitors"


def price(cost: Any) -> str:
    return "at an unknown price" if cost is None else f"about {dollars(cost)}"


def cost_json(cost: Estimate) -> dict[str, Any]:
    judge_cost = None if cost.judge_cost is None else float(cost.judge_cost)
    return {"cost": None if cost.cost is None else float(cost.cost), "judge_cost": judge_cost}


def report(chatbot: Chatbot, evaluation: Evaluation, results: Sequence[GoldenResult], totals: Totals) -> dict[str, Any]:
    return {
        "chatbot": {"id": chatbot.pk, "name": chatbot.name, "status": chatbot.status},
        "judge": str(judge_named(evaluation.judge) or "") or None,
        "seed": evaluation.seed,
        "totals": {
            "questions": totals.questions,
            "passed": totals.passed,
            "failed": totals.failed,
            "not_judged": totals.not_judged,
            "percent": round(totals.percent, 1),
            "newly_failing": totals.newly_failing,
            "newly_passing": totals.newly_passing,
            "cost": float(totals.cost),
            "judge_cost": float(totals.judge_cost),
        },
        "results": [
            {
                "kind": "visitor" if result.message_id else "golden",
                "question": result.question,
                "message_id": result.message_id or None,
                "outcome": result.outcome,
                "before": result.before or None,
                "change": result.change,
                "verdicts": {
                    criterion.value: {
                        "outcome": verdict.outcome,
                        "by": "judge" if verdict.by_judge else "rules",
                        "reason": str(verdict),
                    }
                    for criterion, verdict in result.judged.items()
                },
                "reply": result.answer,
                "cited": [source["title"] for source in result.sources if source.get("cited")],
                "milliseconds": result.milliseconds,
            }
            for result in results
        ],
    }


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
