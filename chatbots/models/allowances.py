"""Records about the widget's visitors: quotas, message counts, used identities and consents."""

from django.db import models

from chatbots.models.chatbot import Chatbot


class TokenAllowance(models.Model):
    """A token quota for one period: the tokens used so far, those reserved by running turns included.

    It is a visitor's, that of a network of guests, or that of all visitors.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    visitor = models.CharField(max_length=80, help_text="Visitor.key, limits.network_key() or limits.ALL_VISITORS.")
    period_start = models.DateTimeField()
    used = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "visitor"], name="unique_token_allowance")]

    def __str__(self) -> str:
        return self.visitor


class MessageCount(models.Model):
    """The number of messages in a time window, of one visitor, one IP address, or all visitors of a chatbot."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=80, help_text="Visitor.key, counters.network_of() or limits.ALL_VISITORS.")
    window = models.BigIntegerField(help_text="When the window began, in Unix seconds.")
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "subject", "window"], name="unique_message_count")]
        indexes = [models.Index(fields=["window"])]

    def __str__(self) -> str:
        return self.subject


class UsedIdentity(models.Model):
    """The digest of a signed identity that was used, so that the signature cannot be replayed."""

    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest


class SignedOutVisitor(models.Model):
    """A visitor whose sessions with an identity signed until then have ended. Useless once those are too old anyway."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    visitor = models.CharField(max_length=80, help_text="Visitor.key.")
    signed_out_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "visitor"], name="unique_signed_out_visitor")]

    def __str__(self) -> str:
        return self.visitor


class Consent(models.Model):
    """A visitor's agreement to a chatbot's consent text, kept as proof."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="consents")
    visitor = models.CharField(max_length=80, help_text="Visitor.key.")
    text_digest = models.CharField(max_length=64, help_text="SHA-256 of the title and message that were agreed to.")
    given_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "visitor", "text_digest"], name="unique_consent")]

    def __str__(self) -> str:
        return self.visitor
