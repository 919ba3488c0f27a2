"""An owner, who may do everything, and a browser in which the owner is signed in."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.admin.accounts import PASSWORD


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_superuser("owner", password=PASSWORD)


@pytest.fixture
def client(owner: User) -> Client:
    client = Client()
    client.force_login(owner)
    return client
