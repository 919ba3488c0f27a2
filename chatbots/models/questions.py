"""TODO docstring."""

from django.conf import settings
from django.db import models

from chatbots.models.chatbot import Chatbot


class SettledQuestion(models.Model):
    """A question that is off the list of the unanswered ones: answered until it fails again, or dismissed for good.

    Only its digest is here: what visitors wrote stands in the log and goes with it.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, help_text="As unanswered.py makes it.")
    document_id = models.CharField(max_length=100, blank=True, help_text="What answers it. Empty: it was dismissed.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settled_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "digest"], name="a_question_is_settled_once")]

    def __str__(self) -> str:
        return self.digest


class QuestionEmbedding(models.Model):
    """The vector of a question, so that comparing it with others costs one embedding and not one for every look."""

    provider = models.CharField(max_length=20)
    model = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="As unanswered.py makes it.")
    values = models.BinaryField(help_text="float32, little-endian.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "model", "digest"], name="one_embedding_of_a_question")
        ]

    def __str__(self) -> str:
        return self.digest
