"""Factories for a row of each model in the admin, with HTML in every text field."""

from collections.abc import Callable
from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.urls import reverse

from chatbots.models import Chatbot
from logs.models import Conversation, Message, ModelPrice, UsageEvent, Webhook, WebhookDelivery, new_uuid
from providers.models import ProviderConfig
from puffer.models import ApiKey
from vectorstores.models import (
    Collection,
    Document,
    Reranker,
    Source,
    SourcePage,
    StoreConfig,
    Upload,
    UploadContent,
)

NASTY = "<script>alert(1)</script>"
SAVED_SECRET = "sk-saved-provider-secret"


def make_key(number: int) -> ApiKey:
    key = ApiKey(name=f"{NASTY}{number}", scopes=["chat"])
    key.issue()
    key.chatbots.add(make_bot(number))
    return key


def make_bot(number: int) -> Chatbot:
    bot = Chatbot.objects.create(name=f"{NASTY}{number}", model=NASTY, instructions=NASTY)
    make_conversation(number, bot)
    return bot


def make_conversation(number: int, bot: Chatbot | None = None) -> Conversation:
    user = User.objects.create(username=f"visitor {Conversation.objects.count()}", first_name=NASTY)
    bot = bot or Chatbot.objects.create(name=f"{NASTY}{number}")
    conversation = Conversation.objects.create(
        chatbot=bot, user=user, session_id=NASTY, message_count=2, identity=new_uuid()
    )
    Message.objects.create(conversation=conversation, role="user", content=f"Hi {NASTY}")
    Message.objects.create(conversation=conversation, role="bot", content=NASTY, model=NASTY, provider="openai")
    return conversation


def make_event(number: int) -> UsageEvent:
    key = ApiKey(name=f"caller {number}", scopes=["chat"])
    key.issue()
    return UsageEvent.objects.create(
        operation="completion",
        provider="openai",
        model=NASTY,
        caller=NASTY,
        api_key=key,
        chatbot=Chatbot.objects.create(name=NASTY),
        milliseconds=5,
        status=200,
    )


def make_webhook(number: int) -> Webhook:
    return Webhook.objects.create(name=f"{NASTY}{number}", url=f"https://www.example.com/?{NASTY}", events=[NASTY])


def make_delivery(number: int) -> WebhookDelivery:
    return WebhookDelivery.objects.create(
        webhook=make_webhook(number), event=NASTY, event_id=new_uuid(), payload=f'["{NASTY}"]',
        response_excerpt=NASTY, last_error=NASTY,
    )  # fmt: skip


def make_price(number: int) -> ModelPrice:
    return ModelPrice.objects.create(provider="openai", model=f"{NASTY}{number}", input_price=1, output_price=2)


def a_provider(number: int) -> ProviderConfig:
    config = ProviderConfig.objects.all()[number % 9]
    config.api_key, config.default_model, config.known_models = SAVED_SECRET, NASTY, [NASTY, "gpt"]
    config.save()
    return config


def a_store(number: int) -> StoreConfig:
    config = StoreConfig.objects.all()[number % 3]
    config.api_key, config.tenant = SAVED_SECRET, NASTY
    config.save()
    return config


def make_reranker(number: int) -> Reranker:
    address = "https://rerank.example"
    return Reranker.objects.create(name=f"<b>{number}", base_url=address, api_key=SAVED_SECRET, model=NASTY)


def make_collection(number: int) -> Collection:
    return Collection.objects.create(store="local", name=f"{NASTY}{number}", dimension=3, embedding_model=NASTY)


def make_document(number: int) -> Document:
    collection = make_collection(number)
    return Document.objects.create(collection=collection, parent_vector_id=NASTY, title=NASTY, source=NASTY)


def make_upload(number: int) -> Upload:
    user = User.objects.create(username=f"{NASTY} editor {number}")
    place = {"name": f"{NASTY}{number}", "store": "local", "target": NASTY, "namespace": NASTY}
    upload = Upload.objects.create(
        kind="file", size=1, added_by=user, refused=1, refusals=[{"place": NASTY, "reason": NASTY}], **place
    )
    UploadContent.objects.create(upload=upload, data=b"x")
    return upload


def make_source(number: int) -> Source:
    user = User.objects.create(username=f"{NASTY} owner {number}")
    place = {"store": "local", "target": NASTY, "namespace": NASTY, "embedding_model": NASTY}
    source = Source.objects.create(
        kind="site", address=f"https://www.example.com/{NASTY}{number}", added_by=user, last_error=NASTY,
        notes=[{"place": NASTY, "text": NASTY}], sitemap=f"https://www.example.com/{NASTY}", **place,
    )  # fmt: skip
    make_page(number, source)
    return source


def make_page(number: int, source: Source | None = None) -> SourcePage:
    source = source or make_source(number)
    address = f"https://www.example.com/{NASTY}{source.pages.count()}"
    return SourcePage.objects.create(source=source, address=address, key=address[-60:], state="failed", error=NASTY)


def make_change(number: int) -> LogEntry:
    user = User.objects.create(username=f"{NASTY}{number}", is_staff=True)
    kind = ContentType.objects.get_for_model(list(ROWS)[number % len(ROWS)])
    return LogEntry.objects.create(
        user=user, content_type=kind, object_id=number, object_repr=NASTY, action_flag=CHANGE, change_message=NASTY
    )


def make_sign_in(model: type) -> Callable[[int], Any]:
    def make(number: int) -> Any:
        counted = {"failures_since_start": 3} if model is AccessAttempt else {}
        return model.objects.create(  # type: ignore[attr-defined]
            username=f"{NASTY}{number}", ip_address="192.0.2.1", user_agent=NASTY, path_info="/", **counted
        )

    return make


ROWS: dict[type, Callable[[int], Any]] = {
    ApiKey: make_key,
    Chatbot: make_bot,
    Conversation: make_conversation,
    UsageEvent: make_event,
    ModelPrice: make_price,
    Webhook: make_webhook,
    WebhookDelivery: make_delivery,
    ProviderConfig: a_provider,
    User: lambda number: User.objects.create(username=f"user {number}", first_name=NASTY),
    Group: lambda number: Group.objects.create(name=f"{NASTY}{number}"),
    StoreConfig: a_store,
    Reranker: make_reranker,
    Collection: make_collection,
    Document: make_document,
    Upload: make_upload,
    Source: make_source,
    SourcePage: make_page,
    LogEntry: make_change,
    **{model: make_sign_in(model) for model in (AccessAttempt, AccessFailureLog, AccessLog)},
}


def url_of(model: type, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)  # type: ignore[attr-defined]
