from django.urls import path

from chatbots.views import ChatMessageView

urlpatterns = [path("chat/<int:bot_id>/message", ChatMessageView.as_view())]
