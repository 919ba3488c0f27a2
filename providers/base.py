"""The nouns of talking to a model, and what an adapter is. No vendor's words, no Django."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import httpx2

from puffer.text import storable


class Capability(StrEnum):
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # "user" or "assistant"
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counted them. `extra` holds further counts under the names that the API gives them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    extra: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model is to choose its words. None: not sent, so that the provider's own default holds."""

    temperature: float | None = None  # 0 to 2
    top_p: float | None = None  # 0 to 1
    max_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_k: int | None = None
    top_logprobs: int | None = None
    stop: Sequence[str] = ()
    reasoning_effort: str | None = None  # none, low, medium, high, xhigh
    thinking: dict[str, Any] | None = None  # DeepSeek's switch, as its API takes it
    # The names that the caller or the bot chose, as opposed to the site's defaults. Some providers get only these.
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    model: str
    messages: Sequence[Message]
    instructions: str = ""
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    finish_reason: str  # "stop", "length" or "content_filter"
    usage: Usage | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", storable(self.text))


@dataclass(frozen=True, slots=True)
class CompletionChunk:
    """A piece of a completion's text.

    The last has no text, but the finish_reason and, where it is counted, the usage.
    """

    text: str = ""
    finish_reason: str | None = None  # "stop", "length" or "content_filter"
    usage: Usage | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", storable(self.text))


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    model: str
    texts: Sequence[str]
    dimensions: int | None = None
    encoding_format: str = "float"
    task_type: str | None = None  # Google's names, such as RETRIEVAL_QUERY
    output_dimensionality: int | None = None  # Google's name for dimensions
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in order: floats, or a base64 string of little-endian float32 where that was asked for."""

    vectors: list[list[float]] | list[str]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    model: str
    prompt: str
    n: int = 1
    size: str | None = None
    quality: str | None = None
    style: str | None = None
    response_format: str = "url"
    aspect_ratio: str | None = None
    resolution: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    background: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One of `url` and `base64` is set."""

    url: str | None = None
    base64: str | None = None
    revised_prompt: str | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Images:
    images: list[GeneratedImage]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What an adapter needs to know of its configuration. `site_url` is told to providers that ask who calls."""

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    api_version: str = ""
    image_api_version: str = ""
    site_url: str = ""


class SdkErrors(NamedTuple):
    """What an SDK raises: for an error status (with its `response`), without an answer, for one it cannot read."""

    status: type[Exception]
    connection: type[Exception]
    unreadable: type[Exception]


class Provider(ABC):
    """An adapter: our nouns to one provider's wire, its answers to our nouns.

    `capabilities` says which of complete() with stream(), embed() and generate_images() it has; the registry refuses
    the others. Each raises ApiError for whatever goes wrong at the provider.

    An adapter imports its SDK when it is made, not before: each takes up to a second and 40 MB to load, for a provider
    that may never be used.
    """

    slug: ClassVar[str]
    label: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    needs_api_key: ClassVar[bool] = True
    default_base_url: ClassVar[str] = ""
    default_models: ClassVar[dict[Capability, str]] = {}

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        self.settings = settings
        self.http_client = http_client

    @abstractmethod
    def sdk_errors(self) -> SdkErrors: ...

    @abstractmethod
    async def list_models(self) -> list[str]:
        """The ids of the models that this account may use, sorted."""

    if TYPE_CHECKING:  # which of them an adapter really has, its capabilities say

        async def complete(self, request: CompletionRequest) -> Completion: ...
        def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
            """The text in pieces, as they come, then a chunk with the end. Closing it closes the connection at once."""
            ...

        async def embed(self, request: EmbeddingRequest) -> Embeddings: ...
        async def generate_images(self, request: ImageRequest) -> Images: ...
