"""A web site on loopback whose pages change: it answers conditional requests and records all requests."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LAST_MODIFIED = "Tue, 01 Dec 2026 10:00:00 GMT"


@dataclass
class Answer:
    """What a path is answered with. `stamps` are the headers that it has for conditional requests."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)
    stamps: str = "etag"  # "etag", "date", ""
    seconds: float = 0  # before it is sent


@dataclass(frozen=True)
class Request:
    path: str
    status: int
    headers: dict[str, str]


class Website(ThreadingHTTPServer):
    """A site whose `answers` are by path. Others are 404; so is robots.txt, which allows everything."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.host = f"127.0.0.1:{self.server_port}"
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []

    def serve(self, **pages: Any) -> None:
        """Set the answers of paths, which have "__" for "/". A text is the body of a page with that title."""
        for name, content in pages.items():
            path = f"/{name.replace('__', '/')}"
            self.answers[path] = content if isinstance(content, Answer) else Answer(html(name, content))

    def map(self, *names: str, path: str = "/sitemap.xml") -> None:
        """Serve a sitemap of the pages, or of all HTML pages."""
        paths = [f"/{name.replace('__', '/')}" for name in names] or [
            path for path, answer in self.answers.items() if answer.content_type == "text/html"
        ]
        entries = "".join(f"<url><loc>{self.url}{path}</loc></url>" for path in paths)
        text = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'
        self.answers[path] = Answer(text.encode(), content_type="application/xml", stamps="")

    def feed(self, *names: str) -> None:
        items = "".join(f"<item><title>{name}</title><link>{self.url}/{name}</link></item>" for name in names)
        text = f'<rss version="2.0"><channel>{items}</channel></rss>'
        self.answers["/feed.xml"] = Answer(text.encode(), content_type="application/rss+xml", stamps="")

    def drop(self, *names: str) -> None:
        for name in names:
            del self.answers[f"/{name}"]

    def statuses(self) -> dict[str, int]:
        """Return the status of the latest answer to each path, and forget the requests."""
        statuses = {request.path: request.status for request in self.requests}
        self.requests.clear()
        return statuses


class Handler(BaseHTTPRequestHandler):
    server: Website

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0]) or Answer(status=404)
        time.sleep(answer.seconds)
        headers, status, body = dict(answer.headers), answer.status, answer.body
        if answer.stamps == "etag":
            headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        elif answer.stamps == "date":
            headers["Last-Modified"] = LAST_MODIFIED
        is_known = self.headers.get("If-None-Match") == headers.get("ETag", "-") or (
            self.headers.get("If-Modified-Since") == headers.get("Last-Modified", "-")
        )
        if is_known and status == 200:
            status, body = 304, b""
        self.server.requests.append(Request(self.path, status, dict(self.headers)))
        self.send_response(status)
        for name, value in {"Content-Type": answer.content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def html(title: str, text: str, head: str = "") -> bytes:
    return f"<html><head><title>{title}</title>{head}</head><body><p>{text}</p></body></html>".encode()


@contextmanager
def running_website() -> Iterator[Website]:
    site = Website()
    thread = threading.Thread(target=site.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
