"""The page that imports chatbots from a JSON file."""

from collections.abc import Sequence

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatbots.admin.forms import ImportForm
from chatbots.admin.page import ChatbotPage
from chatbots.lifecycle.serializers import ImportRefused, import_chatbots

MAX_PROBLEMS = 50  # shown on the page


class ImportPage(ChatbotPage):
    def get(self, request: HttpRequest) -> HttpResponse:
        return self.form_page(ImportForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = ImportForm(request.POST, request.FILES)
        if not form.is_valid():
            return self.form_page(form)
        dry_run = form.cleaned_data["dry_run"]
        try:
            done = import_chatbots(form.cleaned_data["file"], dry_run=dry_run)
        except ImportRefused as refused:
            return self.form_page(form, refused.problems)
        for notice in done.notices:
            messages.warning(request, notice)
        if dry_run:
            text = ngettext(
                "The file is valid. It would add %(count)d chatbot.",
                "The file is valid. It would add %(count)d chatbots.",
                len(done.bots),
            )
            messages.success(request, text % {"count": len(done.bots)})
            return HttpResponseRedirect(request.path)
        for bot in done.bots:
            self.model_admin.log_addition(request, bot, "Imported.")
        text = ngettext("%(count)d chatbot was imported.", "%(count)d chatbots were imported.", len(done.bots))
        messages.success(request, text % {"count": len(done.bots)})
        return HttpResponseRedirect(reverse("admin:chatbots_chatbot_changelist"))

    def form_page(self, form: ImportForm, problems: Sequence[str] = ()) -> HttpResponse:
        context = {
            "form": form,
            "problems": problems[:MAX_PROBLEMS],
            "more_problems": max(len(problems) - MAX_PROBLEMS, 0),
        }
        return self.page("import", _("Import chatbots"), context)
