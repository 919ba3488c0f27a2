"""The worker runs golden questions only, and a chatbot that is not published yet has one."""

import pytest

from tests.support.admin.golden_questions import golden


@pytest.fixture(autouse=True)
def golden_questions_job_only(settings):
    settings.WORKER_JOBS = ["chatbots.quality.golden.run_due"]


@pytest.fixture
def draft(bot):
    bot.status = "draft"
    bot.save()
    golden(bot)
    return bot
