from django.urls import path

from chatbots.api.chat import ChatMessageView
from chatbots.api.widget import (
    ConsentView,
    ConversationsView,
    EmbedConfigView,
    FeedbackView,
    HistoryView,
    SessionView,
    StreamView,
)

urlpatterns = [
    path("chat/<int:bot_id>/message", ChatMessageView.as_view()),
    path("chatbots/<int:bot_id>/embed-config", EmbedConfigView.as_view()),
    path("chatbots/<int:bot_id>/session", SessionView.as_view()),
    path("chatbots/<int:bot_id>/consent", ConsentView.as_view()),
    path("chatbots/<int:bot_id>/stream", StreamView.as_view()),
    path("chatbots/<int:bot_id>/history", HistoryView.as_view()),
    path("chatbots/<int:bot_id>/conversations", ConversationsView.as_view()),
    path("chatbots/<int:bot_id>/feedback", FeedbackView.as_view()),
]
