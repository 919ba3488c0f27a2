from django.urls import path

from logs.api.views import LogsView

urlpatterns = [path("logs", LogsView.as_view())]
