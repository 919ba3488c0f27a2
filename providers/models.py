"""The saved settings of each provider. Empty fields fall back to the environment and the vendor's defaults."""

from collections.abc import Mapping

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from puffer.net import validate_base_url
from puffer.runtime import LiveModel
from puffer.security import EncryptedTextField


class ProviderConfig(LiveModel):
    """The settings of one provider."""

    slug = models.CharField(max_length=20, unique=True, editable=False)
    api_key = EncryptedTextField(_("API key"), blank=True)
    base_url = models.CharField(
        _("base URL"),
        max_length=300,
        blank=True,
        validators=[validate_base_url],
        help_text=_("Change this only for a proxy or a compatible server. Leave empty for the provider's address."),
    )
    api_version = models.CharField(
        _("API version"), max_length=40, blank=True, help_text=_("Azure only, such as 2025-01-01-preview.")
    )
    image_api_version = models.CharField(
        _("API version for images"), max_length=40, blank=True, help_text=_("Azure only.")
    )
    default_model = models.CharField(
        _("default model"), max_length=200, blank=True, help_text=_("For chatbots that name no model.")
    )
    default_image_model = models.CharField(_("default image model"), max_length=200, blank=True)
    default_embedding_model = models.CharField(_("default embedding model"), max_length=200, blank=True)
    context_length = models.PositiveIntegerField(
        _("context length"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1024), MaxValueValidator(10_000_000)],
        help_text=_(
            "Ollama only: the tokens that a model reads and writes in one call. More tokens need more memory. "
            "Leave empty to use OLLAMA_CONTEXT_LENGTH, which is 8192 by default."
        ),
    )
    known_models = models.JSONField(default=list, editable=False, help_text="The ids of the account's models.")
    known_models_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("provider")
        verbose_name_plural = _("providers")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.slug

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the values of environment variables, which apply where nothing is saved."""
        return settings.PROVIDER_ENVIRONMENT.get(self.slug, {})

    @property
    def context_length_in_use(self) -> int:
        return self.context_length or int(settings.OLLAMA_CONTEXT_LENGTH)
