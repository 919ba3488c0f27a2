"""The settings of every provider, and sample answers of its API: "Hi!", two vectors, a picture of a cat."""

import base64
import json
from typing import Any


def environment(url: str) -> dict[str, dict[str, str]]:
    """Return a PROVIDER_ENVIRONMENT with every provider at `url`, written as each vendor's SDK takes it."""
    return {
        "openai": {"api_key": "sk-openai-0123456789", "base_url": f"{url}/v1"},
        "azure": {"api_key": "azure0123456789abcdef", "base_url": url, "api_version": ""},
        "google": {"api_key": "AIzaSyGoogle0123456789abcdefghijk", "base_url": url},
        "openrouter": {"api_key": "sk-or-v1-0123456789", "base_url": f"{url}/api/v1"},
        "claude": {"api_key": "sk-ant-0123456789", "base_url": url},
        "deepseek": {"api_key": "sk-deepseek-0123456789", "base_url": f"{url}/v1"},
        "xai": {"api_key": "xai-0123456789", "base_url": f"{url}/v1"},
        "ollama": {"base_url": url},
        "local": {"base_url": url},
    }


# Sample answers of each provider: the completion "Hi!", two vectors, a picture of a cat.

CHAT_COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-Cf0aQ",
    "object": "chat.completion",
    "created": 1795401833,
    "model": "some-model-2026-08-07",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi!", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "system_fingerprint": None,
}
GENERATED_CONTENT: dict[str, Any] = {
    "candidates": [
        {
            "content": {"parts": [{"text": "Hi!"}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 11,
        "candidatesTokenCount": 5,
        "totalTokenCount": 16,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}],
    },
    "modelVersion": "some-model",
    "responseId": "kq0Kav7aN4",
}
ANTHROPIC_MESSAGE: dict[str, Any] = {
    "id": "msg_01Xa",
    "type": "message",
    "role": "assistant",
    "model": "some-model",
    "content": [{"type": "text", "text": "Hi!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 11,
        "output_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    },
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "openai": CHAT_COMPLETION | {"service_tier": "default"},
    "azure": CHAT_COMPLETION | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]},
    "google": GENERATED_CONTENT,
    "openrouter": CHAT_COMPLETION | {"provider": "OpenAI"},
    "claude": ANTHROPIC_MESSAGE,
    "deepseek": CHAT_COMPLETION,
    "xai": CHAT_COMPLETION,
    "ollama": CHAT_COMPLETION | {"system_fingerprint": "fp_ollama"},
    "local": CHAT_COMPLETION,
}


def event(data: Any, name: str = "") -> bytes:
    """Return a server-sent event; `data` is encoded as JSON unless it is bytes."""
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + content + b"\n\n"


def chat_chunk(delta: Any = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """Return an event of a Chat Completions stream, without choices if `delta` is None."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    head = {"id": "chatcmpl-Cf0aQ", "object": "chat.completion.chunk", "created": 1795401833, "model": "some-model"}
    return event({**head, "choices": choices, "usage": None, **more})


def google_chunk(text: str, **candidate: Any) -> bytes:
    content = {"parts": [{"text": text}], "role": "model"}
    counts = {"promptTokenCount": 11, "candidatesTokenCount": 1, "totalTokenCount": 12}
    answer = {"candidates": [{"content": content, "index": 0, **candidate}], "usageMetadata": counts}
    if "finishReason" in candidate:
        answer["usageMetadata"] = GENERATED_CONTENT["usageMetadata"]
    return event(answer | {"modelVersion": "some-model", "responseId": "kq0Kav7aN4"}).replace(b"\n", b"\r\n")


CHAT_DONE = event(b"[DONE]")
CHAT_END = [chat_chunk({}, "stop"), chat_chunk(usage=CHAT_COMPLETION["usage"]), CHAT_DONE]
CHAT_STREAM = [
    chat_chunk({"role": "assistant", "content": "", "refusal": None}),
    chat_chunk({"content": "H"}),
    chat_chunk({"content": "i!"}),
    *CHAT_END,
]
ANTHROPIC_START = [
    event(
        {
            "type": "message_start",
            "message": ANTHROPIC_MESSAGE
            | {"content": [], "stop_reason": None, "usage": {"input_tokens": 11, "output_tokens": 1}},
        },
        "message_start",
    ),
    event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        "content_block_start",
    ),
    event({"type": "ping"}, "ping"),
]


def anthropic_piece(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")


ANTHROPIC_END = [
    event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": None, "output_tokens": 5},
        },
        "message_delta",
    ),
    event({"type": "message_stop"}, "message_stop"),
]
STREAMS: dict[str, list[bytes]] = {
    "openai": CHAT_STREAM,
    "azure": [event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), *CHAT_STREAM],
    "google": [google_chunk("H"), google_chunk("i!"), google_chunk("", finishReason="STOP")],
    "openrouter": [b": OPENROUTER PROCESSING\n\n", b": OPENROUTER PROCESSING\n\n", *CHAT_STREAM],
    "claude": [*ANTHROPIC_START, anthropic_piece("H"), anthropic_piece("i!"), *ANTHROPIC_END],
    "deepseek": [
        chat_chunk({"role": "assistant", "content": None, "reasoning_content": "Someone says hello. "}),
        chat_chunk({"content": None, "reasoning_content": "So do I."}),
        *CHAT_STREAM,
    ],
    "xai": [
        chat_chunk({"role": "assistant", "content": "H"}, usage={"prompt_tokens": 11, "completion_tokens": 1}),
        chat_chunk({"content": "i!"}, "stop"),
        chat_chunk(usage=CHAT_COMPLETION["usage"]),
        CHAT_DONE,
    ],
    "ollama": CHAT_STREAM,
    "local": CHAT_STREAM,
}

VECTORS = [[0.25, -0.5, 1.0], [0.75, 0.125, -1.0]]
EMBEDDING_LIST: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(VECTORS)],
    "model": "some-model",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "openai": EMBEDDING_LIST,
    "azure": EMBEDDING_LIST,
    "google": {"embeddings": [{"values": vector} for vector in VECTORS]},
    "openrouter": EMBEDDING_LIST | {"id": "gen-emb-1", "provider": "OpenAI"},
    "ollama": EMBEDDING_LIST,
    "local": EMBEDDING_LIST,
}

CAT = b"\x89PNG\r\n\x1a\n" + b"a picture of a cat"
CAT_BASE64 = base64.b64encode(CAT).decode()
GPT_IMAGE: dict[str, Any] = {
    "created": 1795401842,
    "data": [{"b64_json": CAT_BASE64}],
    "output_format": "png",
    "usage": {
        "input_tokens": 9,
        "output_tokens": 272,
        "total_tokens": 281,
        "input_tokens_details": {"text_tokens": 9, "image_tokens": 0},
    },
}
IMAGES: dict[str, dict[str, Any]] = {
    "openai": GPT_IMAGE,
    "azure": GPT_IMAGE,
    "google": {
        "candidates": [
            {
                "content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": CAT_BASE64}}], "role": "model"},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 272, "totalTokenCount": 281},
    },
    "openrouter": {
        "created": 1795401842,
        "data": [{"b64_json": CAT_BASE64, "media_type": "image/png"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 272, "total_tokens": 281},
    },
}
