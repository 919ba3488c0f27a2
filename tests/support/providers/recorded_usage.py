"""The usage record of a call, and the estimate for a stopped one."""

from logs.models import UsageEvent


def recorded_usage() -> tuple[int, str, int | None, int | None]:
    record = UsageEvent.objects.get()
    assert record.operation == "completion"
    return record.status, record.error_code, record.input_tokens, record.output_tokens


# The estimated usage of HELLO answered with "Hello": 16 characters in, 5 out
ESTIMATED = (4, 2)
