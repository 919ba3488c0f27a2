"""The saved settings of rerankers."""

from collections.abc import Mapping

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from logs.usage import PROVIDER_NAMES
from puffer.net import validate_base_url
from puffer.runtime import LiveModel
from puffer.security import EncryptedTextField

MAX_NAME = 20  # characters, as many as a usage record has for a provider


def validate_name(name: str) -> None:
    """Refuse the names of providers, because usage records and prices name rerankers in their place."""
    if name.lower() in {text.lower() for names in PROVIDER_NAMES.items() for text in names}:
        raise ValidationError(_("This is the name of a provider. Enter another name."))


class Reranker(LiveModel):
    """An outside model that orders the passages of a search. Chatbots refer to it by its name."""

    class Protocol(models.TextChoices):
        COMMON = "common", _("Cohere, Jina, vLLM and most others")
        VOYAGE = "voyage", "Voyage AI"
        TEI = "tei", "Text Embeddings Inference (TEI)"

    name = models.CharField(
        _("name"), max_length=MAX_NAME, unique=True, validators=[validate_name],
        help_text=_("Chatbots and usage records refer to it by this name, which cannot be changed later."),
    )  # fmt: skip
    protocol = models.CharField(
        _("protocol"), max_length=10, choices=Protocol.choices, default=Protocol.COMMON,
        help_text=_("The server's names of a call's parameters."),
    )  # fmt: skip
    base_url = models.CharField(
        _("base URL"), max_length=300, validators=[validate_base_url],
        help_text=_("The address before /rerank, such as https://api.cohere.com/v2 or http://127.0.0.1:8080."),
    )  # fmt: skip
    api_key = EncryptedTextField(_("API key"), blank=True)
    model = models.CharField(
        _("model"), max_length=200, blank=True,
        help_text=_("The id of a model, such as rerank-v3.5. Leave empty for a server that has only one."),
    )  # fmt: skip
    milliseconds = models.PositiveIntegerField(
        _("time limit"), default=300, validators=[MinValueValidator(50), MaxValueValidator(5000)],
        help_text=_("In milliseconds. After this time the passages keep the order of the search."),
    )  # fmt: skip
    price = models.DecimalField(
        _("price"), max_digits=10, decimal_places=4, null=True, blank=True, validators=[MinValueValidator(0)],
        help_text=_(
            "US$ per 1,000 searches; 0 for a server of your own. Leave empty if tokens are billed, and enter the price"
            " of a token under “Model prices”, with the name above as the provider."
        ),
    )  # fmt: skip

    class Meta:
        verbose_name = _("reranker")
        verbose_name_plural = _("rerankers")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def environment(self) -> Mapping[str, str]:
        """Return {}: environment variables configure no rerankers."""
        return {}
