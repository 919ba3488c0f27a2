"""A /generate call with every kind of message and parameter, and the request that each provider gets for it."""

CONVERSATION = {
    "model": "some-model",
    "system_instruction": "You are Ada.",
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "How are you?"},
        {"role": "system", "content": "Be kind."},
    ],
    "ai_params": {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 300,
        "stop": ["END", "STOP"],
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "top_k": 40,
        "top_logprobs": 3,
        "reasoning": {"effort": "low"},
    },
}
CHAT_MESSAGES = [
    {"role": "system", "content": "You are Ada.\n\nBe brief.\n\nBe kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "How are you?"},
]
CHAT = {"model": "some-model", "messages": CHAT_MESSAGES, "temperature": 0.5, "top_p": 0.9}
PENALTIES = {"frequency_penalty": 0.1, "presence_penalty": 0.2}
STOP = {"stop": ["END", "STOP"]}
# The target and body of the request that each provider gets.
SENT = {
    "openai": ("/v1/chat/completions", {**CHAT, **PENALTIES, **STOP, "max_completion_tokens": 300}),
    "azure": (
        "/openai/deployments/some-model/chat/completions?api-version=2025-01-01-preview",
        {**CHAT, **PENALTIES, **STOP, "max_completion_tokens": 300},
    ),
    "google": (
        "/v1beta/models/some-model:generateContent",
        {
            "systemInstruction": {"role": "user", "parts": [{"text": "You are Ada.\n\nBe brief.\n\nBe kind."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"text": "Hello."}]},
                {"role": "user", "parts": [{"text": "How are you?"}]},
            ],
            "generationConfig": {
                "temperature": 0.5,
                "topP": 0.9,
                "topK": 40,
                "maxOutputTokens": 300,
                "stopSequences": ["END", "STOP"],
            },
        },
    ),
    "openrouter": (
        "/api/v1/chat/completions",
        {
            **CHAT,
            **PENALTIES,
            **STOP,
            "max_tokens": 300,
            "top_k": 40,
            "logprobs": True,
            "top_logprobs": 3,
            "reasoning": {"effort": "low"},
        },
    ),
    "claude": (
        "/v1/messages",
        {
            "model": "some-model",
            "system": "You are Ada.\n\nBe brief.\n\nBe kind.",
            "messages": CHAT_MESSAGES[1:],
            "max_tokens": 300,
            "temperature": 0.5,
            "top_k": 40,
            "stop_sequences": ["END", "STOP"],
        },
    ),
    "deepseek": ("/v1/chat/completions", {**CHAT, **STOP, "max_tokens": 300, "thinking": {"type": "enabled"}}),
    "xai": ("/v1/chat/completions", {**CHAT, "max_completion_tokens": 300}),
    "ollama": ("/v1/chat/completions", {**CHAT, **PENALTIES, **STOP, "max_tokens": 300}),
    "local": ("/v1/chat/completions", {**CHAT, **PENALTIES, **STOP, "max_tokens": 300}),
}


def generate(api, provider, content="Hi", **options):
    body = {"provider": provider, "model": "some-model", "messages": [{"role": "user", "content": content}], **options}
    return api.post("/generate", json=body)
