"""Chatbots, their settings, and records about their visitors."""

from chatbots.models.allowances import Consent, MessageCount, SignedOutVisitor, TokenAllowance, UsedIdentity
from chatbots.models.chatbot import KNOWLEDGE_UNAVAILABLE, REFUSAL, Chatbot
from chatbots.models.golden import GoldenQuestion, GoldenResult, GoldenRun
from chatbots.models.live_bots import live_bots
from chatbots.models.questions import QuestionEmbedding, SettledQuestion
from chatbots.models.verdict import Change, Criterion, Outcome, Verdict

__all__ = [
    "KNOWLEDGE_UNAVAILABLE",
    "REFUSAL",
    "Change",
    "Chatbot",
    "Consent",
    "Criterion",
    "GoldenQuestion",
    "GoldenResult",
    "GoldenRun",
    "MessageCount",
    "Outcome",
    "QuestionEmbedding",
    "SettledQuestion",
    "SignedOutVisitor",
    "TokenAllowance",
    "UsedIdentity",
    "Verdict",
    "live_bots",
]
