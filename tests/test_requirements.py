"""The packages that the code imports are declared, and what is declared is locked."""

import ast
import re
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APPS = ["puffer", "logs", "providers", "vectorstores", "chatbots"]
MODULES = packages_distributions()  # {module: names of the distributions that provide it}
OURS = {
    *APPS,
    "tests",
    "servers",
    "generated_logs",
    "retrieval",
}  # the last three: neighbors of the benchmarks that import them
LOCKS = ["requirements", "requirements-dev", "requirements-local"]
# Loaded by uvicorn; pytest-django is listed there although only tests use it.
NEVER_IMPORTED = {"uvloop", "pytest-django"}
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)", re.MULTILINE)


def pins(file: str) -> dict[str, str]:
    """Return {normalized package name: version}."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall((ROOT / file).read_text())}


def third_party_imports(folder: str) -> set[str]:
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names & MODULES.keys() - OURS


def distributions(module: str) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in MODULES[module]}


@pytest.mark.parametrize("folder", [*APPS, "tests", "benchmarks"])
def test_every_imported_package_is_declared(folder):
    files = ["requirements.txt", "requirements-local.txt" if folder in APPS else "requirements-dev.txt"]
    declared = {name for file in files for name in pins(file)}
    assert not {module for module in third_party_imports(folder) if not distributions(module) & declared}


def test_every_declared_package_is_imported_or_in_the_settings():
    imported = {name for app in APPS for module in third_party_imports(app) for name in distributions(module)}
    settings = (ROOT / "puffer" / "settings.py").read_text()
    installed_apps = {name for module in MODULES if f'"{module}' in settings for name in distributions(module)}
    assert pins("requirements.txt").keys() - imported - installed_apps == NEVER_IMPORTED


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_pin_every_requirement_with_hashes(name):
    locked, lines = pins(f"{name}.lock"), (ROOT / f"{name}.lock").read_text().splitlines()
    assert pins(f"{name}.txt").items() <= locked.items(), "run `make lock`"
    assert len([line for line in lines if "==" in line]) == len(locked)
    for line, following in pairwise(lines):
        assert "==" not in line or following.startswith("    --hash=sha256:"), line


def test_the_lock_files_agree():
    run, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert run.items() <= dev.items()


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_contain_no_urls_or_local_paths(name):
    options = {line for line in (ROOT / f"{name}.lock").read_text().splitlines() if re.match(r"-|.*(://|\s/)", line)}
    assert options <= {"--only-binary :all:"}
