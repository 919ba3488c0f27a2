"""Exporting conversations: the contents of the files, CSV safety, and memory use."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import AsyncClient

from chatbots.models import Chatbot
from logs.conversations.export import COLUMNS, CONVERSATION_BATCH, MESSAGE_BATCH, escaped
from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation, Message
from tests.support.installation import migrated_file
from tests.support.processor import cpu_milliseconds
from tests.support.repository import ROOT

CONVERSATIONS = "/admin/logs/conversation/"
USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
AWKWARD = 'He said: "a, b;\r\nc"\n\u2028 \x0b é 🐡'


@pytest.fixture
def logged(bot):
    """Store a visitor's conversation of two turns with Shop, a user's with Other, and one of a deleted chatbot."""
    other = Chatbot.objects.create(name="=Other")
    ada = get_user_model().objects.create_user("ada", "ada@lovelace.example", first_name="Ada", last_name="King")
    common = {"provider": "openai", "model": "gpt-4o-mini", "usage": USAGE, "chatbot_id": bot.pk}
    eva = {
        "source": Conversation.Source.WIDGET, "session_id": "browser-1", "external_user_id": "7",
        "external_name": "@Eva", "external_email": "eva@example.com", "ip_address": "192.0.2.7",
    }  # fmt: skip
    for number, question in enumerate([AWKWARD, "=1+1"]):
        turn = Turn(question, reply=f"-{number}", conversation_uuid="one", question_id=f"q{number}", **common, **eva)
        write_turns([turn])
    write_turns(
        [Turn("Mine", reply="Yes", conversation_uuid="two", **common | {"chatbot_id": other.pk}, user_id=ada.pk)]
    )
    write_turns([Turn("Lost", error="It broke.", conversation_uuid="three", **common | {"chatbot_id": None})])
    Message.objects.filter(content="-0").update(
        feedback="up", passages=[{"title": "Shoes"}], searched_for="Are there shoes?"
    )
    return {"bot": bot, "other": other, "ada": ada}


def export(capsysbinary, *arguments):
    call_command("export_logs", *arguments)
    return capsysbinary.readouterr().out.decode()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def lines_of(text):
    return [json.loads(line) for line in text.rstrip("\n").split("\n")]


def test_csv_has_the_plugins_columns_and_a_row_per_message(logged, capsysbinary):
    text = export(capsysbinary)
    assert text.splitlines()[0].split(",") == COLUMNS
    rows = rows_of(text)
    assert [row["Message Role"] for row in rows] == ["user", "bot"] * 4
    message = Message.objects.get(content="-0")
    assert json.loads(rows[1].pop("Usage Details JSON")) == USAGE
    assert rows[1] == {
        "Conversation Parent ID": str(message.conversation_id),
        "Message ID": message.message_id,
        "Conversation UUID": "one",
        "Bot Name": "Shop",
        "User ID": "7",
        "User Name": "'@Eva",
        "Guest Session ID": "browser-1",
        "Message Timestamp": f"{message.created_at:%Y-%m-%d %H:%M:%S}",
        "Message Role": "bot",
        "Message Content": "'-0",
        "AI Provider": "openai",
        "AI Model": "gpt-4o-mini",
        "IP Address": "192.0.2.7",
        "Feedback": "up",
        "Input Tokens": "1",
        "Output Tokens": "2",
        "Total Tokens": "3",
    }
    assert rows[0]["Message Content"] == AWKWARD
    assert rows[4]["User ID"] == str(logged["ada"].pk)
    assert (rows[4]["User Name"], rows[4]["Bot Name"]) == ("Ada King", "'=Other")
    assert (rows[6]["User Name"], rows[6]["Bot Name"]) == ("Guest", "(Deleted Bot)")
    assert rows[7]["Message Content"] == "Error: It broke."


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_csv_cells_are_never_formulas(bot, capsysbinary, start):
    formula = f'{start}HYPERLINK("https://evil.example","x")'
    turn = Turn(
        formula, bot.pk, formula, formula, reply=formula, usage=USAGE, conversation_uuid="one", session_id=formula,
        source=Conversation.Source.WIDGET, external_user_id=formula, external_name=formula,
    )  # fmt: skip
    write_turns([turn])
    Chatbot.objects.update(name=formula)
    for row in rows_of(export(capsysbinary)):
        cells = list(row.values())
        assert not any(cell.startswith(start) for cell in cells)
        assert cells.count(f"'{formula}") >= 5


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "text",
    [
        "shoes;=1+1",
        "shoes; \t=1+1",
        'shoes;"=1+1"',
        "shoes\n=1+1",
        "shoes\r\n\r\n@SUM(1)",
        "shoes\n-2+3+cmd|' /C calc'!A0",
        " =1+1",
        '"=1+1',
        "shoes\t+1",
        "a;b;＝1",
    ],
)
def test_csv_cells_are_never_formulas_whatever_separates_them(bot, capsysbinary, separator, text):
    write_turns([Turn(text, bot.pk, reply=text, conversation_uuid="one", external_name=text)])
    lines = export(capsysbinary)
    for row in csv.reader(io.StringIO(lines, newline=""), delimiter=separator):
        assert not [cell for cell in row if cell.strip('" \t\r\n').startswith(tuple("=+-@＝"))]
    if separator == ",":
        assert rows_of(lines)[0]["Message Content"].replace("'", "") == text.replace("'", "")


def test_marking_formulas_takes_linear_time():
    for text in ("\n" * 200_000, ";" * 200_000, '"' * 200_000, ";=" * 100_000):
        assert cpu_milliseconds(lambda text=text: escaped(text), 1000) < 1000


def test_json_lines_contain_all_unchanged_data(logged, capsysbinary):
    text = export(capsysbinary, "--format", "jsonl")
    one, two, three = lines_of(text)
    conversation = Conversation.objects.get(conversation_uuid="one")
    messages = one.pop("messages")
    assert one == {
        "id": conversation.pk,
        "conversation_uuid": "one",
        "bot_id": logged["bot"].pk,
        "bot_name": "Shop",
        "source": "widget",
        "api_key": None,
        "user_id": None,
        "user_name": None,
        "user_email": None,
        "external_user_id": "7",
        "external_name": "@Eva",
        "external_email": "eva@example.com",
        "session_id": "browser-1",
        "ip_address": "192.0.2.7",
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
    }
    assert [message["content"] for message in messages] == [AWKWARD, "-0", "=1+1", "-1"]
    assert messages[0].keys() == {"message_id", "role", "content", "created_at", "redactions"}
    assert (messages[1]["usage"], messages[1]["feedback"]) == (USAGE, "up")
    assert messages[1]["passages"] == [{"title": "Shoes"}]
    assert messages[1]["searched_for"] == "Are there shoes?"
    assert (two["user_name"], two["user_email"]) == ("ada", "ada@lovelace.example")
    assert (three["bot_id"], three["messages"][1]["error"]) == (None, "It broke.")


def test_filters_by_chatbot_and_day(logged, capsysbinary):
    def uuids(*arguments):
        return {row["Conversation UUID"] for row in rows_of(export(capsysbinary, *arguments))}

    Conversation.objects.filter(conversation_uuid="one").update(updated_at=datetime(2026, 3, 1, 0, 0, tzinfo=UTC))
    assert uuids("--bot", str(logged["bot"].pk)) == {"one"}
    assert uuids("--bot", str(logged["bot"].pk), "--bot", str(logged["other"].pk)) == {"one", "two"}
    assert uuids("--bot", "999") == set()
    assert uuids("--since", "2026-03-01") == {"one", "two", "three"}
    assert uuids("--since", "2026-03-02") == {"two", "three"}
    with pytest.raises(CommandError, match="a day, such as"):
        call_command("export_logs", "--since", "yesterday")


def test_export_to_a_file(logged, tmp_path, capsys):
    file = tmp_path / "logs.jsonl"
    call_command("export_logs", "--format", "jsonl", "--output", str(file))
    assert len(lines_of(file.read_text())) == 3
    assert list(tmp_path.iterdir()) == [file]
    assert "Exported 3 conversations." in capsys.readouterr().err
    with pytest.raises(CommandError, match=r"cannot be written: No such file or directory\."):
        call_command("export_logs", "--output", str(tmp_path / "nowhere" / "logs.csv"))


def test_exports_larger_than_a_batch(bot, capsysbinary):
    """Export more conversations than a batch, one with more messages than a batch, and one without messages."""
    count = CONVERSATION_BATCH * 2 + 1
    Conversation.objects.bulk_create(Conversation(chatbot=bot, identity=str(n)) for n in range(count))
    long, *others, empty = Conversation.objects.order_by("id")
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", content=str(n))
        for n in range(MESSAGE_BATCH + 1)
        for conversation in ([long, others[0]] if n > 1 else [long, *others])
    )
    lines = {line["id"]: line["messages"] for line in lines_of(export(capsysbinary, "--format", "jsonl"))}
    assert len(lines) == count
    everything = [str(n) for n in range(MESSAGE_BATCH + 1)]
    assert [message["content"] for message in lines[long.pk]] == everything
    assert [message["content"] for message in lines[others[0].pk]] == everything
    assert all(len(lines[other.pk]) == 2 for other in others[1:])
    assert lines[empty.pk] == []
    rows = rows_of(export(capsysbinary))
    assert len(rows) == Message.objects.count()
    assert [row["Message Content"] for row in rows if row["Conversation Parent ID"] == str(long.pk)] == everything


# In the admin


def post(user, action, *conversations, **more):
    @async_to_sync
    async def send():
        client = AsyncClient()
        await client.aforce_login(user)
        response = await client.post(
            CONVERSATIONS, {"action": action, "_selected_action": [c.pk for c in conversations], **more}
        )
        content = b"".join([part async for part in response]) if response.streaming else response.content
        return response, content.decode()

    return send()


def test_selected_conversations_are_downloaded(logged, admin_user):
    one, two, three = Conversation.objects.order_by("id")
    response, text = post(admin_user, "export_as_csv", one, three)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="conversations-20')
    assert {row["Conversation UUID"] for row in rows_of(text)} == {"one", "three"}
    response, text = post(admin_user, "export_as_json", two)
    assert response["Content-Disposition"].endswith('.jsonl"')
    assert [line["conversation_uuid"] for line in lines_of(text)] == ["two"]
    response, text = post(admin_user, "export_as_json", two, select_across="1")
    assert len(lines_of(text)) == 3


def test_users_with_view_permission_can_export_but_not_delete(logged):
    viewer = get_user_model().objects.create_user("viewer", is_staff=True)
    conversation = Conversation.objects.all()[0]
    assert post(viewer, "export_as_csv", conversation)[0].status_code == 403
    viewer.user_permissions.add(Permission.objects.get(codename="view_conversation"))
    assert len(lines_of(post(viewer, "export_as_json", conversation)[1])) == 1
    post(viewer, "delete_selected", conversation, post="yes")
    assert Conversation.objects.count() == 3


# Memory

FILL = """
import sys, uuid, django
django.setup()
from logs.models import Conversation, Message
for _ in range(int(sys.argv[1]) // 1000):
    begun = Conversation.objects.bulk_create(Conversation(identity=uuid.uuid4().hex) for _ in range(1000))
    Message.objects.bulk_create(
        Message(conversation=conversation, role=role, content="Do you sell shoes? " * 10, usage={"input_tokens": 1})
        for conversation in begun for role in ("user", "bot")
    )
"""
EXPORT = """
import re, sys, django
django.setup()
from django.core.management import call_command
from tests.support.processor import cpu_milliseconds
call_command("export_logs", *sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Peak memory is read from /proc.")
def test_memory_does_not_grow_with_the_log(tmp_path):
    """Export twelve times as many conversations in a new process, and compare the peak memory in KB."""

    def run(program: str, *arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    file = shutil.copy(migrated_file(), tmp_path)
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{file}", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    peaks: dict[str, list[int]] = {"csv": [], "jsonl": []}
    for added in (1000, 11_000):
        run(FILL, str(added))
        for file_format, peak in peaks.items():
            peak.append(int(run(EXPORT, "--format", file_format, "--output", str(tmp_path / file_format))))
    assert len((tmp_path / "jsonl").read_bytes().splitlines()) == 12_000
    assert len((tmp_path / "csv").read_bytes().splitlines()) == 24_001
    for few, many in peaks.values():
        assert many - few < 5000, peaks
        assert many < 150_000, peaks
