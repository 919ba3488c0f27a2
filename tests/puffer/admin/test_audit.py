"""The audit log: every action in the admin adds an entry that owners can find, and no entry contains a secret."""

import pytest
from axes.models import AccessFailureLog, AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from chatbots.models import Chatbot
from logs.models import Conversation
from providers.models import ProviderConfig
from puffer.models import ApiKey
from puffer.security.roles import ROLES
from tests.support.admin.accounts import member
from tests.support.admin.rows_of_models import NASTY, ROWS, make_bot, url_of
from vectorstores.models import Collection, Document

pytestmark = pytest.mark.django_db

CHANGES = reverse("admin:admin_logentry_changelist")
# Actions on selected rows, and text in their log entry.
ACTIONS = [
    (Chatbot, "duplicate", "Copied from"),
    (Chatbot, "publish", "Now published."),
    (Chatbot, "make_draft", "Now draft."),
    (Chatbot, "move_to_trash", "in the trash"),
    (Chatbot, "delete_selected", ""),
    (Conversation, "delete_selected", ""),
    (Document, "delete_selected", ""),
    (Collection, "delete_selected", ""),
    (ApiKey, "revoke", "Revoked."),
]


@pytest.mark.parametrize(("model", "action", "words"), ACTIONS)
def test_actions_are_logged(admin_client, admin_user, model, action, words):
    row = ROWS[model](0)
    if action == "publish":
        model.objects.update(status="draft")
    if action == "make_draft":
        model.objects.update(status="published")
    form = {"action": action, "_selected_action": [row.pk], "post": "yes", "confirmed": "yes"}
    admin_client.post(url_of(model, "changelist"), form)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.content_type.model_class()) == (admin_user, model)
    assert words.lower() in entry.get_change_message().lower()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("action", "words"), [("export_as_csv", "As CSV"), ("export_as_json", "As JSON lines")])
def test_exports_are_logged_with_their_filters(client, role, action, words):
    """Check each role: everyone who may read conversations may export them, and owners see which."""
    client.force_login(member(role))
    shown, other = (
        Conversation.objects.create(identity=name, external_email=f"{name}@example.com") for name in ("ada", "bob")
    )
    form = {"action": action, "_selected_action": [shown.pk, other.pk], "select_across": "1"}
    filtered_url = f"{url_of(Conversation, 'changelist')}?q=ada%40example.com&source__exact=api"
    assert client.post(filtered_url, form).status_code == 200
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_repr) == (role.lower(), "1 conversation")
    assert entry.get_change_message() == f"{words}, of the list with q=ada@example.com, source__exact=api"


@pytest.mark.parametrize("role", ROLES)
def test_exports_of_chatbots_are_logged(client, role):
    client.force_login(member(role))
    bots = [make_bot(number) for number in range(2)]
    form = {"action": "export_as_json", "_selected_action": [bot.pk for bot in bots]}
    assert client.post(url_of(Chatbot, "changelist"), form).status_code == 200
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.action_flag, entry.object_repr) == (role.lower(), 4, "2 chatbots")


def test_exports_can_be_listed(admin_client):
    row = Conversation.objects.create()
    admin_client.post(url_of(Conversation, "changelist"), {"action": "export_as_csv", "_selected_action": [row.pk]})
    admin_client.post(url_of(Chatbot, "changelist"), {"action": "make_draft", "_selected_action": [make_bot(0).pk]})
    page = admin_client.get(f"{CHANGES}?action_flag__exact=4")
    (entry,) = page.context["cl"].queryset
    assert entry.get_change_message() == "As CSV"
    assert "exported" in page.text
    assert admin_client.get(f"{CHANGES}?action_flag__exact=x").context["cl"].queryset.count() == 0


def test_users_changing_their_password_are_logged(client):
    user = User.objects.create_user("viewer", password="correct horse", is_staff=True)
    client.force_login(user)
    page = reverse("admin:password_change")
    form = {"old_password": "wrong", "new_password1": "battery staple", "new_password2": "battery staple"}
    assert client.post(page, form).status_code == 200
    assert not LogEntry.objects.exists()
    assert client.post(page, form | {"old_password": "correct horse"}).status_code == 302
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_repr, entry.get_change_message()) == (user, "viewer", "Changed their password.")
    assert "battery" not in str(vars(entry))


