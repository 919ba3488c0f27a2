"""Where a chatbot may be used, how much, and by whom: settings of a chatbot, in a file of their own."""

import secrets
from ipaddress import ip_network
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from chatbots.guards.origins import InvalidOrigin, read_pattern
from puffer.security import EncryptedTextField

MAX_DOMAINS = 500


def new_identity_secret() -> str:
    return secrets.token_urlsafe(32)


def validate_domains(value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_DOMAINS:
        raise ValidationError(f"It must be a list of at most {MAX_DOMAINS} domains.")
    for entry in value:
        try:
            read_pattern(entry)
        except InvalidOrigin as error:
            raise ValidationError(f"{str(entry)[:100]!r} {error}") from None


def validate_networks(value: Any) -> None:
    if not isinstance(value, list):
        raise ValidationError("It must be a list of addresses and networks.")
    for entry in value:
        try:
            ip_network(entry if isinstance(entry, str) else "", strict=False)
        except ValueError:
            raise ValidationError(f"{str(entry)[:100]!r} is no IP address and no network such as 10.0.0.0/8.") from None


class LimitSettings(models.Model):
    """Of the widget alone: callers of the API have keys of their own. Empty limits: none."""

    class ResetPeriod(models.TextChoices):
        NEVER = "never", "never"
        DAILY = "daily", "every day"
        WEEKLY = "weekly", "every week"
        MONTHLY = "monthly", "every month"

    embed_allowed_domains = models.JSONField(
        "allowed domains", default=list, blank=True, validators=[validate_domains],
        help_text="Where the widget works, one on each line: example.com, *.example.com, https://example.com:8443.",
    )  # fmt: skip
    embed_allow_any_domain = models.BooleanField(
        "any site may embed it", default=False, help_text="Without this tick an empty list means: nowhere."
    )
    enable_chat_page = models.BooleanField(
        "page of its own", default=False, help_text="A page of this server with the chat alone, for a link or a frame."
    )
    is_paused = models.BooleanField("paused", default=False, help_text="The widget says only the text below.")
    paused_message = models.CharField(max_length=500, default="The chat is taking a break. Please come back later.")

    token_guest_limit = models.PositiveIntegerField(
        "tokens for guests", null=True, blank=True, help_text="Per visitor and period. 0: guests may not chat."
    )
    token_user_limit = models.PositiveIntegerField(
        "tokens for identified visitors", null=True, blank=True, help_text="Per visitor and period."
    )
    token_reset_period = models.CharField(
        "period", max_length=10, choices=ResetPeriod.choices, default=ResetPeriod.NEVER
    )
    token_limit_message = models.CharField(
        "quota text", max_length=500, default="You have reached your quota for this period."
    )
    messages_per_minute = models.PositiveIntegerField(
        null=True, blank=True, default=10, validators=[MinValueValidator(1)], help_text="Of one visitor."
    )
    messages_per_minute_per_address = models.PositiveIntegerField(
        null=True, blank=True, default=30, validators=[MinValueValidator(1)],
        help_text="Of one IP address, or of one IPv6 network of 64 bits.",
    )  # fmt: skip
    messages_per_day = models.PositiveIntegerField(
        null=True, blank=True, default=2000, validators=[MinValueValidator(1)], help_text="Of all visitors together."
    )
    rate_limit_message = models.CharField(max_length=500, default="That was too many messages. Please wait a moment.")

    banned_words = models.TextField(blank=True, help_text="Words or phrases, separated by commas or lines.")
    banned_words_message = models.CharField(
        max_length=500, default="Sorry, your message could not be sent as it contains prohibited words."
    )
    banned_ips = models.JSONField(
        "banned addresses", default=list, blank=True, validators=[validate_networks],
        help_text="IP addresses and networks such as 10.0.0.0/8, one on each line.",
    )  # fmt: skip
    banned_ips_message = models.CharField(max_length=500, default="Access from your IP address has been blocked.")
    openai_moderation_enabled = models.BooleanField(
        "OpenAI moderation", default=False, help_text="Every question is shown to OpenAI first; it costs nothing."
    )
    openai_moderation_message = models.CharField(
        max_length=500, default="Your message was flagged by the moderation system and could not be sent."
    )

    enable_consent_compliance = models.BooleanField(
        "ask for consent", default=False, help_text="Nobody can chat before having agreed."
    )
    consent_title = models.CharField(max_length=200, blank=True)
    consent_message = models.TextField(max_length=2000, blank=True)
    consent_button = models.CharField(max_length=100, blank=True)
    identity_secret = EncryptedTextField(
        editable=False, default=new_identity_secret, help_text="Your server signs its users' ids with it."
    )

    class Meta:
        abstract = True
