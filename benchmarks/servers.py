"""The servers that are compared: how to start each, and the requests that each accepts."""

import json
import os
import shutil
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
API_KEY = "bench-key-0123456789abcdef"
MESSAGES = [{"role": "user", "content": "Say hello."}]
COMPLETION_REQUEST = {"model": "gpt-4o-mini", "messages": MESSAGES}
EMBEDDING_REQUEST = {"model": "text-embedding-3-small", "input": "hello"}


@dataclass
class Request:
    """A POST request, and the path (keys, indexes) of the upstream's text or vector in the JSON of its answer."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    place: list


class Server(ABC):
    """One server on its own port, in front of `upstream` (a base URL without /v1)."""

    slug: str
    label: str
    install: str  # the command that installs it

    def __init__(self, upstream, peers, scratch):
        self.upstream, self.peers, self.scratch = upstream, peers, scratch
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def is_installed(self):
        return True

    def prepare(self):  # noqa: B027  most servers need no preparation
        """Prepare the server once; this is not part of the cold start."""

    @abstractmethod
    def command(self) -> list: ...

    def variables(self) -> dict[str, str]:
        return {}

    def environment(self):
        """Return a bare environment: the developer's DATABASE_URL, HTTP_PROXY, ... must not change the result."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | self.variables()

    @abstractmethod
    def request(self, case) -> Request | None:
        """Return the request for a case, or None if the server has nothing to compare."""


class Puffer(Server):
    slug = "puffer"
    label = "puffer, 2 workers"
    checkout = REPOSITORY
    python = sys.executable
    bot = {
        "name": "Bench",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "instructions": "Be brief.",
        "status": "published",
    }

    def manage(self, *arguments, **options):
        return subprocess.run(
            [self.python, "manage.py", *arguments],
            cwd=self.checkout, env=self.environment(), check=True, stdout=subprocess.PIPE, text=True, **options,
        ).stdout  # fmt: skip

    def prepare(self):
        self.manage("migrate")
        created = json.loads(self.manage("import_chatbots", "-", "--json", input=json.dumps([self.bot])))
        self.bot_id = created[0]

    def command(self):
        return [self.python, self.checkout / "manage.py", "serve",
                "--host", "127.0.0.1", "--port", self.port, "--workers", "2"]  # fmt: skip

    def variables(self):
        return {
            "SECRET_KEY": "any",
            "PUFFER_API_KEY": API_KEY,
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": f"{self.upstream}/v1",
            "DATABASE_URL": f"sqlite:///{self.scratch}/bench.sqlite3",
            "MEDIA_ROOT": f"{self.scratch}/media",
            "LOCAL_MODEL": "off",
        }

    def request(self, case):
        api = "/wp-json/aipkit/v1"
        headers = {"Authorization": f"Bearer {API_KEY}"}
        if case == "embeddings":
            return Request(f"{api}/embeddings", headers, {"provider": "openai", **EMBEDDING_REQUEST}, ["embeddings", 0])
        if case == "chat":
            return Request(f"{api}/chat/{self.bot_id}/message", headers, {"messages": MESSAGES}, ["reply"])
        return Request(f"{api}/generate", headers, {"provider": "openai", **COMPLETION_REQUEST}, ["content"])


class PufferBefore(Puffer):
    """An earlier commit of puffer, to see what a change has made slower."""

    slug = "before"
    label = "puffer before, 2 workers"
    install = (
        "git worktree add {peers}/before COMMIT && python -m venv {peers}/before/.venv && "
        "{peers}/before/.venv/bin/pip install -r {peers}/before/requirements.txt"
    )

    def __init__(self, upstream, peers, scratch):
        super().__init__(upstream, peers, scratch)
        self.checkout = peers / "before"
        self.python = self.checkout / ".venv/bin/python"

    def is_installed(self):
        return self.python.exists()


class Peer(Server):
    """A gateway whose callers use OpenAI's protocol."""

    headers: dict[str, str] = {}

    def request(self, case):
        if case == "chat":
            return None  # the peers have no bots and conversations
        if case == "embeddings":
            return Request("/v1/embeddings", self.headers, EMBEDDING_REQUEST, ["data", 0, "embedding"])
        return Request("/v1/chat/completions", self.headers, COMPLETION_REQUEST, ["choices", 0, "message", "content"])


class LiteLLM(Peer):
    slug = "litellm"
    label = "LiteLLM, 2 workers"
    install = "python -m venv {peers}/litellm && {peers}/litellm/bin/pip install 'litellm[proxy]==1.106.2'"
    headers = {"Authorization": f"Bearer sk-{API_KEY}"}

    def is_installed(self):
        return any(self.peers.glob("litellm/lib/python*/site-packages/litellm-1.106.2.dist-info"))

    def prepare(self):
        models = [COMPLETION_REQUEST["model"], EMBEDDING_REQUEST["model"]]
        upstream = {"api_base": f"{self.upstream}/v1", "api_key": "sk-bench"}
        configuration = {
            "model_list": [
                {"model_name": name, "litellm_params": {"model": f"openai/{name}", **upstream}} for name in models
            ],
            "general_settings": {"master_key": f"sk-{API_KEY}"},
        }
        (self.scratch / "litellm.yaml").write_text(json.dumps(configuration))  # JSON is valid YAML

    def command(self):
        return [self.peers / "litellm/bin/litellm", "--config", self.scratch / "litellm.yaml",
                "--host", "127.0.0.1", "--port", self.port, "--num_workers", "2"]  # fmt: skip

    def variables(self):
        return {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # do not download a list of prices at every start
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
        }


class Portkey(Peer):
    slug = "portkey"
    label = "Portkey, 1 process"
    install = "cp -r benchmarks/portkey {peers}/ && npm install --prefix {peers}/portkey"

    @property
    def headers(self):
        return {
            "Authorization": "Bearer sk-bench",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{self.upstream}/v1",
        }

    def is_installed(self):
        """Return whether exactly the pinned versions are installed: with a newer hono, embeddings fail with 500."""
        lock = self.peers / "portkey/package-lock.json"
        if not lock.exists() or not shutil.which("node"):
            return False
        pinned = json.loads((REPOSITORY / "benchmarks/portkey/package.json").read_text())["dependencies"]
        packages = json.loads(lock.read_text())["packages"].items()
        installed = {(path.rpartition("node_modules/")[2], package.get("version")) for path, package in packages}
        return {(name, version) for name, version in installed if name in pinned} == set(pinned.items())

    def command(self):
        program = self.peers / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
        return ["node", program, f"--port={self.port}", "--headless"]

    def variables(self):
        return {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}


SERVERS = {server.slug: server for server in (Puffer, PufferBefore, LiteLLM, Portkey)}
