"""Bad usage is one sentence and status 2; help is quick; every change can be tried first, and says why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.core import TyperGroup

from relay.cli import BAD_USAGE, FAILED, main
from relay.cli.application import build
from tests.cli.calling import BENCHMARKS, PROGRAM, Outbox, run

COMMANDS = ["migrate", "relay", "sandbox", "demo", "settings", "emit", "events", "show", "replay", "cancel", "release"]
COMMANDS += [
    "hold",
    "holds",
    "relays",
    "lanes",
    "prune",
    "replays",
    "operations",
    "resolve",
    "doctor",
    "check-media",
    "stats",
    "top",
    "completion",
]

LIGHT = {"annotated_doc", "attr", "markdown_it", "mdurl", "orjson", "pygments", "rich", "shellingham", "typer"}
"""What help is made with; each other library is a tenth of a second that people wait for."""
OURS = {"relay.cli", "relay.redaction", "outbox.event"}

CHANGING = [
    "replay",
    "cancel",
    "resolve",
    "hold",
    "release",
    "prune",
    "recover",
    "accounts add",
    "accounts rotate-keys",
]
READING = [
    *("relay", "sandbox", "demo", "settings", "events", "show", "stats", "top", "replays", "holds", "relays", "lanes"),
    *("doctor", "check-media", "operations", "completion"),
    *("unknown list", "accounts list", "accounts show", "accounts generate-key"),
    *(f"bench {name}" for name in BENCHMARKS),
]
UNAUDITED = ["emit", "migrate"]

CLOSED = "outbox: expected somewhere to print to, found stdout closed: send it to a file, or to /dev/null\n"
"""An event and a migration are rows of their own that tell of it."""


def test_help_names_every_command(unset: Outbox) -> None:
    """All of them, and the group for accounts."""
    answer = unset("--help")
    assert answer.status == 0
    for command in [*COMMANDS, "accounts"]:
        assert f" {command} " in answer.out


@pytest.mark.parametrize("command", [[each] for each in COMMANDS] + [["accounts", "add"], ["accounts", "list"]])
def test_every_command_has_help(unset: Outbox, command: list[str]) -> None:
    """With no setting at all."""
    answer = unset(*command, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert "Usage: outbox" in answer.out


def test_help_loads_nothing_heavy() -> None:
    """What only a command needs is imported by that command: that is what makes help quick."""
    source = "import sys; before = set(sys.modules); from relay.cli import main; main(['--help'])\n"
    source += "print(*set(sys.modules) - before, file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded = set(answer.stderr.split())
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert packages - LIGHT == {"relay", "outbox"}
    ours = {name for name in loaded if name.startswith(("relay.", "outbox."))}
    assert {name for name in ours if not name.startswith(tuple(OURS))} == set()


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    if isinstance(command, TyperGroup):
        for part, each in command.commands.items():
            yield from leaves(each, f"{name} {part}".strip())
    else:
        yield name, command


def test_every_change_says_why_and_can_be_tried() -> None:
    """No command is forgotten: it changes something, with --reason and --dry-run, or it only reads."""
    commands = dict(leaves(build()))
    assert sorted(commands) == sorted([*CHANGING, *READING, *UNAUDITED])
    options = {name: {option for each in command.params for option in each.opts} for name, command in commands.items()}
    assert [name for name in CHANGING if not {"--reason", "--dry-run", "--json"} <= options[name]] == []
    assert [name for name in UNAUDITED if "--dry-run" not in options[name]] == []
    many = set(CHANGING) - {"hold", "accounts rotate-keys"}  # neither touches an event
    assert [name for name in many if "--yes" not in options[name]] == []


def test_the_version_is_the_release(unset: Outbox) -> None:
    """As packaged."""
    assert unset("--version").out == f"outbox {version('outbox-relay')}\n"


@pytest.mark.parametrize("arguments", [[], ["accounts"]])
def test_no_command_is_bad_usage_with_help(unset: Outbox, arguments: list[str]) -> None:
    """The help says what to do."""
    answer = unset(*arguments)
    assert answer.status == BAD_USAGE
    assert "Usage: outbox" in answer.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nope", "no such command 'nope'; see outbox --help"),
        ("emit", "missing argument 'TYPE'; see outbox emit --help"),
        ("events --nope", "no such option: --nope"),
        ("events --watch --before 7", "expected --watch or --before, found both"),
        ("top", "expected a terminal, found none"),
        ("events --limit 0", "invalid value for '--limit': Input should be greater than or equal to 1"),
        ("events --state ended", "invalid value for '--state'"),
        ("events --since yesterday", "expected a duration such as 2h or an instant such as 2026-07-29T18:00:00Z"),
        ("events --since 2026-07-29T18:00:00", "expected an instant with its offset such as 2026-07-29T18:00:00Z"),
        ("events --since 999999999999d", "expected a duration of 36500d at most"),
        ("emit t --publish-at +10", "expected a duration such as 90s, 15m, 2h or 7d, found '10'"),
        ("emit t --publish-at 10m", "expected a duration such as +10m or an instant"),
        ("emit t --payload [", "expected a JSON object, found another text: Expecting value at line 1, column 2"),
        ("emit t --payload []", "expected a JSON object such as {}, found an array"),
        ("emit t --payload null", "expected a JSON object such as {}, found null"),
        ("emit t --payload 1", "expected a JSON object such as {}, found a number"),
        ('emit t --payload {"n":NaN}', "found the number NaN, which JSON does not have"),
        ('emit t --payload {"n":36893488147419103232}', "write long numbers as texts"),
        ("emit t --payload @nowhere.json", "expected a file with JSON at nowhere.json, found: No such file"),
        ("emit t --header h", "expected a header as name=value, found one without a name or without ="),
        ("emit t --header h=1 --header h=2", "expected each header once, found h twice"),
        ("show x", "invalid value for 'ID'"),
        ("replay", "expected ids, or a filter such as --state dead --since 2h, found neither"),
        ("replay 1 --key k", "expected ids or a filter, found both"),
        ("replay --state waiting", "invalid value for '--state'"),
        ("cancel", "expected ids or --replay, found neither"),
        ("cancel 1 --replay 1", "expected ids or --replay, found both"),
        ("replay --rate 50/s", "expected ids, or a filter such as"),
        ("replay 1 --rate 50/s", "expected --rate with a filter"),
        ("replay 1 --limit 3", "expected --limit with a filter"),
        ("replay --resume 1 --force", "expected --resume alone: a replay goes on with"),
        ("replay --resume 1 --reason again", "expected --resume alone: a replay goes on with"),
        ("replay --resume 99999999999999999999", "invalid value for '--resume'"),
        ("replay 99999999999999999999", "invalid value for 'ID'"),
        ("resolve 0", "invalid value for 'ID'"),
        (f'emit t --payload {{"n":{"9" * 5000}}}', "found a number of thousands of digits"),
        ("replay --key k --rate 50", "expected a rate such as 50/s, 90/m or 1000/h, 10000/s at most, found '50'"),
        ("replay --key k --rate 0/s", "expected a rate such as 50/s"),
        ("replay --key k --resume 1", "expected --resume alone, found more"),
        ("release", "expected a key or --app, found neither"),
        ("release k --app", "expected a key or --app, found both"),
        ("hold --reason r", "expected a key or --app, found neither"),
        ("hold k --app --reason r", "expected a key or --app, found both"),
        ("hold k", "missing option '--reason'"),
        ("hold k --for 2h --until +2h --reason r", "expected one of --until and --for, found both"),
        ("hold k --for +2h --reason r", "expected a duration such as 90s, 15m, 2h or 7d, found '+2h'"),
        ("relays --since yesterday", "expected a duration such as 2h or an instant"),
        ("prune --older-than 30", "expected a duration such as 90s, 15m, 2h or 7d, found '30'"),
        ("prune --batch 0", "invalid value for '--batch'"),
        ("recover --begin", "expected --begin with a --reason, found none"),
        ("recover --reason r", "expected --reason with --begin, --verify or --confirm, found it alone"),
        ("migrate --sql --json", "expected one of --sql and --json, found both"),
        ("sandbox --port 65536", "invalid value for '--port'"),
        ("accounts add --platform myspace --id 1 --name n", "invalid value for '--platform'"),
    ],
)
def test_bad_usage_is_one_sentence(unset: Outbox, arguments: str, sentence: str) -> None:
    """It says what was expected and what was found, before any database is asked."""
    answer = unset(*arguments.split())
    assert answer.status == BAD_USAGE
    assert sentence in answer.sentence()


@pytest.mark.parametrize(
    ("arguments", "secret"),
    [
        ("accounts add --platform instagram --id 1 --name n EAABsbCS1iHgBA", "EAABsb"),
        ("migrate postgresql://owner:hunter2@db.example/app", "hunter2"),
        ("events --since postgresql://owner:hunter2@db.example/app", "hunter2"),
    ],
)
def test_what_was_given_in_the_wrong_place_is_not_repeated(unset: Outbox, arguments: str, secret: str) -> None:
    """It may be a token, or an address with its password, and stderr is often a log."""
    answer = unset(*arguments.split())
    assert answer.status == BAD_USAGE
    assert secret not in answer.err


def test_a_payload_that_is_no_text_is_bad_usage(unset: Outbox, tmp_path: Path) -> None:
    """A file that is not UTF-8 has its sentence too."""
    file = tmp_path / "payload.json"
    file.write_bytes(b"\xff")
    answer = unset("emit", "t", "--payload", f"@{file}")
    assert answer.status == BAD_USAGE
    assert "found: it is not UTF-8" in answer.sentence()


def test_a_payload_that_is_nested_too_deeply_is_bad_usage(unset: Outbox) -> None:
    """Where Python's parser gives up, a sentence."""
    answer = unset("emit", "t", "--payload", "-", stdin='{"a":' * 100_000)
    assert answer.status == BAD_USAGE
    assert "nested too deeply" in answer.sentence()


