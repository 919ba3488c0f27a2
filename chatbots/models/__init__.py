"""Chatbots, their settings, and records about their visitors."""

from chatbots.models.allowances import Consent, MessageCount, SignedOutVisitor, TokenAllowance, UsedIdentity
from chatbots.models.chatbot import KNOWLEDGE_UNAVAILABLE, REFUSAL, Chatbot
from chatbots.models.golden import GoldenQuestion, GoldenResult, GoldenRun
from chatbots.models.live_bots import live_bots
from chatbots.models.questions import QuestionEmbedding, SettledQuestion

__all__ = [
    "KNOWLEDGE_UNAVAILABLE",
    "REFUSAL",
    "Chatbot",
    "Consent",
    "GoldenQuestion",
    "GoldenResult",
    "GoldenRun",
    "MessageCount",
    "QuestionEmbedding",
    "SettledQuestion",
    "SignedOutVisitor",
    "TokenAllowance",
    "UsedIdentity",
    "live_bots",
]
