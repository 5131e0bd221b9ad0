"""How to run PostgreSQL's programs: never as root, and not for longer than the process that started them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from schema.binaries import Binaries
from schema.errors import EmbeddedPostgresError

NOBODY = "nobody"

# Inside its own user namespace root is nobody, as PostgreSQL wants it, and still owns its files.
AS_NOBODY_IN_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")
# The kernel sends SIGINT, a fast shutdown, when the thread that started the server ends for whatever reason.
UNTIL_PARENT_ENDS = ("setpriv", "--pdeathsig", "INT", "--")


class Credentials(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that change the user."""

    user: int
    group: int
    extra_groups: list[str | int]


@dataclass(frozen=True, slots=True)
class Account:
    """The way in which this process may run a program that refuses to run as root."""

    prefix: tuple[str, ...]
    user: str | None
    ends_with_parent: bool

    def command(self, *arguments: str) -> list[str]:
        """The whole argument list for a program."""
        return [*self.prefix, *arguments]

    def credentials(self) -> Credentials:
        """What to pass to `subprocess.Popen` beside the command."""
        if self.user is None:
            return {}
        user_id, group_id = _ids(self.user)
        return {"user": user_id, "group": group_id, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make a directory of ours the account's own."""
        if self.user is not None:
            os.chown(path, *_ids(self.user))


def choose_account() -> Account:
    """Look at what this machine allows; takes a few milliseconds, starts two processes that end at once."""
    prefix: tuple[str, ...] = ()
    user = None
    if os.geteuid() == 0:
        if _works(AS_NOBODY_IN_NAMESPACE):
            prefix = AS_NOBODY_IN_NAMESPACE
        else:
            user = NOBODY
    ends_with_parent = _works(UNTIL_PARENT_ENDS)
    if ends_with_parent:
        # After unshare: a change of credentials would clear the signal.
        prefix += UNTIL_PARENT_ENDS
    return Account(prefix, user, ends_with_parent)


def make_reachable(binaries: Binaries, account: Account, home: Path) -> Binaries:
    """Let another account run the programs: it may traverse `home`, and gets a copy there of what it can't reach.

    Raises:
        EmbeddedPostgresError: The account can't run the programs, and only the wheel's can be copied.
    """
    if account.user is None:
        return binaries
    home.chmod(0o711)
    if _runs(binaries, account, home):
        return binaries
    copied = binaries.copy_into(home / "programs")
    if copied is not None and _runs(copied, account, home):
        return copied
    raise EmbeddedPostgresError(
        f"expected the user {account.user} to be able to run the programs in {binaries.directory}, for root may not; "
        "make that folder and those above it readable for all, or run as another user"
    )


def _runs(binaries: Binaries, account: Account, home: Path) -> bool:
    try:
        answer = subprocess.run(
            account.command(binaries.program("postgres"), "--version"),
            capture_output=True,
            cwd=home,
            check=False,
            **account.credentials(),
        )
    except PermissionError:
        return False
    return answer.returncode == 0


def _works(prefix: tuple[str, ...]) -> bool:
    if sys.platform != "linux" or shutil.which(prefix[0]) is None:
        return False
    return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid
