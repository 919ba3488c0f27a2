"""TODO docstring."""

from django.db import models

from chatbots.models.chatbot import Chatbot


class TokenAllowance(models.Model):
    """What a visitor has used of a chatbot's quota in the current period, reserved tokens of running turns included."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    visitor = models.CharField(max_length=80, help_text="As limits.py names them.")
    period_start = models.DateTimeField()
    used = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "visitor"], name="one_allowance_of_a_visitor")]

    def __str__(self) -> str:
        return self.visitor


class MessageCount(models.Model):
    """How many messages were sent in a window of time, by a visitor, from an address, or to a chatbot at all."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    counted = models.CharField(max_length=80, help_text="Whose messages, as limits.py names them.")
    window = models.BigIntegerField(help_text="When it began, in Unix seconds.")
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "counted", "window"], name="one_count_of_a_window")]
        indexes = [models.Index(fields=["window"])]

    def __str__(self) -> str:
        return self.counted


class UsedIdentity(models.Model):
    """A signed identity that was taken once and is never taken again."""

    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest


class Consent(models.Model):
    """That a visitor has agreed, for whoever has to show it."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="consents")
    visitor = models.CharField(max_length=80)
    text_digest = models.CharField(max_length=64, help_text="SHA-256 of the title and message that were agreed to.")
    given_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chatbot", "visitor", "text_digest"], name="one_consent_to_a_text")
        ]

    def __str__(self) -> str:
        return self.visitor
