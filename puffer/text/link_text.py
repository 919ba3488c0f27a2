"""Links whose text names another address than the one they lead to."""

import re
from html import unescape
from urllib.parse import unquote, urlsplit

from puffer.text.clean import without_invisible

TAG = re.compile(r"<[^>]*>")
DOT = "[.\u2024\u3002\uff0e\uff61]"  # signs that browsers or readers take for a dot
JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\u034f"))
HOST = re.compile(rf"(?:[\w-]{{1,63}}{DOT}){{1,10}}(?:xn--[\w-]{{1,59}}|[^\W\d_]{{2,63}})|\d+(?:{DOT}\d+){{3}}")
# Endings of file names that are no top-level domains.
FILES = {
    *("css", "csv", "docx", "htm", "html", "jpeg", "jpg", "js", "json", "jsx", "pdf", "php", "png", "toml"),
    *("ts", "tsx", "txt", "xlsx", "xml", "yaml", "yml"),
}


def misleads(html: str, url: str) -> bool:
    """Return whether the link's text, as HTML, names a host that is neither the URL's nor above or below it."""
    target = host_of(url)
    text = without_invisible(unescape(TAG.sub("", html))).translate(JOINERS)
    named = map(plain, HOST.findall(text))
    return any(not is_related(host, target) for host in named if host.rpartition(".")[2] not in FILES)


def host_of(url: str) -> str:
    """Return the host of a web address or of an e-mail address; "" if there is none."""
    if url[:7].lower() == "mailto:":
        return plain(url[7:].partition("?")[0].rpartition("@")[2])
    try:
        return plain(unquote(urlsplit(url).hostname or ""))
    except ValueError:
        return ""


def has_credentials(url: str) -> bool:
    """Return whether a web address has a name before its host, as in https://bank.example@evil.example."""
    return "@" in url.partition("//")[2].partition("/")[0].partition("?")[0].partition("#")[0]


def plain(host: str) -> str:
    name = re.sub(DOT, ".", host).lower().removeprefix("www.")
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def is_related(host: str, other: str) -> bool:
    return host == other or host.endswith(f".{other}") or other.endswith(f".{host}")
