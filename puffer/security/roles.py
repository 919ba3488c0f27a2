"""The roles: three groups, and what their members may do in the admin.

Every `migrate` sets the permissions of the groups to RIGHTS. Create a group with another name for other permissions.
"""

from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.db import DEFAULT_DB_ALIAS

OWNER, EDITOR, VIEWER = "Owner", "Editor", "Viewer"
ROLES = [OWNER, EDITOR, VIEWER]

# What Editors and Viewers may do with each model; Owners may do everything. A test fails for a model that is missing
# here, so that no permission is given or withheld by accident.
EVERYTHING = "view add change delete"
RIGHTS: dict[str, dict[str, str]] = {
    "chatbots.chatbot": {EDITOR: EVERYTHING, VIEWER: "view"},
    "chatbots.consent": {},
    "chatbots.goldenquestion": {},  # no permissions: those for chatbots apply
    "chatbots.goldenresult": {},
    "chatbots.goldenrun": {},
    "chatbots.historicalchatbot": {},
    "chatbots.messagecount": {},
    "chatbots.questionembedding": {},
    "chatbots.settledquestion": {},
    "chatbots.signedoutvisitor": {},
    "chatbots.tokenallowance": {},
    "chatbots.usedidentity": {},
    "logs.conversation": {EDITOR: "view", VIEWER: "view"},
    "logs.conversationdailytotal": {},
    "logs.message": {EDITOR: "view", VIEWER: "view"},
    "logs.modelprice": {EDITOR: "view", VIEWER: "view"},
    "logs.usagedailytotal": {},
    "logs.usageevent": {EDITOR: "view", VIEWER: "view"},
    "logs.webhook": {},  # owners only: it sends visitors' messages to another server
    "logs.webhookdelivery": {},
    "providers.providerconfig": {EDITOR: "view"},
    "puffer.apikey": {},
    "puffer.authenticatorapp": {},
    "puffer.idempotentcall": {},
    "puffer.recoverycode": {},
    "puffer.session": {},
    "vectorstores.collection": {EDITOR: EVERYTHING},
    "vectorstores.document": {EDITOR: EVERYTHING},
    "vectorstores.documentclaim": {},
    "vectorstores.importrun": {},
    "vectorstores.localvector": {},
    "vectorstores.reranker": {EDITOR: "view"},
    "vectorstores.source": {EDITOR: EVERYTHING},
    "vectorstores.sourcepage": {},  # no permissions: those for sources apply
    "vectorstores.storeconfig": {EDITOR: "view"},
    "vectorstores.upload": {},  # no permissions: those for documents apply
    "vectorstores.uploadcontent": {},
    "vectorstores.vectordeletion": {},
}


def may(role: str, app_label: str, codename: str) -> bool:
    """Return whether the role has a permission such as `view_chatbot`; others than the usual four are for owners."""
    action, _, model = codename.partition("_")
    return role == OWNER or action in RIGHTS.get(f"{app_label}.{model}", {}).get(role, "").split()


def grant(app_config: AppConfig, using: str = DEFAULT_DB_ALIAS, apps: Any = installed_apps, **migration: Any) -> None:
    """Set the permissions of the roles for one app; receiver of `post_migrate`.

    A migration could not do it, because Django creates the permissions after all migrations.
    """
    try:
        Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    except LookupError:  # migrated to a state before these tables exist
        return
    of_the_app = Permission.objects.using(using).filter(content_type__app_label=app_config.label)
    permissions = list(of_the_app)
    if not permissions:
        return
    for role in ROLES:
        group, _ = Group.objects.using(using).get_or_create(name=role)
        wanted = {permission for permission in permissions if may(role, app_config.label, permission.codename)}
        granted = set(group.permissions.filter(pk__in=of_the_app))
        group.permissions.remove(*granted - wanted)
        group.permissions.add(*wanted - granted)
