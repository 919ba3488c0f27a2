"""The settings at the start of a Markdown file, and whether they keep it out of the site.

Sources: https://jekyllrb.com/docs/front-matter/, https://gohugo.io/content-management/front-matter/
"""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import yaml
from pyromark import Markdown, Options

MAX_SIZE = 64 * 1024  # characters
BLOCKS = Markdown(options=Options.ENABLE_YAML_STYLE_METADATA_BLOCKS | Options.ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS)
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NOT_PUBLIC = ("draft", "private", "pending", "archived", "unpublished", "unlisted", "hidden")


def split_front_matter(text: str) -> tuple[Mapping[str, Any], str]:
    """Return the settings, with keys in lower case, and the text below them: YAML, TOML or JSON."""
    found: object
    if text.startswith("{"):
        try:
            found, end = json.JSONDecoder().raw_decode(text[:MAX_SIZE])
        except (ValueError, RecursionError):
            return {}, text
    else:
        events = BLOCKS.events_with_range(text[:MAX_SIZE])
        event, place = next(events, ("", {"start": 0, "end": 0}))
        match event:
            case {"Start": {"MetadataBlock": kind}} if not place["start"]:
                pass
            case _:
                return {}, text
        end = len(text[:MAX_SIZE].encode()[: place["end"]].decode())
        found = settings_in("\n".join(text[:end].splitlines()[1:-1]), is_toml=kind == "PlusesStyle")
    if not isinstance(found, dict):
        return {}, text  # a text between two rules
    return {str(key).lower(): value for key, value in found.items()}, text[end:]


def settings_in(block: str, *, is_toml: bool) -> object:
    try:
        # All values of YAML stay text: a title may look like a date that does not exist.
        return tomllib.loads(block) if is_toml else yaml.load(block, Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, tomllib.TOMLDecodeError, RecursionError, ValueError):
        # Authors write `title: Returns: how` and tabs.
        named = [line.partition("=" if is_toml else ":") for line in block.splitlines()]
        return {name.strip(): value.strip().strip("\"'") for name, sign, value in named if sign and name[:1].strip()}


def reason_to_leave_out(settings: Mapping[str, Any]) -> str:
    """Return why a site generator would not publish the file; "" if it would."""
    words = {name: str(value).strip().lower() for name, value in settings.items()}
    if words.get("draft") in YES or words.get("published") in NO:
        return "It is a draft or not published, says its front matter."
    for name in ("status", "visibility", "state"):
        if words.get(name) in NOT_PUBLIC:
            return f"It is not published: its front matter says {name}: {words[name]}."
    if words.get("private") in YES or words.get("unlisted") in YES:
        return "It is not public, says its front matter."
    now = datetime.now(UTC)
    if (begin := moment_of(settings.get("publishdate"))) and begin > now:
        return f"It is published later, on {begin:%Y-%m-%d}."
    if (end := moment_of(settings.get("expirydate"))) and end < now:
        return f"It has expired, on {end:%Y-%m-%d}."
    return ""


def moment_of(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
