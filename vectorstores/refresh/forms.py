"""The form that adds a source."""

from typing import Any
from urllib.parse import urldefrag, urlsplit

from django import forms
from django.conf import settings
from django.contrib.admin.options import VERTICAL
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget

from puffer.text import storable
from vectorstores.extraction import Unreadable
from vectorstores.models import Source
from vectorstores.refresh.listing import folder_at
from vectorstores.refresh.models import MAX_ADDRESS
from vectorstores.uploads.destination_form import DestinationForm

Kind = Source.Kind


class SourceForm(DestinationForm, forms.ModelForm):
    """A new source and its collection."""

    kind = forms.ChoiceField(
        label=gettext_lazy("Kind"),
        initial=Kind.SITE,
        widget=UnfoldAdminRadioSelectWidget(VERTICAL),
        choices=Kind.choices,
    )
    address = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=MAX_ADDRESS,
        help_text=gettext_lazy(
            "Such as https://www.example.com/help/. Of a website, the pages below the address are read: those in its "
            "sitemap, or otherwise those that its links lead to. Of a folder, enter the path below SOURCES_FOLDER."
        ),
        widget=UnfoldAdminTextInputWidget,
    )

    class Meta:
        model = Source
        fields = ["kind", "address", "schedule", "max_pages", "max_depth"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        kinds = [
            (Kind.SITE, _("Website")),
            (Kind.PAGE, _("Web page or file")),
            (Kind.FEED, _("Feed (RSS or Atom)")),
        ]
        if settings.SOURCES_FOLDER:
            kinds.append((Kind.FOLDER, _("Folder on the server")))
        self.fields["kind"].choices = kinds  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        kind, address = cleaned.get("kind"), cleaned.get("address", "")
        try:
            if kind and address:
                cleaned["address"] = folder_address(address) if kind == Kind.FOLDER else web_address(address)
        except ValidationError as error:
            self.add_error("address", error)
        if not self.errors:
            self.refuse_repetition(cleaned["address"])
        return cleaned

    def refuse_repetition(self, address: str) -> None:
        place = self.destination
        known = Source.objects.into(place.store, place.target).filter(namespace=place.namespace, address=address)
        if known.exists():
            self.add_error("address", _("This address is a source of the collection already."))


def web_address(address: str) -> str:
    """Return the URL without its fragment. A missing scheme is https. Raise ValidationError."""
    address = storable(address).strip()
    address = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme.lower() in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or len(address.split()) != 1:
        raise ValidationError(_("Enter a valid web address, such as https://www.example.com/help/."))
    if parts.username or parts.password:
        raise ValidationError(_("Addresses with a user name or password are not supported."))
    return urldefrag(address)[0]


def folder_address(name: str) -> str:
    try:
        folder_at(storable(name).strip("/"))
    except Unreadable as error:
        raise ValidationError(str(error)) from None
    return storable(name).strip("/")
