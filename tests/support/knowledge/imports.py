"""Run import_vectors, and look at what it has stored."""

import io
import json
from pathlib import Path
from typing import Any

from django.core.management import call_command

from tests.support.upstream import Upstream
from vectorstores.base import StoreSettings
from vectorstores.stores.local.driver import Local


def run(*sources: Any, code: int | None = 0, **options: Any) -> dict[str, Any]:
    """Run an import with `--json`, check its exit code (None: any), and return its summary."""
    out, err = io.StringIO(), io.StringIO()
    options = {"target": "kb", "embedding_provider": "openai", "embedding_model": "emb-1", **options}
    ended_with = 0
    try:
        call_command("import_vectors", *map(str, sources), json=True, stdout=out, stderr=err, **options)
    except SystemExit as end:
        ended_with = end.code
    assert code is None or ended_with == code, err.getvalue()
    return {**json.loads(out.getvalue()), "stderr": err.getvalue()}


def counts(summary: dict[str, Any]) -> tuple[int, int, int]:
    return summary["documents"], summary["unchanged"], summary["refused"]


def stored(target: str = "kb", namespace: str = "") -> dict[str, Any]:
    return {vector.id: vector for vector in Local(StoreSettings()).scan(target, namespace)}


def texts() -> set[str]:
    return {vector.text for vector in stored().values()}


def sent_texts(upstream: Upstream) -> list[str]:
    return [text for sent in upstream.sent if sent.method == "POST" for text in sent.json["input"]]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def post(
    number: int, *, status: str = "publish", post_type: str = "post", content: str = "", title: str = "", more: str = ""
) -> str:
    """Return an item of a WordPress export; `more` are further elements."""
    return f"""<item><title>{title or f"Post {number}"}</title><link>https://blog.example/{number}/</link>
    <guid isPermaLink="false">https://blog.example/?p={number}</guid>
    <content:encoded><![CDATA[{content or f"<p>Text of number {number}.</p>"}]]></content:encoded>
    <excerpt:encoded><![CDATA[Excerpt {number}]]></excerpt:encoded>
    <wp:post_id>{number}</wp:post_id><wp:status>{status}</wp:status><wp:post_type>{post_type}</wp:post_type>{more}</item>"""


def wxr(*posts: str, before: str = "") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>{before}
<rss version="2.0" xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/"
 xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:wp="http://wordpress.org/export/1.2/">
<channel><title>Blog</title>{"".join(posts)}</channel></rss>"""
