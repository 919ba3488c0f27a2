"""Clean the base URLs that users paste: with the path of a call, in quotes, or with the version twice."""

import re
from functools import lru_cache
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

VERSION = re.compile(r"/v\d[^/]*(?=/|$)")
TWICE = re.compile(r"(/[^/]+)\1(?=/|$)")
SLASHES = re.compile(r"//+")
QUOTES = " \t\r\n\"'`<>"
# The paths of calls in OpenAI's protocol.
CALL = re.compile(
    r"/(chat/completions|completions|responses|embeddings|moderations|models|images(/generations|/edits)?)/?$"
)
# Also cut off: the paths of each provider's own protocol, which its adapter adds.
OWN_PATHS = {
    "claude": re.compile(r"(/v1)?(/(messages|complete|models)(/.*)?)?$"),
    "google": re.compile(r"(/v\d[^/]*|/models)(/.*)?$"),
    "ollama": re.compile(r"/api(/(chat|generate|tags|embed|embeddings|show|ps|version))?$"),
}
# Azure's endpoint, the path of its newer API, and what the portal shows after either.
AZURE = re.compile(r"(?P<endpoint>.*?)(/openai(?P<v1>/v1)?(/.*)?|(?P<foundry>/(models|api/projects)(/.*)?))$")
AZURE_V1 = "/openai/v1"


@lru_cache(maxsize=256)
def clean_base_url(slug: str, url: str, default: str = "") -> tuple[str, str]:
    """Return the base URL that is meant, and the API version in its query (Azure), or "".

    An invalid URL is returned unchanged, and the validation refuses it. `default` is the vendor's base URL.
    """
    url = url.strip(QUOTES)
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, ""
    path = TWICE.sub(r"\1", SLASHES.sub("/", parts.path)).rstrip("/")
    if slug == "azure":
        return clean_azure(parts, path)
    bare = CALL.sub("", path)
    if bare != path and VERSION.search(bare):  # otherwise keep the call: it tells with_version() not to add one
        path = bare
    if own := OWN_PATHS.get(slug):
        path = own.sub("", path, count=1)
    vendor = urlsplit(default)
    if parts.hostname and parts.hostname == vendor.hostname and vendor.path.endswith(path):
        path = vendor.path
    return urlunsplit(parts._replace(path=path)), ""


def clean_azure(parts: SplitResult, path: str) -> tuple[str, str]:
    if found := AZURE.match(path):
        is_v1 = found["v1"] or found["foundry"]
        path = found["endpoint"] + (AZURE_V1 if is_v1 else "")
    query = dict(parse_qsl(parts.query))
    if query.keys() == {"api-version"}:
        return urlunsplit(parts._replace(path=path, query="")), query["api-version"]
    return urlunsplit(parts._replace(path=path)), ""


def with_version(base_url: str) -> str:
    """Append /v1 unless the path contains a version, or ends with a call and so has none."""
    bare = CALL.sub("", base_url)
    if bare != base_url or VERSION.search(urlsplit(base_url).path):
        return bare
    return f"{base_url.rstrip('/')}/v1"
