from django.urls import path

from logs.views import LogsView

urlpatterns = [path("logs", LogsView.as_view())]
