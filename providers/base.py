"""The data types of model calls, and the interface of an adapter. No vendor terms, no Django."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import httpx2

from puffer.text import storable


class Capability(StrEnum):
    """A kind of call that a provider may support."""

    COMPLETION = "completion"
    EMBEDDING = "embedding"
    IMAGE = "image"
    MODERATION = "moderation"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a user's message."""

    url: str  # http(s), or data: with base64
    detail: str = ""  # "low", "high" or "auto"; "" is not sent


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called. In a chunk, a piece of one: texts of the same `index` are joined."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it
    index: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation."""

    role: str  # "user", "assistant" or "tool"
    content: str
    images: Sequence[Image] = ()
    tool_calls: Sequence[ToolCall] = ()  # of an assistant's message
    tool_call_id: str = ""  # of a tool's message: the call whose result it is


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for. `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may, or must, ask for."""

    mode: str = "auto"  # "auto", "none", "required", or "function" for the one that `name` names
    name: str = ""
    parallel: bool | None = None  # several calls in one answer


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """JSON as the answer's format. Without a schema, any JSON object."""

    schema: dict[str, Any] | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them. `extra` holds further counts, under the names of our API."""

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
    """Sampling parameters. None is not sent, so the provider's default applies."""

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
    seed: int | None = None
    # Names set by the caller or the chatbot, as opposed to the site's defaults. Some providers are sent only these.
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A call of complete() or stream()."""

    model: str
    messages: Sequence[Message]
    instructions: str = ""
    sampling: Sampling = Sampling()
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = ToolChoice()
    format: JsonFormat | None = None  # None: text


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer: a text, or calls of tools, or both."""

    text: str
    finish_reason: str  # "stop", "length", "content_filter" or "tool_calls"
    usage: Usage | None
    tool_calls: Sequence[ToolCall] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", storable(self.text))


@dataclass(frozen=True, slots=True)
class CompletionChunk:
    """A piece of a completion's text. The last chunk has no text, but the finish reason and the usage, if known."""

    text: str = ""
    finish_reason: str | None = None  # "stop", "length", "content_filter" or "tool_calls"
    usage: Usage | None = None
    tool_calls: Sequence[ToolCall] = ()  # pieces

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", storable(self.text))


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A call of embed()."""

    model: str
    texts: Sequence[str]
    dimensions: int | None = None
    encoding_format: str = "float"
    task_type: str | None = None  # Google's names, such as RETRIEVAL_QUERY
    output_dimensionality: int | None = None  # Google's name for dimensions
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in order: floats, or base64 strings of little-endian float32 if requested."""

    vectors: list[list[float]] | list[str]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A call of generate_images()."""

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
    """An image, of which either `url` or `base64` is set."""

    url: str | None = None
    base64: str | None = None
    revised_prompt: str | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Images:
    """The images of one call."""

    images: list[GeneratedImage]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """An adapter's configuration. `site_url` is sent to providers that ask for the calling site.

    `context_length` is in tokens, of prompt and answer together, for Ollama.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    api_version: str = ""
    image_api_version: str = ""
    site_url: str = ""
    context_length: int = 0


class SdkErrors(NamedTuple):
    """The exceptions of an SDK: for an error status (with `response`), no answer, and an unreadable answer."""

    status: type[Exception]
    connection: type[Exception]
    unreadable: type[Exception]


class Provider(ABC):
    """An adapter, which translates our data types to one provider's protocol and its answers back.

    `capabilities` declares which methods it has, such as embed(); the registry refuses the others. Each method raises
    ApiError for every failure at the provider.

    An adapter imports its SDK when it is created: an SDK takes up to a second and 40 MB to load and may never be used.
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
        """Return the ids of the models that this account may use, sorted."""

    if TYPE_CHECKING:  # `capabilities` says which of these an adapter has

        async def complete(self, request: CompletionRequest) -> Completion: ...
        def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
            """Yield the text as it arrives, then a final chunk. Closing the generator closes the connection at once."""
            ...

        async def embed(self, request: EmbeddingRequest) -> Embeddings: ...
        async def generate_images(self, request: ImageRequest) -> Images: ...
        async def moderate(self, text: str) -> bool:
            """Return whether the provider flags the text as harmful."""
            ...