def test_the_program_and_the_module_are_the_same() -> None:
    """`outbox` and `python -m relay.cli`."""
    assert run("--version").out == subprocess.check_output([sys.executable, "-m", "relay.cli", "--version"], text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here: Linux has one")
def test_a_full_disk_is_one_sentence() -> None:
    """What is printed has to go somewhere."""
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr == "outbox: expected room for what is printed, found a full disk\n"


@pytest.mark.parametrize("name", [name for name, _ in leaves(build())])
def test_a_closed_stdout_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """Of every command, whatever it would print, and before it does anything."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        status = main(name.split())
    assert status == FAILED
    assert capfd.readouterr().err == CLOSED


def test_a_closed_stdout_is_seen_from_the_shell() -> None:
    """`outbox --version >&-`: an exit status, and no traceback. With stderr closed too there is nobody to tell."""
    for redirection, said in ((">&-", CLOSED), (">&- 2>&-", "")):
        command: list[str | Path] = ["sh", "-c", f'exec "$0" --version {redirection}', PROGRAM]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout, answer.stderr) == (FAILED, "", said)


def test_words_do_not_go_among_data_where_stderr_is_closed() -> None:
    """`outbox emit 2>&-`: the status tells."""
    answer = subprocess.run(["sh", "-c", 'exec "$0" emit 2>&-', PROGRAM], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (BAD_USAGE, "")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """`outbox --help | head -0` is quiet."""
    with subprocess.Popen([PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("plugin: no license for token=EAAsesame0123456789", FAILED, "outbox: plugin: no license for token="),
        (3, 3, ""),
        (None, 0, ""),
    ],
)
def test_what_ends_the_process_is_heard(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: str | int | None, status: int, said: str
) -> None:
    """A plugin may end it with a sentence or a status of its own."""

    async def end(*_: object) -> None:
        sys.exit(code)

    monkeypatch.setattr("relay.app.run", end)
    monkeypatch.setattr("relay.cli._close_stdout", lambda: None)  # the tests' own
    monkeypatch.setenv("OUTBOX_DSN", "postgresql://localhost/none")
    logging = structlog.get_config()
    assert main(["relay"]) == status
    structlog.configure(**logging)
    stderr = capfd.readouterr().err
    assert stderr.startswith(said)
    assert "sesame" not in stderr
