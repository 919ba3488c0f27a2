"""Permissions in the admin: every page and every action, as Owner, Editor, Viewer and anonymous user.

The tables are written by hand. A test fails for each model, page or action that is missing from them.
"""

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse

from chatbots.models import Chatbot
from providers.models import ProviderConfig
from puffer.security.roles import EDITOR, OWNER, RIGHTS, ROLES, VIEWER
from tests.support.admin.accounts import member
from tests.support.admin.rows_of_models import ROWS, SAVED_SECRET, a_provider, make_bot, make_key, url_of
from vectorstores.models import Collection, StoreConfig

pytestmark = pytest.mark.django_db

APPS = ["puffer", "logs", "providers", "vectorstores", "chatbots"]

# What Owner, Editor and Viewer may do with rows: (v)iew, (a)dd, (c)hange, (d)elete.
PERMISSIONS_OF = {
    "admin.LogEntry": ("v", "", ""),
    "auth.Group": ("vacd", "", ""),
    "auth.User": ("vacd", "", ""),
    "axes.AccessAttempt": ("v", "", ""),
    "axes.AccessFailureLog": ("v", "", ""),
    "axes.AccessLog": ("v", "", ""),
    "chatbots.Chatbot": ("vacd", "vacd", "v"),
    "logs.Conversation": ("vd", "v", "v"),
    "logs.ModelPrice": ("vacd", "v", "v"),
    "logs.UsageEvent": ("v", "v", "v"),
    "logs.Webhook": ("vacd", "", ""),
    "logs.WebhookDelivery": ("v", "", ""),
    "providers.ProviderConfig": ("vc", "v", ""),
    "puffer.ApiKey": ("vac", "", ""),
    "vectorstores.Collection": ("vcd", "vcd", ""),
    "vectorstores.Document": ("vd", "vd", ""),
    "vectorstores.Reranker": ("vacd", "v", ""),
    "vectorstores.Source": ("vacd", "vacd", ""),
    "vectorstores.SourcePage": ("v", "v", ""),
    "vectorstores.StoreConfig": ("vc", "v", ""),
    "vectorstores.Upload": ("vad", "vad", ""),
}
# Custom pages of models: per role, the status of a GET and of a POST with an empty body.
FOR_ALL = ((200, 200, 200), (200, 200, 200))
FOR_EDITORS = ((200, 200, 403), (200, 200, 403))
FOR_OWNERS = ((200, 403, 403), (200, 403, 403))
CUSTOM_PAGES = {
    "auth_user_confirm_password": FOR_ALL,
    "auth_user_own_sessions": ((200, 200, 200), (302, 302, 302)),  # lists the user's own sign-ins
    "auth_user_password_change": FOR_OWNERS,
    "auth_user_second_factor": FOR_ALL,  # for the user's own account
    "chatbots_chatbot_answer_question": FOR_EDITORS,
    "chatbots_chatbot_allowed_sites": ((405, 405, 405), (200, 200, 403)),
    "chatbots_chatbot_decide_on_publishing": ((302, 302, 403), (302, 302, 403)),  # without a run
    "chatbots_chatbot_golden_questions": ((200, 200, 200), (200, 200, 403)),
    "chatbots_chatbot_golden_runs": ((200, 200, 200), (405, 405, 405)),  # POST is not allowed
    "chatbots_chatbot_import_from_json": FOR_EDITORS,
    "chatbots_chatbot_preview": ((200, 200, 200), (200, 200, 403)),
    "chatbots_chatbot_renew_identity_secret": FOR_OWNERS,
    "chatbots_chatbot_restore": ((404, 404, 403), (404, 404, 403)),  # without a version
    "chatbots_chatbot_sign_out_visitor": FOR_EDITORS,
    "chatbots_chatbot_try_it": FOR_EDITORS,
    "chatbots_chatbot_unanswered": ((200, 200, 200), (200, 200, 403)),
    "chatbots_chatbot_unanswered_overview": ((200, 200, 200), (405, 405, 405)),
    "logs_webhook_renew_secret": FOR_OWNERS,
    "logs_webhook_send_a_test": FOR_OWNERS,
    "logs_webhook_show_deliveries": ((302, 403, 403), (302, 403, 403)),
    "logs_webhookdelivery_send_this_again": FOR_OWNERS,
    "providers_providerconfig_refresh_models": FOR_OWNERS,
    "providers_providerconfig_test_connection": FOR_OWNERS,
    "vectorstores_collection_add_content": ((302, 302, 403), (302, 302, 403)),
    "vectorstores_collection_add_content_here": ((302, 302, 403), (302, 302, 403)),
    "vectorstores_collection_add_source_here": ((302, 302, 403), (302, 302, 403)),
    "vectorstores_collection_try_question": FOR_EDITORS,
    "vectorstores_document_download_text": FOR_EDITORS,
    "vectorstores_document_edit_document": FOR_EDITORS,
    "vectorstores_document_embed_again": FOR_EDITORS,
    "vectorstores_reranker_test_connection": FOR_OWNERS,
    "vectorstores_source_approve": FOR_EDITORS,
    "vectorstores_source_cancel": FOR_EDITORS,
    "vectorstores_source_confirm_removals": FOR_EDITORS,
    "vectorstores_source_refresh_now": FOR_EDITORS,
    "vectorstores_source_show_documents": ((302, 302, 403), (302, 302, 403)),
    "vectorstores_source_show_pages": ((302, 302, 403), (302, 302, 403)),
    "vectorstores_source_status": FOR_EDITORS,
    "vectorstores_storeconfig_test_connection": FOR_EDITORS,
    "vectorstores_upload_cancel": ((405, 405, 403), (200, 200, 403)),
    "vectorstores_upload_original": FOR_EDITORS,
    "vectorstores_upload_progress": FOR_EDITORS,
    "vectorstores_upload_retry": ((405, 405, 403), (200, 200, 403)),
}
SITE_PAGES = {
    "index": FOR_ALL,
    "search": FOR_ALL,
    "password_change": FOR_ALL,
    "password_change_done": ((200, 200, 200), (405, 405, 405)),
    "jsi18n": ((200, 200, 200), (405, 405, 405)),
    "login": ((302, 302, 302), (200, 200, 200)),
    "logout": ((405, 405, 405), (200, 200, 200)),  # Django signs out by POST only
    "autocomplete": ((403, 403, 403), (405, 405, 405)),  # without a field; for fields see AUTOCOMPLETE_FIELDS
    "app_list": FOR_ALL,
    "view_on_site": ((404, 404, 404), (404, 404, 404)),
}
OPEN_TO_ANONYMOUS = {"login", "logout", "jsi18n"}
# Actions on selected rows, and the roles that can see and run them.
ACTIONS: dict[str, dict[str, list[str]]] = {
    "auth.Group": {"delete_selected": [OWNER]},
    "auth.User": {"delete_selected": [OWNER], "remove_second_factor": [OWNER]},
    "axes.AccessAttempt": {"unlock": [OWNER]},
    "chatbots.Chatbot": {
        "delete_selected": [OWNER, EDITOR],
        "duplicate": [OWNER, EDITOR],
        "publish": [OWNER, EDITOR],
        "make_draft": [OWNER, EDITOR],
        "move_to_trash": [OWNER, EDITOR],
        "export_as_json": [OWNER, EDITOR, VIEWER],
    },
    "logs.Conversation": {
        "delete_selected": [OWNER],
        "export_as_csv": [OWNER, EDITOR, VIEWER],
        "export_as_json": [OWNER, EDITOR, VIEWER],
    },
    "logs.ModelPrice": {"delete_selected": [OWNER]},
    "logs.Webhook": {"delete_selected": [OWNER]},
    "logs.WebhookDelivery": {"send_again": [OWNER]},
    "puffer.ApiKey": {"revoke": [OWNER]},
    "vectorstores.Collection": {"delete_selected": [OWNER, EDITOR]},
    "vectorstores.Document": {"delete_selected": [OWNER, EDITOR]},
    "vectorstores.Upload": {
        "delete_selected": [OWNER, EDITOR],
        "retry_selected": [OWNER, EDITOR],
        "cancel_selected": [OWNER, EDITOR],
    },
}
# Autocomplete fields, and the roles that may query them: those that can see the rows anyway.
AUTOCOMPLETE_FIELDS = {
    ("auth.User", "groups"): [OWNER],
    ("logs.Webhook", "chatbots"): [OWNER, EDITOR, VIEWER],
    ("puffer.ApiKey", "chatbots"): [OWNER, EDITOR, VIEWER],
}

