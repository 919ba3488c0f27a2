"""The documentation names only what exists: files, commands, variables, make targets."""

import json
import re
import shlex

import pytest
from django.core.management import get_commands, load_command_class

from tests.support.repository import README, ROOT

VARIABLES = README + (ROOT / "docs" / "configuration.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
SETTINGS = (ROOT / "puffer" / "settings.py").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
FILE_NAMES = re.compile(r"`((?:puffer|logs|providers|vectorstores|chatbots|tests|docs|benchmarks)/[\w/.]+)`")
TUNING = {"CONN_MAX_AGE", "STATIC_ROOT"}  # described only in settings.py
SET_BY_SERVE = {"LOCAL_MODEL_URL", "LOCAL_MODEL_TOKEN"}


def test_every_environment_variable_is_documented():
    in_settings = set(re.findall(r"env\.\w+\(\s*\"([A-Z_]+)\"", SETTINGS)) | {"DATABASE_URL"}
    documented = set(re.findall(r"`([A-Z]+_[A-Z_]+|DEBUG)`", VARIABLES))
    assert in_settings - documented == TUNING | SET_BY_SERVE
    assert documented <= in_settings


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_point_to_existing_files(document):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_mentioned_files_exist(document):
    for name in FILE_NAMES.findall(document.read_text()):
        assert (ROOT / name).exists(), name


def test_every_command_is_documented_with_its_options():
    apps = ("puffer", "logs", "providers", "vectorstores", "chatbots")
    our_commands = {name for name, app in get_commands().items() if app in apps}
    lines = re.findall(r"^python manage\.py (\w+)(.*)$", COMMANDS, re.MULTILINE)
    assert {name for name, _ in lines} == our_commands - {"create_demo_bot"}  # quickstart runs it
    for name, usage in lines:
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        options = {option for action in parser._actions for option in action.option_strings}
        assert set(re.findall(r"--[\w-]+", usage)) <= options


def test_every_labeled_answer_is_in_exactly_one_document():
    """Check the labels of benchmarks/retrieval_quality.py: after editing a quoted sentence, update its label too."""
    texts = [" ".join(document.read_text().split()) for document in DOCUMENTS]
    for label in json.loads((ROOT / "benchmarks" / "retrieval_questions.json").read_text())["puffer"]:
        assert sum(text.count(" ".join(label["answer"].split())) for text in texts) == 1, label


def test_every_make_target_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        for line in re.findall(r"(?:^|`)make ([a-z -]+?)(?:`| {2}|$)", document.read_text(), re.MULTILINE):
            assert set(shlex.split(line)) <= targets
