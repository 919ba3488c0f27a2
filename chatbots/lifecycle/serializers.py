"""Chatbots as JSON: their settings, and the import and export of files.

file -> one object per chatbot -> ChatbotSerializer checks them -> all are saved in one transaction, or none
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, models, transaction
from django.db.models import prefetch_related_objects
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.settings import api_settings

from chatbots.models import Chatbot, GoldenQuestion

MAX_BYTES = 5 * 1024 * 1024  # of a file
MAX_ID = 2**53 - 1  # the largest integer that JavaScript, and so the widget, represents exactly
MAX_UNKNOWN = 50  # names of unknown settings in a notice
GOLDEN = "golden_questions"

# The names of the fields that hold a person's decisions about a chatbot.
SETTINGS = [field.name for field in Chatbot._meta.concrete_fields if field.editable and not field.primary_key]


# Fields: strict about types, lenient about spellings that AI Puffer's files contain


class TextField(serializers.CharField):
    default_error_messages = {"invalid": _("It must be text.")}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):  # CharField would accept numbers
            self.fail("invalid")
        return super().to_internal_value(data)


class LongTextField(TextField):
    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)


class FlagField(serializers.BooleanField):
    FALSE_VALUES = {*serializers.BooleanField.FALSE_VALUES, ""}
    default_error_messages = {"invalid": _("It must be true or false.")}


class NumberField(serializers.FloatField):
    default_error_messages = {"invalid": _("It must be a number.")}

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumberField(serializers.IntegerField):
    default_error_messages = {"invalid": _("It must be a whole number.")}

    def run_validation(self, data: Any = serializers.empty) -> int | None:
        return None if data == "" and self.allow_null else super().run_validation(data)


class NamesField(serializers.JSONField):
    """A list of texts."""

    default_error_messages = {"invalid": _("It must be a list of texts.")}
    name = TextField(allow_blank=True)  # the model's validator refuses blank names

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
            self.fail("invalid")
        return [self.name.run_validation(name) for name in data]


class LabeledChoiceField(serializers.ChoiceField):
    """A choice by its value or its label, in any case: AI Puffer names providers by label."""

    default_error_messages = {"invalid_choice": _("{input} is not a valid choice. Use one of: {choices}.")}

    def to_internal_value(self, data: Any) -> str:
        wanted = data.strip().lower() if isinstance(data, str) else None
        if wanted == "" and self.allow_blank:
            return ""
        matching = [value for value, label in self.choices.items() if wanted in (value, str(label).lower())]
        if not matching:
            self.fail("invalid_choice", input=quoted(str(data)), choices=", ".join(self.choices))
        return matching[0]


# Serializers


class LenientSerializer(serializers.ModelSerializer):
    """A serializer with the fields above, for which null is the same as a missing key unless null is a value."""

    default_error_messages = {"invalid": _("It must be an object.")}
    serializer_field_mapping = {
        models.CharField: TextField,
        models.TextField: LongTextField,
        models.BooleanField: FlagField,
        models.FloatField: NumberField,
        models.IntegerField: WholeNumberField,
        models.JSONField: NamesField,
    }
    serializer_choice_field = LabeledChoiceField

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, Mapping):
            nullable = {name for name, field in self.fields.items() if field.allow_null}
            data = {name: value for name, value in data.items() if value is not None or name in nullable}
        return super().to_internal_value(data)


class GoldenQuestionSerializer(LenientSerializer):
    class Meta:
        model = GoldenQuestion
        fields = ["question", "expected_facts", "expected_source", "is_enabled"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        GoldenQuestion(**attrs).clean()
        return attrs


class SettingsSerializer(LenientSerializer):
    """A chatbot's settings, saved or not."""

    class Meta:
        model = Chatbot
        fields = SETTINGS


class ChatbotSerializer(SettingsSerializer):
    """A chatbot in a file: its id, settings and golden questions."""

    id = WholeNumberField(required=False, min_value=1, max_value=MAX_ID)
    golden_questions = GoldenQuestionSerializer(
        many=True, required=False, error_messages={"not_a_list": _("It must be a list of objects.")}
    )

    class Meta(SettingsSerializer.Meta):
        fields = ["id", "name", *(name for name in SETTINGS if name != "name"), GOLDEN]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.keys() & set(SETTINGS):
            raise serializers.ValidationError({"settings": _("It contains none of a chatbot's settings.")})
        return attrs

    def to_representation(self, instance: Chatbot) -> dict[str, Any]:
        row = super().to_representation(instance)
        if not row[GOLDEN]:
            del row[GOLDEN]
        return row


def settings_of(bot: Chatbot) -> dict[str, Any]:
    return dict(SettingsSerializer(bot).data)


# Files


