"""A chatbot's limit settings: on which sites its widget works, and how much each visitor may use."""

import secrets
from ipaddress import ip_network
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from chatbots.guards.origins import InvalidOrigin, read_pattern
from puffer.security import EncryptedTextField

MAX_DOMAINS = 500
MODERATION_UNAVAILABLE = "Your message could not be checked right now. Please try again in a little while."


def new_identity_secret() -> str:
    return secrets.token_urlsafe(32)


def validate_domains(value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_DOMAINS:
        raise ValidationError(_("Enter a list of at most %(limit)d domains."), params={"limit": MAX_DOMAINS})
    for entry in value:
        try:
            read_pattern(entry)
        except InvalidOrigin as error:
            raise ValidationError(f"“{str(entry)[:100]}” {error}") from None


def validate_networks(value: Any) -> None:
    if not isinstance(value, list):
        raise ValidationError(_("Enter a list of IP addresses and networks."))
    for entry in value:
        try:
            ip_network(entry if isinstance(entry, str) else "", strict=False)
        except ValueError:
            raise ValidationError(
                _("“%(entry)s” is not a valid IP address or network. Enter one such as 10.0.0.0/8."),
                params={"entry": str(entry)[:100]},
            ) from None


class LimitSettings(models.Model):
    """A chatbot's allowed sites, quotas, rate limits, moderation and consent.

    They apply to the widget only: callers of the API have limits of their own key. A limit of None does not apply.
    """

    class ResetPeriod(models.TextChoices):
        NEVER = "never", _("Never")
        DAILY = "daily", _("Every day")
        WEEKLY = "weekly", _("Every week")
        MONTHLY = "monthly", _("Every month")

    embed_allowed_domains = models.JSONField(
        _("allowed domains"), default=list, blank=True, validators=[validate_domains],
        help_text=_("One per line: example.com, *.example.com, https://example.com:8443."),
    )  # fmt: skip
    embed_allow_any_domain = models.BooleanField(
        _("allow any site"), default=False,
        help_text=_(
            "Any website can show the widget, and you pay for its use. When off, only the allowed domains can; with an"
            " empty list, none can."
        ),
    )  # fmt: skip
    enable_chat_page = models.BooleanField(
        _("standalone page"), default=False,
        help_text=_("A page on this server that contains only the chat, to link to or to show in a frame."),
    )  # fmt: skip
    is_paused = models.BooleanField(
        _("paused"), default=False, help_text=_("The widget answers every message with the text below.")
    )
    paused_message = models.CharField(
        _("paused text"), max_length=500, default="The chat is taking a break. Please come back later."
    )

    token_guest_limit = models.PositiveIntegerField(
        _("tokens for guests"), null=True, blank=True,
        help_text=_(
            "Per visitor and period; ten times as many for all guests of an IP address. 0: guests cannot chat. Leave"
            " empty for no limit."
        ),
    )  # fmt: skip
    token_user_limit = models.PositiveIntegerField(
        _("tokens for identified visitors"), null=True, blank=True,
        help_text=_("Per visitor and period. 0: identified visitors cannot chat. Leave empty for no limit."),
    )  # fmt: skip
    token_reset_period = models.CharField(
        _("quota resets"), max_length=10, choices=ResetPeriod.choices, default=ResetPeriod.NEVER,
        help_text=_("Usage resets after this period."),
    )  # fmt: skip
    token_limit_message = models.CharField(
        _("quota text"), max_length=500, default="You have reached your quota for this period.",
        help_text=_("Shown when a visitor has used up their limit."),
    )  # fmt: skip
    messages_per_minute = models.PositiveIntegerField(
        _("messages per minute"), null=True, blank=True, default=10, validators=[MinValueValidator(1)],
        help_text=_("Per visitor. Leave empty for no limit."),
    )  # fmt: skip
    messages_per_minute_per_address = models.PositiveIntegerField(
        _("messages per minute per IP address"), null=True, blank=True, default=30, validators=[MinValueValidator(1)],
        help_text=_("IPv6 addresses count per /64 network. Leave empty for no limit."),
    )  # fmt: skip
    messages_per_day = models.PositiveIntegerField(
        _("messages per day"), null=True, blank=True, default=2000, validators=[MinValueValidator(1)],
        help_text=_("All visitors together. Leave empty for no limit."),
    )  # fmt: skip
    tokens_per_day = models.PositiveIntegerField(
        _("tokens per day"), null=True, blank=True, validators=[MinValueValidator(1)],
        help_text=_("All visitors together: what a day can cost at most. Leave empty for no limit."),
    )  # fmt: skip
    rate_limit_message = models.CharField(
        _("rate limit text"), max_length=500, default="That was too many messages. Please wait a moment.",
        help_text=_("Shown when a visitor sends too many messages."),
    )  # fmt: skip

    banned_words = models.TextField(
        _("banned words"), blank=True, help_text=_("Words or phrases, separated by commas or line breaks.")
    )
    banned_words_message = models.CharField(
        _("reply to banned words"), max_length=500,
        default="Sorry, your message could not be sent as it contains prohibited words.",
    )  # fmt: skip
    banned_ips = models.JSONField(
        _("banned IP addresses"), default=list, blank=True, validators=[validate_networks],
        help_text=_("IP addresses and networks such as 10.0.0.0/8, one per line."),
    )  # fmt: skip
    banned_ips_message = models.CharField(
        _("reply to banned IP addresses"), max_length=500, default="Access from your IP address has been blocked."
    )
    openai_moderation_enabled = models.BooleanField(
        _("OpenAI moderation"), default=False,
        help_text=_("Send each question to OpenAI's moderation first. OpenAI does not charge for it."),
    )  # fmt: skip
    openai_moderation_message = models.CharField(
        _("reply to flagged messages"), max_length=500,
        default="Your message was flagged by the moderation system and could not be sent.",
    )  # fmt: skip
    openai_moderation_required = models.BooleanField(
        _("block when moderation is unavailable"), default=False, db_default=False,
        help_text=_(
            "If OpenAI cannot be asked, reply with the text below instead of answering. When off, such questions are"
            " answered without moderation."
        ),
    )  # fmt: skip
    moderation_unavailable_message = models.CharField(
        _("moderation unavailable text"), max_length=500,
        default=MODERATION_UNAVAILABLE, db_default=MODERATION_UNAVAILABLE,
    )  # fmt: skip

    enable_consent_compliance = models.BooleanField(
        _("ask for consent"), default=False,
        help_text=_(
            "Visitors must agree to the text below before they can chat. If you change its title or message, everyone"
            " is asked again."
        ),
    )  # fmt: skip
    consent_title = models.CharField(
        _("consent title"), max_length=200, blank=True, help_text=_("Leave empty for the default.")
    )
    consent_message = models.TextField(
        _("consent message"), max_length=2000, blank=True,
        help_text=_("Say what happens with the visitor's data: the default text cannot know it."),
    )  # fmt: skip
    consent_button = models.CharField(
        _("consent button"), max_length=100, blank=True, help_text=_("Leave empty for the default.")
    )
    identity_secret = EncryptedTextField(
        _("identity secret"), editable=False, default=new_identity_secret,
        help_text=_("Your server signs the ids of its users with this secret."),
    )  # fmt: skip

    class Meta:
        abstract = True
