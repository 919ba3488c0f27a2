"""The use cases of providers: completions, embeddings and images."""

from providers.use_cases.completions import read_sampling
from providers.use_cases.embeddings import embed, known_dimension
from providers.use_cases.stored_images import stored_image

__all__ = [
    "embed",
    "known_dimension",
    "read_sampling",
    "stored_image",
]
