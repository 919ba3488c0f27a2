"""Admin users, and the sign-in form."""

from django.contrib.auth.models import Group, User
from django.test import Client

PASSWORD = "correct horse"
LIMIT = 5  # failed sign-ins that lock an account
LOGIN = "/admin/login/"


def sign_in(password: str, username: str = "owner", client: Client | None = None, **request):
    form = {"username": username, "password": password}
    return (client or Client()).post(LOGIN, form, **{"REMOTE_ADDR": "192.0.2.7", **request})


def member(role: str) -> User:
    """Create a user who has the role."""
    user = User.objects.create_user(role.lower(), password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user
