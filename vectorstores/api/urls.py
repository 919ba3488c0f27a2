from django.urls import path

from vectorstores.api.views import UpsertView

urlpatterns = [path("vector-stores/upsert", UpsertView.as_view())]
