"""The shape of the code: imports go one way, and providers' SDKs stay in their adapters."""

import ast
import re
from pathlib import Path

import pytest

from providers.base import Capability
from providers.registry import PROVIDERS

ROOT = Path(__file__).parent.parent
LAYERS = ["puffer", "logs", "providers", "vectorstores", "chatbots"]  # each imports only those to its left
NAME_EVERY_APP = {"puffer/settings.py", "puffer/urls.py"}
SDKS = {"openai", "anthropic", "google"}
KNOW_SDKS = ("providers/adapters/", "providers/upstream_errors.py", "providers/http_client.py")

FILES = [path.relative_to(ROOT).as_posix() for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported_packages(file: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("file", [file for file in FILES if file not in NAME_EVERY_APP])
def test_imports_go_one_way(file):
    layer = file.partition("/")[0]
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    assert not imported_packages(file) & above


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.slug)
def test_an_adapter_has_the_methods_that_its_capabilities_name(provider):
    methods = {
        Capability.COMPLETION: ["complete", "stream"],
        Capability.EMBEDDING: ["embed"],
        Capability.IMAGE: ["generate_images"],
    }
    assert all(hasattr(provider, name) for capability in provider.capabilities for name in methods[capability])


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(KNOW_SDKS)])
def test_sdks_stay_in_their_adapters(file):
    assert not imported_packages(file) & SDKS


def test_tests_import_what_they_share_from_their_support_package():
    """No module imports from a test module or a conftest.py."""
    others = re.compile(r"^\s*(?:from|import) tests\b(?!\.support\b|\.settings\b).*", re.MULTILINE)
    found = {path.name: others.findall(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert not {name: lines for name, lines in found.items() if lines}