def test_a_new_identity_secret_is_logged_without_the_secret(admin_client):
    bot = make_bot(0)
    old = bot.identity_secret
    admin_client.post(url_of(Chatbot, "renew_identity_secret", bot.pk), {"_form_submitted": "True"})
    bot.refresh_from_db()
    entry = LogEntry.objects.get()
    assert entry.get_change_message() == "New identity secret."
    assert old != bot.identity_secret
    assert not {old, bot.identity_secret} & set(str(vars(entry)).split())


def test_a_saved_provider_key_is_logged_without_the_key(admin_client):
    config = ProviderConfig.objects.get(slug="openai")
    admin_client.post(url_of(ProviderConfig, "change", config.pk), {"api_key": "sk-typed-now"})
    entry = LogEntry.objects.get()
    assert "API key" in entry.get_change_message()
    assert "sk-typed-now" not in str(vars(entry))


def test_a_refreshed_model_list_is_logged(admin_client, upstream):
    upstream.serves("/v1/models", {"object": "list", "data": [{"id": "gpt-new", "object": "model"}]})
    config = ProviderConfig.objects.get(slug="openai")
    admin_client.post(url_of(ProviderConfig, "refresh_models", config.pk), {"_form_submitted": "True"})
    assert LogEntry.objects.get().get_change_message() == "List of models refreshed."


@pytest.fixture
def history(admin_client, admin_user) -> dict[str, str]:
    """Log three changes by two users; return {query string that finds one entry: text of the entry}."""
    colleague = User.objects.create_superuser("colleague")
    other = Client()
    other.force_login(colleague)
    bot, key = Chatbot.objects.create(name="Shop", status="draft"), ApiKey(name="Website", scopes=["chat"])
    key.issue()
    for client, row, action in (
        (admin_client, bot, "publish"),
        (admin_client, key, "revoke"),
        (other, bot, "make_draft"),
    ):
        form = {"action": action, "_selected_action": [row.pk], "confirmed": "yes"}
        client.post(url_of(type(row), "changelist"), form)
    kind = LogEntry.objects.get(object_repr="Website").content_type_id
    return {
        f"user__id__exact={colleague.pk}": "Now draft.",
        f"content_type__id__exact={kind}": "Revoked.",
        "q=website": "Revoked.",
        "q=colleague": "Now draft.",
        "q=published": "Now published.",
    }


def test_changes_can_be_searched_and_filtered(admin_client, history):
    page = admin_client.get(CHANGES)
    assert all(words in page.text for words in history.values())
    for query, words in history.items():
        entries = admin_client.get(f"{CHANGES}?{query}").context["cl"].queryset
        assert [entry.get_change_message() for entry in entries] == [words], query
    for query, count in (
        ("action_flag__exact=2", 3),
        ("action_flag__exact=3", 0),
        ("action_time__gte=2000-01-01+00:00:00%2B00:00", 3),
    ):
        assert admin_client.get(f"{CHANGES}?{query}").context["cl"].queryset.count() == count, query


def test_entries_link_to_their_object_until_it_is_deleted(admin_client):
    bot = make_bot(0)
    form = {"_selected_action": [bot.pk], "post": "yes"}
    admin_client.post(url_of(Chatbot, "changelist"), {**form, "action": "move_to_trash"})
    link = f'href="{url_of(Chatbot, "change", bot.pk)}"'
    assert link in admin_client.get(CHANGES).text
    admin_client.post(url_of(Chatbot, "changelist"), {**form, "action": "delete_selected"})
    page = admin_client.get(f"{CHANGES}?action_flag__exact=3").text
    assert link not in page
    assert NASTY not in page


def test_successful_and_failed_sign_ins_are_listed(admin_client):
    for password in ("wrong", "correct horse"):
        User.objects.filter(username="viewer").delete()
        User.objects.create_superuser("viewer", password="correct horse")
        Client().post("/admin/login/", {"username": "viewer", "password": password}, REMOTE_ADDR="192.0.2.55")
    for model in (AccessLog, AccessFailureLog):
        page = admin_client.get(url_of(model, "changelist") + "?q=viewer").text
        assert "192.0.2.55" in page
        assert "wrong" not in page
