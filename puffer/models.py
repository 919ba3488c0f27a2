"""API keys. Other models are in puffer/security and puffer/idempotency."""

import hashlib
import secrets
import zlib
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from puffer.idempotency.models import IdempotentCall  # noqa: F401 - Django looks for models here
from puffer.runtime.live_cache import LiveModel
from puffer.security.admin_sessions import Session  # noqa: F401
from puffer.security.authenticator import AuthenticatorApp, RecoveryCode  # noqa: F401

KEY_PREFIX = "puf_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH = 43  # 62 ** 43 is just over 2 ** 256
CHECKSUM_LENGTH = 6  # 62 ** 6 is over 2 ** 32


class Scope(models.TextChoices):
    """A permission of an API key."""

    GENERATE = "generate", _("generate text")
    IMAGES = "images", _("generate images")
    EMBEDDINGS = "embeddings", _("create embeddings")
    CHAT = "chat", _("talk to chatbots")
    LOGS = "logs", _("read conversations")
    VECTORS = "vectors", _("upsert vectors")


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _position in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def new_key() -> str:
    """Return a random 256-bit key with its checksum: puf_ and 49 letters and digits."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return KEY_PREFIX + random + _checksum(random)


def is_well_formed(key: str) -> bool:
    """Return whether the checksum fits, so that a mistyped key is rejected without a query."""
    random, checksum = key[len(KEY_PREFIX) : -CHECKSUM_LENGTH], key[-CHECKSUM_LENGTH:]
    return key.startswith(KEY_PREFIX) and len(random) == RANDOM_LENGTH and _checksum(random) == checksum


def digest(key: str) -> str:
    """Return the SHA-256 in hex. A slow hash adds nothing to 256 random bits, and anyone could make it use CPU time."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def validate_scopes(scopes: Any) -> None:
    if not isinstance(scopes, list) or not scopes or not set(scopes) <= set(Scope.values):
        raise ValidationError(gettext("Choose at least one of %(scopes)s.") % {"scopes": ", ".join(Scope.values)})


def validate_models(entries: Any) -> None:
    """Refuse a list of models unless each entry is a provider, such as openai, or provider/model."""
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValidationError(gettext("Enter a list of texts such as openai/gpt-4o-mini."))
    for entry in entries:
        provider, slash, model = entry.partition("/")
        if provider not in settings.PROVIDER_ENVIRONMENT or (slash and not model.strip()):
            raise ValidationError(
                gettext("“%(entry)s” is not a model. Enter provider/model or a provider, one of %(providers)s.")
                % {"entry": entry[:100], "providers": ", ".join(settings.PROVIDER_ENVIRONMENT)}
            )


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self) -> "ApiKeyQuerySet":
        return self.filter(revoked_at=None).exclude(expires_on__lt=timezone.localdate())


class ApiKey(LiveModel):
    """A key for the API. Only its digest is stored."""

    name = models.CharField(_("name"), max_length=100, unique=True, help_text=_("Who uses the key, or what for."))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    ending = models.CharField(max_length=4, editable=False, help_text=_("The last characters, to tell keys apart."))
    scopes = models.JSONField(
        _("scopes"), default=list, validators=[validate_scopes], help_text=_("What the key may do.")
    )
    # A separate flag: if an empty list meant "all chatbots", deleting the last one would allow all others.
    is_bound = models.BooleanField(
        _("only some chatbots"), default=False, help_text=_("The key may use only the chatbots below.")
    )
    chatbots = models.ManyToManyField("chatbots.Chatbot", blank=True, verbose_name=_("chatbots"))
    allowed_models = models.JSONField(
        _("models"),
        default=list,
        db_default=[],
        blank=True,
        validators=[validate_models],
    )
    expires_on = models.DateField(
        _("expires on"),
        null=True,
        blank=True,
        help_text=_("The last day on which the key works. Leave empty for no end."),
    )
    last_used_on = models.DateField(_("last used on"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def issue(self) -> str:
        """Save with a new key and return it. Only the digest is stored, so the key cannot be shown again."""
        key = new_key()
        self.digest, self.ending = digest(key), key[-4:]
        self.save()
        return key

    def revoke(self) -> None:
        """Revoke the key for good, in every worker process."""
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and (self.expires_on is None or self.expires_on >= timezone.localdate())
