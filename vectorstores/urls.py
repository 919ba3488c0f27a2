from django.urls import path

from vectorstores.views import UpsertView

urlpatterns = [path("vector-stores/upsert", UpsertView.as_view())]
