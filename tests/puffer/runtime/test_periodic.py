"""The timer for periodic tasks."""

from puffer.runtime import Periodic


def test_a_task_is_due_at_first_and_again_after_its_period():
    hourly, always = Periodic(every_seconds=3600), Periodic(every_seconds=0)
    assert hourly.is_due()
    assert hourly.is_due()  # until it is restarted
    hourly.restart()
    assert not hourly.is_due()
    always.restart()
    assert always.is_due()
