"""Links whose text names another address than the one they lead to."""

import re
from html import unescape
from urllib.parse import unquote, urlsplit

from puffer.text.clean import without_invisible

TAG = re.compile(r"<[^>]*>")
DOT = "[.\u2024\u3002\uff0e\uff61]"  # signs that browsers or readers take for a dot
JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\u034f"))
# Hosts begin where a word begins: looking for one within each long word would take quadratic time.
HOST = re.compile(
    rf"(?<![\w-])(?:(?:[\w-]{{1,63}}+{DOT}){{1,10}}(?:xn--[\w-]{{1,59}}|[^\W\d_]{{2,63}})|\d++(?:{DOT}\d+){{3}})"
)
MAX_HOST = 253  # characters, of the Domain Name System
MAX_AUTHORITY = 9 * MAX_HOST  # each letter percent-encoded; urlsplit() normalizes it in quadratic time
MAX_TEXT = 2000  # characters of a link's text as HTML; nobody looks for an address in more
# Endings of file names that are no top-level domains.
FILES = {
    *("css", "csv", "docx", "htm", "html", "jpeg", "jpg", "js", "json", "jsx", "pdf", "php", "png", "toml"),
    *("ts", "tsx", "txt", "xlsx", "xml", "yaml", "yml"),
}


def misleads(html: str, url: str) -> bool:
    """Return whether the link's text, as HTML, names a host that is neither the URL's nor above or below it.

    A text that is too long to look at counts as misleading.
    """
    if len(html) > MAX_TEXT:
        return True
    target = host_of(url)
    text = without_invisible(unescape(TAG.sub("", html))).translate(JOINERS)
    named = map(plain, HOST.findall(text))
    return any(not is_related(host, target) for host in named if host.rpartition(".")[2] not in FILES)


def host_of(url: str) -> str:
    """Return the host of a web address or of an e-mail address; "" for other links."""
    if url[:7].lower() == "mailto:":
        return plain(url[7:].partition("?")[0].rpartition("@")[2])
    if len(authority(url)) > MAX_AUTHORITY:
        return ""
    try:
        return plain(unquote(urlsplit(url).hostname or ""))
    except ValueError:
        return ""


def has_credentials(url: str) -> bool:
    """Return whether a web address has a name before its host, as in https://bank.example@evil.example."""
    return "@" in authority(url)


def authority(url: str) -> str:
    """Return what stands between the scheme and the path of a web address: the host, perhaps with a name and a port."""
    return url.partition("//")[2].partition("/")[0].partition("?")[0].partition("#")[0]


def plain(host: str) -> str:
    name = re.sub(DOT, ".", host).lower().removeprefix("www.")
    if len(name) > MAX_HOST:
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def is_related(host: str, other: str) -> bool:
    return host == other or host.endswith(f".{other}") or other.endswith(f".{host}")