DJANGO_PAGES = {"changelist", "add", "history", "delete", "change"}
MODELS = {model._meta.label: model for model in ROWS}


@pytest.fixture
def clients() -> dict[str, Client]:
    clients = {}
    for role in ROLES:
        clients[role] = Client()
        clients[role].force_login(member(role))
    return clients


def custom_pages(model_admin: Any) -> list[str]:
    standard = {f"{model_admin.opts.app_label}_{model_admin.opts.model_name}_{page}" for page in DJANGO_PAGES}
    return [pattern.name for pattern in model_admin.get_urls() if pattern.name and pattern.name not in standard]


# The tables are complete


def test_every_model_has_its_row():
    assert {model._meta.label for model in admin.site._registry} == set(PERMISSIONS_OF)


def test_every_page_has_its_row():
    of_models = {name for model_admin in admin.site._registry.values() for name in custom_pages(model_admin)}
    assert of_models == set(CUSTOM_PAGES)
    of_site = {getattr(pattern, "name", None) for pattern in admin.site.get_urls()}
    assert of_site - {None} == set(SITE_PAGES)


def test_every_autocomplete_field_has_its_row():
    found = {
        (model._meta.label, field)
        for model, model_admin in admin.site._registry.items()
        for field in model_admin.autocomplete_fields
    }
    assert found == set(AUTOCOMPLETE_FIELDS)


