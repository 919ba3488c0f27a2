"""The structure of the code: imports go one way and through front doors, SDKs stay in adapters, files are short."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from providers.base import Capability
from providers.registry import PROVIDERS

ROOT = Path(__file__).parent.parent
APPS = ["puffer", "logs", "providers", "vectorstores", "chatbots"]  # each imports only those to its left
MAY_IMPORT_EVERY_APP = {"puffer/settings.py", "puffer/urls.py"}
SDKS = {"openai", "anthropic", "google"}
MAY_IMPORT_SDKS = ("providers/adapters/", "providers/upstream_errors.py", "providers/http_client.py")
MAX_FILES = 14  # Python files in a folder
MAX_LINES = 400  # in a Python file

FILES = [
    path.relative_to(ROOT).as_posix()
    for app in APPS
    for path in sorted((ROOT / app).rglob("*.py"))
    if "migrations" not in path.parts
]
NEIGHBORS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
]


def app_of(file: str) -> str:
    return file.partition("/")[0]


def imports(file: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each imported module with the names taken from it."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, [alias.name for alias in node.names]


def imported_packages(file: str) -> set[str]:
    return {module.partition(".")[0] for module, _ in imports(file)}


@pytest.mark.parametrize("file", [file for file in FILES if file not in MAY_IMPORT_EVERY_APP])
def test_imports_go_one_way(file):
    forbidden_apps = set(APPS[APPS.index(app_of(file)) + 1 :])
    assert not imported_packages(file) & forbidden_apps


def passes_front_door(module: str, names: list[str]) -> bool:
    """Return whether __all__ exports these names at each step of `from app.door import name`."""
    app, *path = module.split(".")
    if not path:
        return set(names) <= set(import_module(app).__all__)
    if len(path) > 1 or path[0] not in import_module(app).__all__:
        return False
    door = import_module(module)
    return not is_package(door) or set(names) <= set(door.__all__)


def is_package(module: ModuleType) -> bool:
    return hasattr(module, "__path__")


@pytest.mark.parametrize("file", [file for file in FILES if file not in MAY_IMPORT_EVERY_APP])
def test_other_apps_are_imported_through_their_front_doors(file):
    foreign = [
        (module, names)
        for module, names in imports(file)
        if app_of(module.replace(".", "/")) in APPS and app_of(module.replace(".", "/")) != app_of(file)
    ]
    assert [module for module, names in foreign if not passes_front_door(module, names)] == []


@pytest.mark.parametrize("folder", sorted({str(Path(file).parent) for file in FILES + NEIGHBORS}))
def test_folders_have_few_files(folder):
    assert len([file for file in FILES + NEIGHBORS if str(Path(file).parent) == folder]) <= MAX_FILES


@pytest.mark.parametrize("file", FILES + NEIGHBORS)
def test_files_are_short(file):
    assert len((ROOT / file).read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("file", [file for file in FILES if file.endswith("__init__.py")])
def test_packages_have_a_one_line_docstring(file):
    has_siblings = any((ROOT / file).parent.glob("*/*.py")) or len(list((ROOT / file).parent.glob("*.py"))) > 1
    docstring = ast.get_docstring(ast.parse((ROOT / file).read_text())) or ""
    assert not has_siblings or len(docstring.splitlines()) == 1


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.slug)
def test_adapters_have_the_methods_of_their_capabilities(provider):
    methods = {
        Capability.COMPLETION: ["complete", "stream"],
        Capability.EMBEDDING: ["embed"],
        Capability.IMAGE: ["generate_images"],
        Capability.MODERATION: ["moderate"],
    }
    assert all(hasattr(provider, name) for capability in provider.capabilities for name in methods[capability])


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(MAY_IMPORT_SDKS)])
def test_sdks_stay_in_their_adapters(file):
    assert not imported_packages(file) & SDKS


def test_tests_import_shared_code_only_from_the_support_package():
    others = re.compile(r"^\s*(?:from|import) tests\b(?!\.support\b|\.settings\b).*", re.MULTILINE)
    found = {path.name: others.findall(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert not {name: lines for name, lines in found.items() if lines}
