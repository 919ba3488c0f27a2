"""The roles: three groups, and what their members may do in the admin.

Every `migrate` sets the groups' permissions to what stands here, also those of models that came with it. Who needs
another mixture makes a group of another name.
"""

from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.db import DEFAULT_DB_ALIAS

OWNER, EDITOR, VIEWER = "Owner", "Editor", "Viewer"
ROLES = [OWNER, EDITOR, VIEWER]

# What Editors and Viewers may do with each model. An Owner may do everything with all. A test fails for a model of ours
# that is not here, so that nothing is opened, or kept from somebody, by being forgotten.
EVERYTHING = "view add change delete"
RIGHTS: dict[str, dict[str, str]] = {
    "chatbots.chatbot": {EDITOR: EVERYTHING, VIEWER: "view"},
    "chatbots.consent": {},
    "chatbots.goldenquestion": {},  # belong to their chatbot: who may change it, may change them
    "chatbots.goldenresult": {},
    "chatbots.goldenrun": {},
    "chatbots.historicalchatbot": {},
    "chatbots.messagecount": {},
    "chatbots.questionembedding": {},
    "chatbots.settledquestion": {},
    "chatbots.tokenallowance": {},
    "chatbots.usedidentity": {},
    "logs.conversation": {EDITOR: "view", VIEWER: "view"},
    "logs.conversationdailytotal": {},
    "logs.message": {EDITOR: "view", VIEWER: "view"},
    "logs.modelprice": {EDITOR: "view", VIEWER: "view"},
    "logs.usagedailytotal": {},
    "logs.usageevent": {EDITOR: "view", VIEWER: "view"},
    "logs.webhook": {},  # what visitors say goes to where it points
    "logs.webhookdelivery": {},
    "providers.providerconfig": {EDITOR: "view"},
    "puffer.apikey": {},
    "vectorstores.collection": {EDITOR: EVERYTHING},
    "vectorstores.document": {EDITOR: EVERYTHING},
    "vectorstores.localvector": {},
    "vectorstores.storeconfig": {EDITOR: "view"},
    "vectorstores.upload": {},  # have no permissions of their own: who may do it with documents, may do it with them
    "vectorstores.uploadcontent": {},
}


def may(role: str, app_label: str, codename: str) -> bool:
    """Whether the role has a permission, which Django names by deed and model: `view_chatbot`."""
    deed, _, model = codename.partition("_")
    return role == OWNER or deed in RIGHTS.get(f"{app_label}.{model}", {}).get(role, "").split()


def grant(app_config: AppConfig, using: str = DEFAULT_DB_ALIAS, apps: Any = installed_apps, **migration: Any) -> None:
    """Give the roles what is theirs in one app, after `migrate` has made the app's permissions.

    A receiver of `post_migrate`, for permissions are made there: a migration runs before they exist.
    """
    try:
        Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    except LookupError:  # migrated as far as where there is no such table yet
        return
    of_the_app = Permission.objects.using(using).filter(content_type__app_label=app_config.label)
    permissions = list(of_the_app)
    if not permissions:
        return
    for role in ROLES:
        group, _ = Group.objects.using(using).get_or_create(name=role)
        right = {permission for permission in permissions if may(role, app_config.label, permission.codename)}
        has = set(group.permissions.filter(pk__in=of_the_app))
        group.permissions.remove(*has - right)
        group.permissions.add(*right - has)
