"""The page that imports chatbots from a JSON file."""

from collections.abc import Sequence

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from chatbots.admin.forms import ImportForm
from chatbots.admin.page import ChatbotPage
from chatbots.lifecycle.serializers import ImportRefused, import_chatbots

MAX_PROBLEMS = 50  # shown of a file that is refused


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
            messages.success(request, f"The file is valid. Chatbots it would add: {len(done.bots)}.")
            return HttpResponseRedirect(request.path)
        for bot in done.bots:
            self.model_admin.log_addition(request, bot, "Imported.")
        messages.success(request, f"Chatbots imported: {len(done.bots)}.")
        return HttpResponseRedirect(reverse("admin:chatbots_chatbot_changelist"))

    def form_page(self, form: ImportForm, problems: Sequence[str] = ()) -> HttpResponse:
        context = {
            "form": form,
            "problems": problems[:MAX_PROBLEMS],
            "more_problems": max(len(problems) - MAX_PROBLEMS, 0),
        }
        return self.page("import", "Import chatbots", context)
