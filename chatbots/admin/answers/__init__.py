"""Answers in the admin: the questions that got none, and the page that corrects one."""

from chatbots.admin.answers.correct import AnswerPage
from chatbots.admin.answers.unanswered import UnansweredOverviewPage, UnansweredPage, may_answer

__all__ = ["AnswerPage", "UnansweredOverviewPage", "UnansweredPage", "may_answer"]
