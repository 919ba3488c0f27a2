"""A collection for uploads, and users who may upload."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile

from vectorstores.ingestion.destination import Destination

SHOP = Destination("local", "shop", "openai", "text-embedding-3-small")


RETURNS = b"# Returns\n\nShoes may be returned within 45 days."


NASTY = "<script>alert(1)</script>"


LIST = "/admin/vectorstores/upload/"


def sign_in(client, *permissions):
    user = get_user_model().objects.create_user("colleague", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def file(name, data=RETURNS):
    return SimpleUploadedFile(name, data)
