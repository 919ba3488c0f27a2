"""The chatbot form in a real browser: the preview follows the form, and saving stores only the changed fields."""

from collections.abc import Iterator

import pytest

from tests.support.installation import Server, serving
from tests.support.upstream import running
from tests.support.widget.browser import axe, expect, in_browser, tab

pytestmark = in_browser

ACCOUNTS = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from chatbots.models import Chatbot
users = get_user_model().objects
users.create_superuser("owner", password="correct horse")
users.create_user("viewer", password="correct horse", is_staff=True).user_permissions.set(
    Permission.objects.filter(codename="view_chatbot")
)
Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini", popup_label_text="Psst!")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running() as upstream, serving(tmp_path_factory.mktemp("admin"), upstream) as server:
        server.python(ACCOUNTS)
        yield server


def frame_of(page):
    return page.frame_locator("#preview iframe")


def background(locator) -> str:
    return locator.evaluate("element => getComputedStyle(element).backgroundColor")


def saved_settings(server: Server) -> dict:
    names = [name for _, name, *_ in server.rows("PRAGMA table_info(chatbots_chatbot)")]
    (values,) = server.rows("SELECT * FROM chatbots_chatbot")
    always_new = {"identity_secret", "updated_at"}  # the secret is encrypted with a new nonce on every save
    return {name: value for name, value in zip(names, values, strict=True) if name not in always_new}


def test_the_preview_follows_the_form(server, sign_in):
    page = sign_in("owner")
    before = saved_settings(server)
    preview = frame_of(page)
    expect(preview.locator(".greeting")).to_have_text("Hello there!")
    tab(page, "Appearance")
    page.click("#id_greeting")
    page.keyboard.type("Welcome ", delay=30)
    expect(preview.locator(".greeting")).to_have_text("Welcome")
    page.keyboard.type("to the shop", delay=30)  # updating the preview leaves the focus in the field
    expect(preview.locator(".greeting")).to_have_text("Welcome to the shop")
    assert page.input_value("#id_greeting") == "Welcome to the shop"

    expect(page.locator("#id_primary_color")).to_be_hidden()
    page.select_option("#id_theme_preset_key", "")
    expect(page.locator("#id_primary_color")).to_be_visible()
    page.locator("#id_primary_color").fill("#aa1122")
    page.locator("#id_secondary_color").fill("#ffeecc")
    expect(preview.locator(".message.bot .bubble").first).to_have_css("background-color", "rgb(255, 238, 204)")

    page.fill("#id_bubble_radius", "99")
    expect(page.locator(".preview-words")).to_have_text("Preview not updated. Check: Corner radius.")
    assert saved_settings(server) == before


def test_the_preview_switches_between_views_schemes_and_sizes(sign_in):
    page = sign_in("owner")
    preview = frame_of(page)
    expect(preview.locator("dialog[open] .greeting")).to_be_visible()
    page.click("#preview >> text=Button")
    expect(preview.locator(".hint")).to_contain_text("Psst!")
    expect(preview.locator("dialog")).to_be_hidden()
    page.click("#preview >> text=In the page")
    expect(preview.locator(".root.inline .greeting")).to_be_visible()
    light = background(preview.locator("html"))
    page.click("#preview >> text=Dark")
    expect(preview.locator("html")).not_to_have_css("background-color", light)
    page.click("#preview >> text=Phone")
    assert page.locator("#preview iframe").evaluate("frame => frame.contentWindow.innerWidth") == 375
    tab(page, "Popup")
    with page.expect_response("**/preview/"):
        page.click("label[for=id_popup_enabled]")  # the setting, not the preview's switch
    expect(page.locator("#id_popup_position")).to_be_hidden()
    page.click("label[for=id_popup_enabled]")
    expect(preview.locator("dialog[open] .greeting")).to_be_visible()


def test_only_changed_fields_are_saved(server, sign_in):
    before = saved_settings(server)
    page = sign_in("owner")
    expect(frame_of(page).locator(".greeting")).to_be_visible()
    tab(page, "Appearance")
    page.fill("#id_footer_text", "We may err.")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=was changed successfully")
    assert saved_settings(server) == before | {"footer_text": "We may err."}
    expect(frame_of(page).locator(".footer")).to_have_text("We may err.")
    expect(page.locator("#id_footer_text")).to_be_visible()  # the tab is still open


def test_tabs_by_keyboard_and_errors_in_them(sign_in):
    page = sign_in("owner")
    page.focus("#chatbot_form nav >> text=Limits")
    page.keyboard.press("Enter")
    page.fill("#id_rate_limit_message", "")
    tab(page, "Popup")
    page.click("button[name=_continue]")
    page.wait_for_selector(".errornote")
    expect(page.locator("#id_rate_limit_message")).to_be_visible()
    expect(page.locator("#id_popup_position")).to_be_hidden()


def test_the_install_tab_explains_domains_and_copies_snippet_and_secret(server, sign_in):
    page = sign_in("owner", permissions=["clipboard-read", "clipboard-write"])
    tab(page, "Install")
    page.fill("#id_embed_allowed_domains", "example.com\nhttps://")
    expect(page.locator("#allowed-sites li").first).to_contain_text("http://example.com; not www.example.com")
    expect(page.locator("#allowed-sites li.problem")).to_contain_text("has no valid host name")
    page.click("label[for=id_embed_allow_any_domain]")
    expect(page.locator("#allowed-sites")).to_contain_text("Any website can show the widget")

    page.click("[data-copies=snippet]")
    expect(page.locator("[data-copies=snippet]")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith('<div id="aipkit-chatbot-container-1"></div>\n<script src="' + server.url)
    expect(page.locator("#identity-secret")).to_be_hidden()
    page.click("text=Show the secret")
    page.click("[data-copies=identity-secret]")
    secret = page.inner_text("#identity-secret")
    assert page.evaluate("navigator.clipboard.readText()") == secret

    page.click("text=New identity secret")
    page.click("button:has-text('Create new secret')")
    page.wait_for_selector("text=The chatbot has a new identity secret")
    tab(page, "Install")
    page.click("text=Show the secret")
    assert page.inner_text("#identity-secret") not in ("", secret)


def test_a_new_chatbot_has_a_preview_before_it_is_saved(sign_in):
    page = sign_in("owner", "/admin/chatbots/chatbot/add/")
    page.fill("#id_name", "Brand new")
    expect(frame_of(page).locator("header h2")).to_have_text("Brand new")


def test_a_viewer_sees_the_preview_and_posts_nothing(sign_in):
    page = sign_in("viewer")
    posts = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    expect(frame_of(page).locator(".greeting")).to_be_visible()
    page.click("#preview >> text=In the page")
    expect(frame_of(page).locator(".root.inline")).to_be_visible()
    assert posts == []
    assert page.locator("#identity-secret").count() == 0


def test_our_parts_of_the_page_are_accessible(sign_in):
    page = sign_in("owner")
    expect(frame_of(page).locator(".greeting")).to_be_visible()
    tab(page, "Install")
    page.click("text=Show the secret")
    page.click("text=How your server signs")
    for selector in ("#preview", ".code-box", ".secret", ".samples", "#allowed-sites"):
        found = axe.run(page, context=selector, options={"iframes": False})
        assert found.violations_count == 0, found.generate_report()
