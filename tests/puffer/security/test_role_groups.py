"""The groups of the roles: their permissions, which `migrate` corrects, and who may change them."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.sql import emit_post_migrate_signal

from chatbots.models import Chatbot
from puffer.security.roles import EDITOR, OWNER, ROLES, VIEWER, may
from tests.support.admin.rows_of_models import url_of

pytestmark = pytest.mark.django_db


def test_an_owner_has_every_permission():
    assert set(Group.objects.get(name=OWNER).permissions.all()) == set(Permission.objects.all())


@pytest.mark.parametrize(
    ("role", "app", "codename", "allowed"),
    [
        (EDITOR, "chatbots", "change_chatbot", True),
        (EDITOR, "chatbots", "manage_identity_secret", False),
        (OWNER, "chatbots", "manage_identity_secret", True),
        (EDITOR, "vectorstores", "delete_document", True),
        (EDITOR, "vectorstores", "change_storeconfig", False),
        (EDITOR, "puffer", "view_apikey", False),
        (EDITOR, "auth", "change_user", False),
        (EDITOR, "logs", "delete_conversation", False),
        (VIEWER, "logs", "view_message", True),
        (VIEWER, "chatbots", "change_chatbot", False),
        (VIEWER, "providers", "view_providerconfig", False),
        (VIEWER, "nowhere", "view_nothing", False),
        (OWNER, "nowhere", "view_nothing", True),
    ],
)
def test_may(role, app, codename, allowed):
    assert may(role, app, codename) == allowed


def test_migrate_corrects_the_permissions_of_roles_but_not_of_other_groups():
    kind = ContentType.objects.get_for_model(Chatbot)
    Permission.objects.filter(content_type=kind).delete()  # the state before the model's migration
    viewer = Group.objects.get(name=VIEWER)
    viewer.permissions.add(*Permission.objects.filter(codename="change_apikey"))
    other_group = Group.objects.create(name="Accounting")
    other_group.permissions.set(Permission.objects.filter(codename="view_usageevent"))
    emit_post_migrate_signal(verbosity=0, interactive=False, db="default")
    permissions_of = {
        role: set(Permission.objects.filter(group__name=role).values_list("codename", flat=True))
        for role in [*ROLES, "Accounting"]
    }
    every = {f"{action}_chatbot" for action in ("view", "add", "change", "delete")}
    assert every <= permissions_of[OWNER]
    assert every <= permissions_of[EDITOR]
    assert permissions_of[VIEWER] & every == {"view_chatbot"}
    assert "change_apikey" not in permissions_of[VIEWER]
    assert permissions_of["Accounting"] == {"view_usageevent"}


def test_roles_cannot_be_changed_but_other_groups_can(admin_client):
    role, other = Group.objects.get(name=EDITOR), Group.objects.create(name="Accounting")
    assert admin_client.get(url_of(Group, "change", role.pk)).status_code == 200
    assert admin_client.post(url_of(Group, "change", role.pk), {"name": "x"}).status_code == 403
    assert admin_client.post(url_of(Group, "delete", role.pk), {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [role.pk, other.pk], "post": "yes"}
    admin_client.post(url_of(Group, "changelist"), form)
    assert Group.objects.filter(name=EDITOR).exists()
    admin_client.post(url_of(Group, "change", other.pk), {"name": "Bookkeeping"})
    assert Group.objects.filter(name="Bookkeeping").exists()
