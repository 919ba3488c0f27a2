"""Chatbots as plain data, for the commands and the admin.

file -> one mapping of settings per chatbot -> checked chatbots -> saved in one transaction, all of them or none
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, models, transaction

from chatbots.models import Chatbot, GoldenQuestion

GOLDEN = "golden_questions"  # the key of a chatbot's list of them
MAX_BYTES = 5 * 1024 * 1024
MAX_ID = 2**53 - 1  # beyond it JavaScript, hence a widget, can't tell a whole number from the next


class ImportRefused(Exception):
    """Nothing was saved. `problems` holds a sentence for each thing that is wrong with the file."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass
class Import:
    """The chatbots in the order of the file, and what whoever imports them should know."""

    bots: list[Chatbot] = field(default_factory=list)
    golden_questions: list[GoldenQuestion] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def settings() -> dict[str, Any]:
    """The fields that hold what a person decides about a chatbot, by name."""
    fields = Chatbot._meta.concrete_fields
    return {setting.name: setting for setting in fields if setting.editable and not setting.primary_key}


def settings_of_questions() -> dict[str, Any]:
    fields = {setting.name: setting for setting in GoldenQuestion._meta.concrete_fields}
    return {name: fields[name] for name in ("question", "expected_facts", "expected_source", "is_enabled")}


def export_chatbots(bots: Iterable[Chatbot]) -> str:
    """A JSON list that can be imported again: in the order of the ids, the same bytes for the same chatbots."""
    bots = sorted(bots, key=lambda bot: bot.pk)
    known = settings()
    golden: dict[int, list[dict[str, Any]]] = {}
    for question in GoldenQuestion.objects.filter(chatbot__in=bots).values("chatbot_id", *settings_of_questions()):
        golden.setdefault(question.pop("chatbot_id"), []).append(question)
    rows = [
        {
            "id": bot.pk,
            "name": bot.name,
            **{name: setting.value_from_object(bot) for name, setting in known.items()},
            **({GOLDEN: golden[bot.pk]} if bot.pk in golden else {}),
        }
        for bot in bots
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


@transaction.atomic
def import_chatbots(data: bytes, *, dry_run: bool = False) -> Import:
    """Save the chatbots that a JSON file describes. Raises ImportRefused if anything is wrong with any of them."""
    done, problems = Import(), []
    ids = set(Chatbot.objects.values_list("pk", flat=True))
    displaced = []
    unknown: set[str] = set()
    for position, entry in enumerate(read_entries(data), 1):
        title = f"Chatbot {position}{quoted_name(entry)}"
        try:
            bot = read_chatbot(entry)
            done.golden_questions += read_golden_questions(bot, entry.get(GOLDEN))
        except ValidationError as error:
            for name, messages in error.message_dict.items():
                problems.append(f"{title}, {name}: {' '.join(messages)}")
            continue
        if bot.pk in ids:
            displaced.append((title, bot.pk, bot))
            bot.pk = None
        elif bot.pk:
            ids.add(bot.pk)
        unknown |= entry.keys() - settings().keys() - {"id", GOLDEN}
        done.bots.append(bot)
    if problems:
        raise ImportRefused(*problems)
    if not dry_run:
        save(done.bots)
        for question in done.golden_questions:
            question.chatbot_id = question.chatbot.pk  # which it has only now
        GoldenQuestion.objects.bulk_create(done.golden_questions)
    for title, wanted, bot in displaced:
        done.notices.append(f"{title}: the id {wanted} is taken, so it gets {bot.pk or 'another one'}.")
    if unknown:
        names = ", ".join(quoted(name) for name in sorted(unknown)[:50])
        done.notices.append(f"Ignored, for puffer does not know them: {names}{', ...' if len(unknown) > 50 else ''}.")
    return done


def save(bots: list[Chatbot]) -> None:
    """Those that bring their ids first, so that no new id is one of theirs."""
    with_ids, without = [bot for bot in bots if bot.pk], [bot for bot in bots if not bot.pk]
    for bot in with_ids:
        bot.save(force_insert=True)
    if with_ids and connection.vendor == "postgresql":
        # Its sequence does not notice ids that were given. It never goes back: a deleted chatbot's id stays unused.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setval(sequence, greatest(%s, nextval(sequence)))"
                " FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS sequence) AS of_the_ids",
                [max(bot.pk for bot in with_ids), Chatbot._meta.db_table, "id"],
            )
    for bot in without:
        bot.save(force_insert=True)


