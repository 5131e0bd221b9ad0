"""The directories that clusters live in: one owner at a time, and none left behind by a run that was killed.

An owner holds a lock on the file `owner` in its directory for as long as its process lives; the kernel drops the
lock however the process ends. A directory whose lock can be taken has lost its owner.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from schema.errors import EmbeddedPostgresError

PREFIX = "outbox-pg-"
OWNER_FILE = "owner"
PROC = Path("/proc")
# A path of a Unix socket has at most 103 bytes on macOS: room for PREFIX, a random name, /cluster/.s.PGSQL.65535.
TEMPORARY_PATH_LENGTH_MAX = 55
# Between the making of a directory and the writing of its owner file.
YOUNG_SECONDS = 60
POLL_SECONDS = 0.02
REMOVE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """A directory that this process owns until `release`."""

    path: Path
    lock: int

    @property
    def cluster(self) -> Path:
        """What the server's account owns: the data directory, and the socket while the server runs."""
        return self.path / "cluster"

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory; it need not exist yet, and is whole if it does."""
        return self.cluster / "data"

    def unfinished(self) -> Path:
        """Where to make the data directory, to be renamed when it is whole; nothing is there yet."""
        path = self.cluster / "data.unfinished"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def release(self) -> None:
        """Let another process own the directory."""
        os.close(self.lock)

    def remove(self) -> bool:
        """Remove the directory with all that is in it, and let go of it; False where this user may not."""
        # The owner file goes last, with the directory: what this leaves behind, the next sweep removes.
        deadline = time.monotonic() + REMOVE_SECONDS
        while self.cluster.exists() and time.monotonic() < deadline:
            try:
                shutil.rmtree(self.cluster)
            except PermissionError:
                break
            except OSError:
                continue  # processes of a killed server write and remove files until they notice
        is_removed = not self.cluster.exists()
        if is_removed:
            shutil.rmtree(self.path, ignore_errors=True)
        self.release()
        return is_removed


def claim_new() -> Claim:
    """Make a private directory with a short path, and own it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary_root()))
        claim = _claim(path)
        if claim is not None:
            return claim


def claim_existing(path: Path) -> Claim:
    """Own a directory that outlives the process, making it if needed; a server left in it by a killed run is stopped.

    Raises:
        EmbeddedPostgresError: A living process owns the directory, or it can't be made.
    """
    path = path.resolve()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        claim = _claim(path)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"expected to own the directory {path}, found: {error.strerror}; name one that this user may write to"
        ) from error
    if claim is None:
        owner = (path / OWNER_FILE).read_text(encoding="ascii").strip() or "unknown"
        raise EmbeddedPostgresError(
            f"expected the directory {path} to be free, found it in use by process {owner}; "
            "stop that one or name another"
        )
    try:
        stop_leftover(claim.data)
    except BaseException:
        claim.release()
        raise
    return claim


def sweep() -> tuple[Path, ...]:
    """Remove what killed runs of this user left behind, their servers included; returns the directories removed."""
    removed = []
    for path in temporary_root().glob(f"{PREFIX}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            if not (path / OWNER_FILE).exists() and time.time() - path.stat().st_mtime < YOUNG_SECONDS:
                continue
            claim = _claim(path)
        except OSError:
            continue  # swept by another run at this moment
        if claim is None:
            continue
        try:
            stop_leftover(claim.data)
        except (OSError, EmbeddedPostgresError):
            claim.release()  # another user's after all: no reason not to start our own
            continue
        if claim.remove():
            removed.append(path)
    return tuple(removed)


def temporary_root() -> Path:
    """The machine's temporary directory, or /tmp where that path is too long to hold a socket."""
    root = Path(tempfile.gettempdir()).resolve()
    if len(os.fsencode(root)) > TEMPORARY_PATH_LENGTH_MAX:
        root = Path("/tmp").resolve()  # noqa: S108 (only ever with mkdtemp)
    return root


def stop_leftover(data: Path) -> None:
    """Stop the server of a data directory that has lost its owner, if one still runs."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
    except (OSError, ValueError):
        return
    for order, patience_seconds in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if not is_postmaster(pid, data):
            return
        try:
            os.kill(pid, order)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            if not is_postmaster(pid, data):
                return
            time.sleep(POLL_SECONDS)
    raise EmbeddedPostgresError(
        f"expected the PostgreSQL server of {data} to end, found process {pid} still running; end it by hand"
    )


def is_postmaster(pid: int, data: Path) -> bool:
    """Whether a process is the server of this data directory: a pid may have been given to another program since."""
    if (PROC / "self").is_dir():
        try:
            arguments = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return "postgres" in arguments[0] and str(data) in arguments
    listing = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return "postgres" in listing and f" {data} " in f"{listing.strip()} "


def _claim(path: Path) -> Claim | None:
    """Lock a directory's owner file; None where a living process holds it or the directory went away meanwhile."""
    lock = os.open(path / OWNER_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock a sweep may have removed the directory: then the lock is on a file without a name.
        if os.fstat(lock).st_ino != (path / OWNER_FILE).stat().st_ino:
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode("ascii"))
    (path / "cluster").mkdir(exist_ok=True, mode=0o700)
    return Claim(path, lock)
