"""Unanswered questions: those that were dealt with, and the cached embeddings that group similar ones."""

from django.conf import settings
from django.db import models

from chatbots.models.chatbot import Chatbot


class SettledQuestion(models.Model):
    """An unanswered question that is off the list: answered (until it fails again) or dismissed (for good).

    It stores a digest only, so that a visitor's words are deleted together with the log.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, help_text="Made by quality.unanswered.digest_of().")
    document_id = models.CharField(
        max_length=100, blank=True, help_text="The document that answers it; empty if it was dismissed."
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settled_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "digest"], name="unique_settled_question")]

    def __str__(self) -> str:
        return self.digest


class QuestionEmbedding(models.Model):
    """The cached vector of a question, so that each question is embedded once and not at every page view."""

    provider = models.CharField(max_length=20)
    model = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="Made by quality.unanswered.digest_of().")
    values = models.BinaryField(help_text="float32, little-endian.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "model", "digest"], name="unique_question_embedding")
        ]

    def __str__(self) -> str:
        return self.digest
