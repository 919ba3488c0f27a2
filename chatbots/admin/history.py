"""Versions of a chatbot in the admin: who changed which settings and when, word differences, and restoring one."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from chatbots.admin.forms import LAYOUT, ChatbotForm
from chatbots.admin.page import ChatbotPage
from chatbots.lifecycle.serializers import SETTINGS
from chatbots.models import Chatbot
from puffer.text import moment

VERSIONS_ON_A_PAGE = 20
CONTEXT = 12  # unchanged words shown on each side of a change in a long text
MAX_WORDS = 4000  # in both texts together; longer texts are not compared word by word


@dataclass(frozen=True)
class Part:
    """A part of a compared text. `kind` is "same", "gone" or "new"."""

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """The difference of one setting."""

    label: str
    parts: Sequence[Part]


@dataclass
class Version:
    """A saved version and its changes. `differs` tells whether the settings saved now are different."""

    record: Any
    changes: list[Change] = field(default_factory=list)
    differs: bool = False

    @property
    def action(self) -> str:
        user = self.record.history_user
        names = {"user": user.get_username() if user else _("a command")}
        match self.record.history_type:
            case "+":
                return _("Created by %(user)s") % names
            case "-":
                return _("Deleted by %(user)s") % names
        return _("Changed by %(user)s") % names


class HistoryPage(ChatbotPage):
    """The list of versions with their changes. Django's own history page shows only the names of changed fields."""

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_view(object_id)
        records = bot.history.select_related("history_user")
        page = Paginator(records, VERSIONS_ON_A_PAGE).get_page(request.GET.get("p"))
        first = max(page.start_index() - 1, 0)
        context = {
            "object": bot,
            "page": page,
            "versions": versions(records[first : first + VERSIONS_ON_A_PAGE + 1], bot)[:VERSIONS_ON_A_PAGE],
            "may_restore": self.model_admin.has_change_permission(request, bot),
        }
        return self.page("history", _("Versions"), context)


class RestorePage(ChatbotPage):
    """The page that restores the `version` in the query as a new version. It does not change the status."""

    route = "<path:object_id>/restore/"
    name = "restore"

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_change(object_id)
        return self.confirmation(bot, version_asked(request, bot), [])

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_change(object_id)
        record = version_asked(request, bot)
        when = moment(record.history_date, seconds=True)
        for name in restorable():
            setattr(bot, name, getattr(record, name))
        try:
            bot.full_clean()
        except ValidationError as error:
            problems = [f"{label_of(name)}: {' '.join(errors)}" for name, errors in error.message_dict.items()]
            return self.confirmation(self.bot_to_change(object_id), record, problems)
        bot._change_reason = f"Restored as of {when}."
        bot.save()
        self.model_admin.log_change(request, bot, f"Restored as of {when}.")
        messages.success(request, _("The version of %(time)s was restored.") % {"time": when})
        return HttpResponseRedirect(reverse("admin:chatbots_chatbot_history", args=[bot.pk]))

    def confirmation(self, bot: Chatbot, record: Any, problems: Sequence[str]) -> HttpResponse:
        when = moment(record.history_date, seconds=True)
        changes = changes_between(bot, record, restorable())
        context = {"object": bot, "when": when, "changes": changes, "problems": problems}
        return self.page("restore", _("Restore the version of %(time)s") % {"time": when}, context)


def version_asked(request: HttpRequest, bot: Chatbot) -> Any:
    """Return the version whose id is in the query. Raise Http404 if it does not exist."""
    version = request.GET.get("version", "")
    records = bot.history.filter(history_id=version) if version.isdecimal() else bot.history.none()
    record = records.exclude(history_type="-").first()
    if record is None:
        raise Http404
    return record


def restorable() -> list[str]:
    """Return all settings but the status, because restoring must not publish a draft."""
    return [name for name in SETTINGS if name != "status"]


def versions(records: Iterable[Any], bot: Chatbot) -> list[Version]:
    """Return the versions, newest first, each with the differences from the record before it."""
    rows = list(records)
    shown = [Version(row, changes_between(earlier, row, SETTINGS)) for row, earlier in pairwise(rows)]
    shown += [Version(row) for row in rows[-1:]]
    for version in shown:
        version.differs = version.record.history_type != "-" and bool(different(bot, version.record, restorable()))
    return shown


def different(one: Any, other: Any, names: Iterable[str]) -> list[str]:
    """Return the names of the settings with different values, in the order of the form."""
    form: Any = LAYOUT
    ordered = [name for name in flatten_fieldsets(form) if name in names]
    return [name for name in ordered if getattr(one, name) != getattr(other, name)]


def changes_between(old: Any, new: Any, names: Iterable[str]) -> list[Change]:
    return [
        Change(label_of(name), list(difference(value_text(old, name), value_text(new, name))))
        for name in different(old, new, names)
    ]


def label_of(name: str) -> str:
    """Return the setting's label in the form."""
    form_field = ChatbotForm.base_fields.get(name)
    setting: Any = Chatbot._meta.get_field(name)
    return str((form_field and form_field.label) or capfirst(setting.verbose_name))


def value_text(row: Any, name: str) -> str:
    value = getattr(row, name)
    setting: Any = Chatbot._meta.get_field(name)
    choices = dict(setting.flatchoices)
    if value in (None, "", []):
        return ""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return str(choices.get(value, value))


def difference(old: str, new: str) -> Iterator[Part]:
    """Yield the deleted, new and unchanged words in their order, with long unchanged parts shortened."""
    before, after = words_of(old), words_of(new)
    if len(before) + len(after) > MAX_WORDS or len(before) < 2 or len(after) < 2:
        yield Part("gone", old or _("empty"))
        yield Part("new", new or _("empty"))
        return
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    blocks = matcher.get_opcodes()
    for number, (kind, start, end, new_start, new_end) in enumerate(blocks):
        if kind == "equal":
            yield Part("same", shortened(before[start:end], is_first=number == 0, is_last=number == len(blocks) - 1))
            continue
        if start < end:
            yield Part("gone", "".join(before[start:end]))
        if new_start < new_end:
            yield Part("new", "".join(after[new_start:new_end]))


def words_of(text: str) -> list[str]:
    """Return the words with the white space after each, so that joining them gives the text again."""
    return re.findall(r"\S+\s*|^\s+", text)


def shortened(words: Sequence[str], *, is_first: bool, is_last: bool) -> str:
    """Join unchanged words, and leave out those far from a change."""
    if is_first and len(words) > CONTEXT:
        return "… " + "".join(words[-CONTEXT:])
    if is_last and len(words) > CONTEXT:
        return "".join(words[:CONTEXT]) + "…"
    if len(words) > 2 * CONTEXT:
        return "".join(words[:CONTEXT]) + "… " + "".join(words[-CONTEXT:])
    return "".join(words)
