"""A chatbot with the limits of a test and no others."""

import pytest

from tests.support.guests import NO_LIMITS


@pytest.fixture
def limited(bot):
    """Return a function that saves the bot with the given limits and no others."""

    def limit(**limits):
        for name, value in (NO_LIMITS | limits).items():
            setattr(bot, name, value)
        bot.save()
        return bot

    return limit
