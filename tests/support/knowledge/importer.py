"""import_vectors in processes of its own, with an embedding provider that answers at once."""

import json
import subprocess
import time
from typing import Any

from tests.support.installation import Installation
from tests.support.upstream import Upstream


class Importer(Installation):
    """An installation whose embedding provider answers at once."""

    upstream: Upstream

    def start_import(
        self, *sources: str, names_model: bool = True, name: str = "", **options: Any
    ) -> "subprocess.Popen[bytes]":
        """Start an import. `name` distinguishes imports that run at the same time."""
        model = ["--embedding-provider=openai", "--embedding-model=emb-1"] if names_model else []
        arguments = ["--target=kb", *model, "--json"]
        with (self.folder / f"{name}out").open("wb") as out, (self.folder / f"{name}err").open("wb") as err:
            return self.start("import_vectors", *sources, *arguments, **{"stdout": out, "stderr": err, **options})

    def finish(self, process: "subprocess.Popen[bytes]", code: int = 0, name: str = "") -> dict[str, Any]:
        assert process.wait(120) == code, (self.folder / f"{name}err").read_text()
        return json.loads((self.folder / f"{name}out").read_text())

    def counts(self) -> tuple[int, int, int, int]:
        """Return the counts of vectors, distinct vectors, stored documents and distinct stored documents."""
        ((vectors, different),) = self.rows("SELECT count(*), count(DISTINCT vector_id) FROM vectorstores_localvector")
        ((documents, recorded),) = self.rows(
            "SELECT count(*), count(DISTINCT parent_vector_id) FROM vectorstores_document WHERE status = 'stored'"
        )
        return vectors, different, documents, recorded

    def source(self, count: int, words: int = 3) -> str:
        file = self.folder / f"{count}.jsonl"
        with file.open("w") as lines:
            for number in range(count):
                text = f"Row {number}: " + "some more words " * words
                lines.write(json.dumps({"id": f"row-{number}", "content": text, "metadata": {"number": number}}) + "\n")
        return str(file)


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {seconds} seconds"
        time.sleep(0.005)
