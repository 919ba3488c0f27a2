"""A new collection in the store at hand."""

import pytest


@pytest.fixture
def target(place):
    return place.new_collection()
