"""Parameters that a server of OpenAI's protocol may refuse: found in its error, and left out or renamed.

Vendors, and even models of one vendor, accept different parameters, and show it only by refusing a call.
"""

import re
from typing import Any

from providers.error_messages import body_of

REFUSED_STATUSES = {400, 422}
# The two names of one limit: if an error names one, the other is sent.
RENAMED = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
# Left out as soon as an error names them, because puffer adds them and no caller needs them.
ADDED = {"stream_options", "encoding_format"}
# Left out if the error says that they are not supported, and not that their value is wrong.
OPTIONAL = {"stream", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "reasoning_effort"}
OPTIONAL |= {"reasoning", "thinking", "logprobs", "top_logprobs", "user", "stop"}
UNSUPPORTED = re.compile(
    r"support|unknown|unrecogni|unexpected|extra|not (permitted|allowed|available|accepted)|forbidden|deprecated"
    r"|(invalid|no such) (field|parameter|argument|option)|additional propert",
    re.IGNORECASE,
)
# Texts about a wrong value, which the caller must change: without the parameter, their limit would not hold.
WRONG_VALUE = re.compile(
    r"too (large|small|high|low|big|long|short|many)|at (most|least)|\brange\b|between|(max|min)imum|exceed"
    r"|(less|greater|larger|smaller|more|higher|lower) than|must be|expected a|\breached\b",
    re.IGNORECASE,
)
MAX_CHARACTERS = 5000  # of an error that are searched


def refused_parameters(response: Any, body: dict[str, Any]) -> frozenset[str]:
    """Return the parameters of a request that the error names as not accepted."""
    if response.status_code not in REFUSED_STATUSES:
        return frozenset()
    text = body_of(response)[:MAX_CHARACTERS].decode(errors="replace")
    candidates = set(ADDED)
    if not WRONG_VALUE.search(text):
        candidates |= RENAMED.keys() | (OPTIONAL if UNSUPPORTED.search(text) else set())
    return frozenset(name for name in candidates & body.keys() if re.search(rf"\b{name}\b", text))


def without_refused(body: dict[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    accepted = {name: value for name, value in body.items() if name not in refused}
    for name in refused & RENAMED.keys() & body.keys():
        accepted[RENAMED[name]] = body[name]
    if "stream" in refused:
        accepted.pop("stream_options", None)
    return accepted