def test_every_model_of_our_apps_has_its_rights():
    """Fail for models without an entry in RIGHTS (puffer/security/roles.py): only owners could see them."""
    models = {model._meta.label_lower for app in APPS for model in apps.get_app_config(app).get_models()}
    assert models == set(RIGHTS)


# Pages

# Refused by all forms but that of collections, which has one box and leaves it checked.
UNCHANGED = {"base_url": "no url", "searches_words": "on"}


@pytest.mark.parametrize("label", PERMISSIONS_OF)
def test_pages_of_rows(clients, label):
    model = MODELS[label]
    row = ROWS[model](0)
    for role, actions in zip(ROLES, PERMISSIONS_OF[label], strict=True):
        client = clients[role]
        for page, letter, arguments in (
            ("changelist", "v", []), ("history", "v", [row.pk]), ("change", "v", [row.pk]),
            ("add", "a", []), ("delete", "d", [row.pk]),
        ):  # fmt: skip
            status = client.get(url_of(model, page, *arguments)).status_code
            assert status == (200 if letter in actions else 403), (role, page)
        before = list(model.objects.order_by("pk").values())
        for page, letter, arguments in (("change", "c", [row.pk]), ("add", "a", [])):
            status = client.post(url_of(model, page, *arguments), UNCHANGED).status_code
            expected = 302 if label == "vectorstores.Collection" else 200  # 200: the form again, with its errors
            assert status == (expected if letter in actions else 403), (role, page)
        if "d" not in actions:
            assert client.post(url_of(model, "delete", row.pk), {"post": "yes"}).status_code == 403
        assert list(model.objects.order_by("pk").values()) == before, role


def arguments_for(name: str) -> list[list[Any]]:
    """Return the lists of arguments that the page's URL accepts: none, a row's id, or both."""
    app, model_name, _ = name.split("_", 2)
    row = ROWS[apps.get_model(app, model_name)](0)
    found = []
    for arguments in ([], [row.pk]):
        try:
            reverse(f"admin:{name}", args=arguments)
        except NoReverseMatch:
            continue
        found.append(arguments)
    assert found
    return found


@pytest.mark.parametrize("name", CUSTOM_PAGES)
def test_custom_pages(clients, name):
    for arguments in arguments_for(name):
        url = reverse(f"admin:{name}", args=arguments)
        assert tuple(clients[role].get(url).status_code for role in ROLES) == CUSTOM_PAGES[name][0], url
        assert tuple(clients[role].post(url, {}).status_code for role in ROLES) == CUSTOM_PAGES[name][1], url
        for response in (Client().get(url), Client().post(url, {})):
            assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("name", SITE_PAGES)
def test_pages_of_the_site(clients, name):
    arguments = {"app_list": ["chatbots"], "view_on_site": [0, 0]}.get(name, [])
    url = reverse(f"admin:{name}", args=arguments)
    assert tuple(clients[role].get(url).status_code for role in ROLES) == SITE_PAGES[name][0]
    assert tuple(clients[role].post(url, {}).status_code for role in ROLES) == SITE_PAGES[name][1]
    if name not in OPEN_TO_ANONYMOUS:
        for response in (Client().get(url), Client().post(url, {})):
            assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize(("field", "allowed_roles"), AUTOCOMPLETE_FIELDS.items())
