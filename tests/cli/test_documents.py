"""Every `outbox ...` that README.md and the runbook print is a command of the real command line, values included."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import typer

from publisher.tokens import generate_key
from relay.cli.application import Invocation, build
from tests.cli.calling import Outbox
from tests.processes import ROOT

DOCUMENTS: Final = ("README.md", "deploy/RUNBOOK.md")
# What stands for a value, and a value of its kind.
PLACEHOLDERS: Final = {
    "ID": "4711",
    "KEY": "instagram:17841405822304914",
    "MEDIA_ID": "17901234567890123",
    "URL": "https://cdn.example/1.jpg",
}
# Where a command ends in a line: a comment, what the shell does next, two blanks before words of explanation.
END: Final = re.compile(r"\s+#|\s*[|;&<>)]|\s{2,}|\s*$")
NOWHERE: Final = "postgresql://nobody@127.0.0.1:1/nowhere"
# They ask no database, or wait for one: that their words and options are right is enough.
LEFT_UNCALLED: Final = {"relay", "sandbox", "demo", "bench", "migrate", "check-media", "completion", "settings"}
LACKING: Final = {"MissingParameter", "NoArgsIsHelpError"}
# Names of spans, not commands.
SPANS: Final = {"dispatch", "settle"}


@dataclass(frozen=True, slots=True)
class Printed:
    """A command; whole where it is to be typed as it stands, else the mention of one in a sentence."""

    text: str
    whole: bool

    @property
    def arguments(self) -> list[str]:
        """Its words, placeholders filled."""
        return [PLACEHOLDERS.get(word, word) for word in shlex.split(re.sub(r"\[|\]", "", self.text))]


def printed(document: str) -> Iterator[Printed]:
    """What stands in blocks of code, and in the text between them."""
    for index, part in enumerate(re.split(r"^```.*$", (ROOT / document).read_text(), flags=re.MULTILINE)):
        if index % 2:
            for line in re.sub(r"\\\n\s*", "", part).splitlines():
                for found in re.findall(r"(?:^|(?<!-n)[\s(/])outbox ([a-z].*)", line):
                    yield Printed(found[: END.search(found).start()], whole=True)  # type: ignore[union-attr]
        else:
            for found in re.findall(r"`outbox\s([^`]+)`", part):
                text = " ".join(found.split())
                yield Printed(text[: END.search(text).start()], whole=False)  # type: ignore[union-attr]


COMMANDS: Final = sorted({each for document in DOCUMENTS for each in printed(document)}, key=repr)


def parse(command: Printed) -> None:
    """Take the words as the command line does, and call nothing. Raises typer's exceptions."""
    context: Any = build().make_context("outbox", command.arguments, obj=Invocation())
    while hasattr(context.command, "resolve_command"):
        words = [*context._protected_args, *context.args]
        name, called, rest = context.command.resolve_command(context, words)
        context = called.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.text)
def test_a_printed_command_is_one(command: Printed, unset: Outbox) -> None:
    """Its options exist, its values have their form, and all that it then lacks is a database."""
    if command.text in SPANS:
        return
    try:
        parse(command)
    except typer.TyperException as error:
        # A sentence may name a command without all that it needs.
        if command.whole or type(error).__name__ not in LACKING:
            pytest.fail(error.format_message())
        return
    if command.arguments[0] in LEFT_UNCALLED or command.arguments[:2] == ["accounts", "generate-key"]:
        return
    unset.set(OUTBOX_DSN=NOWHERE, PUBLISHER_TOKEN_KEYS=generate_key())
    answer = unset(*command.arguments, stdin="EAA-a-token\n")
    assert "can't connect to PostgreSQL" in answer.err + answer.out, answer


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_documents_print_commands(document: str) -> None:
    """Else the test above would have found nothing to read."""
    assert len(set(printed(document))) > 25
