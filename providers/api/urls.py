from django.urls import path

from providers.api.views import EmbeddingsView, GenerateView, ImagesView

urlpatterns = [
    path("generate", GenerateView.as_view()),
    path("images/generate", ImagesView.as_view()),
    path("embeddings", EmbeddingsView.as_view()),
]