def test_autocomplete_fields(clients, field, allowed_roles):
    label, name = field
    make_bot(0)
    parameters = dict(zip(("app_label", "model_name"), label.lower().split("."), strict=True)) | {"field_name": name}
    for role in ROLES:
        status = clients[role].get(reverse("admin:autocomplete"), parameters).status_code
        assert status == (200 if role in allowed_roles else 403), role


# Actions on rows


def test_each_role_is_offered_its_actions(clients):
    offered: dict[str, dict[str, list[str]]] = {}
    for role in ROLES:
        request = RequestFactory().get("/")
        request.user = User.objects.get(username=role.lower())
        for model, model_admin in admin.site._registry.items():
            for action in model_admin.get_actions(request):
                offered.setdefault(model._meta.label, {}).setdefault(action, []).append(role)
    assert offered == ACTIONS


@pytest.mark.parametrize("label", ACTIONS)
def test_an_action_does_nothing_for_other_roles(clients, label):
    model = MODELS[label]
    row = ROWS[model](0)
    before = list(model.objects.order_by("pk").values())
    for action, allowed_roles in ACTIONS[label].items():
        form = {"action": action, "_selected_action": [row.pk], "post": "yes", "confirmed": "yes"}
        for role in set(ROLES) - set(allowed_roles):
            clients[role].post(url_of(model, "changelist"), form)
            assert list(model.objects.order_by("pk").values()) == before, (role, action)
        assert Client().post(url_of(model, "changelist"), form)["Location"].startswith(reverse("admin:login"))
    assert list(model.objects.order_by("pk").values()) == before


# Secrets


def test_only_owners_see_a_chatbots_identity_secret(clients):
    bot = make_bot(0)
    url = url_of(Chatbot, "change", bot.pk)
    assert [bot.identity_secret in clients[role].get(url).text for role in ROLES] == [True, False, False]
    exported = {"action": "export_as_json", "_selected_action": [bot.pk]}
    for role in ROLES:
        assert bot.identity_secret not in clients[role].post(url_of(Chatbot, "changelist"), exported).text


def test_a_chatbots_page_lists_collections_and_models_only_for_roles_that_may_see_them(clients):
    Collection.objects.create(store="local", name="salaries")
    ProviderConfig.objects.filter(slug="openai").update(known_models=["ft:gpt-salaries"])
    url = url_of(Chatbot, "change", make_bot(0).pk)
    assert ["salaries" in clients[role].get(url).text for role in ROLES] == [True, True, False]


def test_saved_keys_are_not_shown_to_any_role(clients):
    provider, store, key = a_provider(0), ROWS[StoreConfig](0), make_key(0)
    for row in (provider, store, key):
        for page, arguments in (("changelist", []), ("change", [row.pk]), ("history", [row.pk])):
            for role in ROLES:
                text = clients[role].get(url_of(type(row), page, *arguments)).text
                assert SAVED_SECRET not in text
                assert key.digest not in text


def test_an_editor_can_test_a_store_but_not_change_its_url_or_key(clients):
    store = ROWS[StoreConfig](0)
    form = {"api_key": "new", "base_url": "https://evil.example"}
    assert clients[EDITOR].post(url_of(StoreConfig, "change", store.pk), form).status_code == 403
    page = clients[EDITOR].get(url_of(StoreConfig, "change", store.pk)).text
    assert 'name="api_key"' not in page
    assert "Test connection" in page


def test_an_editor_cannot_grant_permissions(clients):
    editor = User.objects.get(username="editor")
    form = {"username": "editor", "is_superuser": "on", "is_staff": "on", "groups": [1, 2, 3]}
    assert clients[EDITOR].post(url_of(User, "change", editor.pk), form).status_code == 403
    editor.refresh_from_db()
    assert not editor.is_superuser
    assert [group.name for group in editor.groups.all()] == [EDITOR]


# The menu


def test_the_menu_shows_only_permitted_pages(clients):
    links = {"Conversations": "logs_conversation", "API keys": "puffer_apikey", "Changes": "admin_logentry"}
    shown = {
        role: [name for name, model in links.items() if reverse(f"admin:{model}_changelist") in page]
        for role in ROLES
        for page in [clients[role].get(reverse("admin:index")).text]
    }
    assert shown == {OWNER: list(links), EDITOR: ["Conversations"], VIEWER: ["Conversations"]}