def read_entries(data: bytes) -> list[Mapping[str, Any]]:
    """The file's list of objects; a single object counts as a list of one."""
    if len(data) > MAX_BYTES:
        raise ImportRefused(f"The file is larger than {MAX_BYTES // 1024**2} MB.")
    try:
        content = json.loads(data)
    except RecursionError:
        raise ImportRefused("The file is nested too deeply to be a list of chatbots.") from None
    except ValueError as error:
        raise ImportRefused(f"The file is not JSON: {error}.") from None
    entries = [content] if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImportRefused("The file must hold a JSON list of objects, one for each chatbot.")
    return entries


def quoted_name(entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    return f" {quoted(name)}" if isinstance(name, str) else ""


def quoted(text: str) -> str:
    """Short, on one line, and fit for any terminal, whatever the file holds."""
    return json.dumps(text[:60].encode(errors="replace").decode(), ensure_ascii=False)


def read_chatbot(entry: Mapping[str, Any]) -> Chatbot:
    """A checked chatbot, not saved, with the id that the file gives it. null is as good as left out, but of a limit.

    Raises ValidationError with the problems of each field.
    """
    bot, known = Chatbot(), settings()
    may_be_null = {name for name, setting in known.items() if setting.null}
    given = {name: value for name, value in entry.items() if value is not None or name in may_be_null}
    problems: dict[str, Any] = {}
    if not given.keys() & known.keys():
        raise ValidationError({"settings": "There are none that puffer knows."})
    problems |= read_settings(bot, known, given)
    try:
        bot.pk = read_id(given["id"]) if "id" in given else None
    except ValidationError as error:
        problems["id"] = error
    try:
        bot.clean_fields(exclude=[*problems, "id"])
    except ValidationError as error:
        problems |= error.error_dict
    if problems:
        raise ValidationError(problems)
    return bot


def read_golden_questions(bot: Chatbot, entries: Any) -> list[GoldenQuestion]:
    """Of a chatbot that is not saved yet. Raises ValidationError with the first question that is wrong."""
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValidationError({GOLDEN: "It must be a list of objects."})
    questions = []
    for number, entry in enumerate(entries, 1):
        question = GoldenQuestion(chatbot=bot)
        problems = read_settings(question, settings_of_questions(), entry)
        try:
            question.clean_fields(exclude=[*problems, "id", "chatbot"])
            question.clean()
        except ValidationError as error:
            problems["question"] = error
        if problems:
            words = [sentence for problem in problems.values() for sentence in problem.messages]
            raise ValidationError({GOLDEN: f"Question {number}: {' '.join(words)}"})
        questions.append(question)
    return questions


def read_settings(row: models.Model, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, ValidationError]:
    """Set those that are given; what is wrong with which."""
    problems = {}
    for name, setting in known.items():
        if name in given:
            try:
                setattr(row, name, read_setting(setting, given[name]))
            except ValidationError as error:
                problems[name] = error
    return problems


def read_setting(setting: Any, value: Any) -> Any:
    """The value in the type of the field; numbers may come as strings, and of choices the label will do."""
    if setting.null and value in (None, ""):
        return None
    if setting.choices:
        return read_choice(setting, value)
    if isinstance(setting, models.BooleanField):
        return read_flag(value)
    if isinstance(setting, models.JSONField):
        return read_names(value)
    if isinstance(setting, models.FloatField):
        return read_number(value)
    if isinstance(setting, models.IntegerField):
        return read_whole(value)
    text = read_text(value)
    return text.strip() if isinstance(setting, models.CharField) else text


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValidationError("It must be a text.")
    if "\x00" in value or value != value.encode(errors="ignore").decode():
        raise ValidationError("It holds characters that can't be stored.")
    return value


def read_choice(setting: Any, value: Any) -> str:
    wanted = read_text(value).strip().lower()
    for choice, label in setting.flatchoices:
        if wanted in (choice, label.lower()):
            return choice
    if setting.blank and not wanted:
        return ""
    allowed = ", ".join(choice for choice, _ in setting.flatchoices)
    raise ValidationError(f"{quoted(value)} is none of {allowed}.")


def read_flag(value: Any) -> bool:
    """Also "1" and "0", as AI Puffer keeps them."""
    flags = {True: True, False: False, "1": True, "0": False, "true": True, "false": False, "": False}
    if not isinstance(value, bool | int | str) or value not in flags:
        raise ValidationError("It must be true or false.")
    return flags[value]


def read_names(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValidationError("It must be a list of texts.")
    return [read_text(name).strip() for name in value]


def read_number(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValidationError("It must be a number.")
    return number


def read_whole(value: Any) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValidationError("It must be a whole number.")
    return number


def read_id(value: Any) -> int:
    number = read_whole(value)
    if not 1 <= number <= MAX_ID:
        raise ValidationError(f"It must be from 1 to {MAX_ID}.")
    return number
