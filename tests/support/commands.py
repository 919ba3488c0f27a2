"""Run management commands."""

import io
from typing import Any

from django.core.management import call_command


def run(command: str, *args: Any, **options: Any) -> tuple[str, str]:
    """Run the command, and return its stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(command, *args, stdout=out, stderr=err, no_color=True, **options)
    return out.getvalue(), err.getvalue()