class ImportRefused(Exception):
    """The file has errors and nothing was saved. `problems` holds one sentence for each error."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass
class Import:
    """The imported chatbots in the order of the file, and notices for the person who imports them."""

    bots: list[Chatbot] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def export_chatbots(bots: Iterable[Chatbot]) -> str:
    """Return a JSON list that can be imported again, in the order of ids: equal chatbots give equal bytes."""
    bots = sorted(bots, key=lambda bot: bot.pk)
    prefetch_related_objects(bots, GOLDEN)
    return json.dumps(ChatbotSerializer(bots, many=True).data, ensure_ascii=False, indent=2) + "\n"


@transaction.atomic
def import_chatbots(data: bytes, *, dry_run: bool = False) -> Import:
    """Save the chatbots of a JSON file. Raise ImportRefused if anything is wrong with any of them."""
    entries = read_entries(data)
    serializer = ChatbotSerializer(data=entries, many=True)
    if not serializer.is_valid():
        raise ImportRefused(*problems_of(entries, serializer.errors))
    done = Import()
    questions: list[GoldenQuestion] = []
    taken = set(Chatbot.objects.values_list("pk", flat=True))
    displaced = []
    for position, given in enumerate(serializer.validated_data):
        given_questions = given.pop(GOLDEN, [])
        bot = Chatbot(**given)
        if bot.pk in taken:
            displaced.append((position, bot.pk, bot))
            bot.pk = None
        elif bot.pk:
            taken.add(bot.pk)
        done.bots.append(bot)
        questions += [GoldenQuestion(chatbot=bot, **question) for question in given_questions]
    if not dry_run:
        save(done.bots)
        GoldenQuestion.objects.bulk_create(questions)
    for position, wanted, bot in displaced:
        text = gettext("%(title)s: the id %(wanted)s is taken, so it gets %(new)s.")
        new = bot.pk or gettext("another one")
        done.notices.append(text % {"title": title_of(entries, position), "wanted": wanted, "new": new})
    if unknown := sorted({name for entry in entries for name in entry} - ChatbotSerializer().fields.keys()):
        names = ", ".join(quoted(name) for name in unknown[:MAX_UNKNOWN])
        names += ", ..." if len(unknown) > MAX_UNKNOWN else ""
        done.notices.append(gettext("Ignored unknown settings: %(names)s.") % {"names": names})
    return done


def save(bots: list[Chatbot]) -> None:
    """Insert the chatbots that bring an id first, so that no new id is one of theirs."""
    with_ids, without = [bot for bot in bots if bot.pk], [bot for bot in bots if not bot.pk]
    for bot in with_ids:
        bot.save(force_insert=True)
    if with_ids and connection.vendor == "postgresql":
        # Explicit ids do not advance the sequence. It never goes back, so that ids of deleted chatbots stay unused.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setval(sequence, greatest(%s, nextval(sequence)))"
                " FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS sequence) AS of_the_ids",
                [max(bot.pk for bot in with_ids), Chatbot._meta.db_table, "id"],
            )
    for bot in without:
        bot.save(force_insert=True)


def read_entries(data: bytes) -> list[Mapping[str, Any]]:
    """Return the file's list of objects; a single object counts as a list of one. Raise ImportRefused."""
    if len(data) > MAX_BYTES:
        raise ImportRefused(gettext("The file is larger than %(size)d MB.") % {"size": MAX_BYTES // 1024**2})
    try:
        content = json.loads(data)
    except RecursionError:
        raise ImportRefused(gettext("The file is nested too deeply to be a list of chatbots.")) from None
    except ValueError as error:
        raise ImportRefused(gettext("The file is not JSON: %(error)s.") % {"error": error}) from None
    entries = [content] if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImportRefused(gettext("The file must contain a JSON list with one object per chatbot."))
    return entries


def problems_of(entries: list[Mapping[str, Any]], errors: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    for position, of_entry in errors.items():
        for name, messages in of_entry.items():
            yield f"{title_of(entries, position)}, {name}: {' '.join(sentences(messages))}"


def sentences(errors: Any) -> list[str]:
    """Return the messages of a field, those of golden questions with the question's number and field."""
    if isinstance(errors, list):
        return [str(error) for error in errors]
    found = []
    for key, messages in errors.items():
        place = gettext("Question %(number)d") % {"number": key + 1} if isinstance(key, int) else key
        prefix = "" if key == api_settings.NON_FIELD_ERRORS_KEY else f"{place}: "
        found += [prefix + sentence for sentence in sentences(messages)]
    return found


def title_of(entries: list[Mapping[str, Any]], position: int) -> str:
    name = entries[position].get("name")
    title = gettext("Chatbot %(number)d") % {"number": position + 1}
    return f"{title} {quoted(name)}" if isinstance(name, str) else title


def quoted(text: str) -> str:
    """Return the text in quotes, shortened, on one line, and safe to print whatever the file contains."""
    return json.dumps(text[:60].encode(errors="replace").decode(), ensure_ascii=False)
