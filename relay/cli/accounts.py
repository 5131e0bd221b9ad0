"""`outbox accounts`: the publishing accounts. A token comes from a file or standard input and is never printed."""

from __future__ import annotations

import getpass
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.consent import DryRunFlag, ReasonOption, YesFlag, ask
from relay.cli.printing import JsonFlag, print_json, print_table, say, to_json

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow
    from pydantic import SecretStr

    from publisher.accounts import AccountState, ListedAccount, Rotation
    from publisher.settings import PublisherSettings


class PlatformOption(StrEnum):
    """Where an account is."""

    INSTAGRAM = "instagram"
    FACEBOOK = "facebook"


def add(
    *,
    platform: Annotated[PlatformOption, typer.Option(help="Where it is.")],
    remote_id: Annotated[str, typer.Option("--id", metavar="DIGITS", help="Its id at Meta: IG user id or Page id.")],
    name: Annotated[str, typer.Option(help="For people.")],
    token_file: Annotated[
        Path | None, typer.Option(help="Where its access token is; without it, standard input.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask Meta first what the token is good for.")
    ] = True,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Add an account, or give it a new token; what was held for it goes on.

    The token is read from --token-file or from standard input, and encrypted
    with the first of the keys in PUBLISHER_TOKEN_KEYS or
    PUBLISHER_TOKEN_KEYS_FILE. Before that Meta is asked whether it is valid, of
    this account, and has all permissions that publishing needs; with
    PUBLISHER_APP_ID and PUBLISHER_APP_SECRET in the app's name.
    """
    from pydantic import SecretStr  # noqa: PLC0415 (help needs none of it)

    from outbox.holds import count_held  # noqa: PLC0415
    from publisher.accounts import add_account, check_account, key_of  # noqa: PLC0415
    from publisher.settings import PublisherSettings  # noqa: PLC0415
    from publisher.tokens import open_key_ring  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    settings = PublisherSettings.load()
    keys = open_key_ring(settings)
    token = SecretStr(_read_token(token_file).strip())
    check_account(platform.value, remote_id, name, token)
    if not (dry_run or yes):
        held_count = run_with_database(lambda connection: count_held(connection, key_of(platform.value, remote_id)))
        ask("release", held_count, unasked=False)

    async def work(connection: AsyncConnection[TupleRow]) -> tuple[ListedAccount, int, datetime | None]:
        expires_at = await _inspect(settings, platform.value, remote_id, token) if check else None
        account, released_count = await add_account(
            connection,
            keys,
            platform=platform.value,
            remote_id=remote_id,
            name=name,
            token=token,
            expires_at=expires_at,
            reason=reason,
            dry_run=dry_run,
        )
        return account, released_count, expires_at

    account, released_count, expires_at = run_with_database(work)
    if as_json:
        print_json(
            {
                "key": account.key,
                **to_json(account),
                "released_count": released_count,
                "token_expires_at": expires_at,
                "is_checked": check,
                "is_done": not dry_run,
            }
        )
    else:
        print(account.key)
        lasts = "" if expires_at is None else f", good until {expires_at:%Y-%m-%d}"
        stored, go = ("would be stored", "would go") if dry_run else ("is stored", "go")
        say(f"the account's token {stored}{lasts}; {released_count} events {go} on")


def list_all(as_json: JsonFlag = False) -> None:
    """List the accounts, without their tokens."""
    from publisher.accounts import list_accounts  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    accounts = run_with_database(list_accounts)
    if as_json:
        for account in accounts:
            print_json({"key": account.key, **to_json(account)})
        return
    rows = [(account.key, account.name, account.token_set_at, account.created_at, account.id) for account in accounts]
    print_table(("key", "name", "token set", "added", "id"), rows)


def show(
    key: Annotated[str, typer.Argument(help="The account's key, such as instagram:17841405822304914.")],
    as_json: JsonFlag = False,
) -> None:
    """Show how an account stands: its token, and how near it is to Meta's limits."""
    from publisher.accounts import show_account  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def work(connection: AsyncConnection[TupleRow]) -> AccountState:
        return await show_account(connection, key)

    state = run_with_database(work)
    if as_json:
        print_json(state)
        return
    quota = None if state.quota_usage is None else f"{state.quota_usage} of {state.quota_total} publishes in 24 h"
    rows: list[tuple[str, object, object]] = [
        ("name", state.name, state.created_at),
        ("token", state.token_state, state.token_refreshed_at or state.token_set_at),
        ("expires", state.token_expires_at or "never, or not known", None),
        ("refreshed", state.token_refresh_at or "not by us", None),
        ("limits", state.quota_state, None),
        ("calls", None if state.percent is None else f"{state.percent} %", state.read_at),
        ("app's calls", None if state.app_percent is None else f"{state.app_percent} %", state.app_read_at),
        ("quota", quota, state.quota_read_at),
        *(
            (name, f"{count} of {most} in 24 h", None)
            for name, count, most in (
                ("containers", state.container_count, state.container_max),
                ("reels", state.reel_count, state.reel_max),
            )
            if count is not None
        ),
        ("held", state.held_because and f"{state.held_because} until {state.held_until or 'released'}", None),
    ]
    print_table((state.key, "", "as of"), rows)


def rotate_keys(reason: ReasonOption = None, dry_run: DryRunFlag = False, as_json: JsonFlag = False) -> None:
    """Encrypt all tokens anew with the first key; afterwards the other keys may go.

    Put the new key in front of PUBLISHER_TOKEN_KEYS, restart the relays, run
    this, then take the old key away. It needs the role outbox_relay. Running it
    twice does nothing the second time; each token is a row of the audit.
    """
    from publisher.accounts import rotate_keys as rotate  # noqa: PLC0415 (help needs none of it)
    from publisher.settings import PublisherSettings  # noqa: PLC0415
    from publisher.tokens import open_key_ring  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    keys = open_key_ring(PublisherSettings.load())

    async def work(connection: AsyncConnection[TupleRow]) -> Rotation:
        return await rotate(connection, keys, reason=reason, dry_run=dry_run)

    done = run_with_database(work)
    if as_json:
        print_json({**to_json(done), "is_done": not dry_run})
    else:
        verb = "would be" if dry_run else "are"
        print(f"{len(done.renewed)} tokens {verb} encrypted anew, {done.kept_count} have the first key already")
    if done.unreadable:
        say(
            f"outbox: expected one of the keys to open every token, found {len(done.unreadable)} that none opens, "
            f"{done.unreadable[0]} first; keep the old keys, or add these accounts again"
        )
        raise typer.Exit(1)


def generate_key() -> None:
    """Print a new key for PUBLISHER_TOKEN_KEYS: a secret, to be kept where the relay finds it and nowhere else."""
    from publisher.tokens import generate_key as generate  # noqa: PLC0415 (help needs none of it)

    print(generate())


async def _inspect(settings: PublisherSettings, platform: str, remote_id: str, token: SecretStr) -> datetime | None:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 (help needs none of it)

    from publisher.graph import open_graph  # noqa: PLC0415
    from publisher.inspection import inspect_token  # noqa: PLC0415
    from publisher.metrics import PublisherMetrics  # noqa: PLC0415

    async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph:
        found = await inspect_token(graph, settings, platform=platform, remote_id=remote_id, token=token)
    return found.expires_at


def _read_token(token_file: Path | None) -> str:
    if token_file is None:
        return getpass.getpass("Access token: ") if sys.stdin.isatty() else sys.stdin.read()
    try:
        return token_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise typer.BadParameter(f"expected a file with an access token at {token_file}, found: {reason}") from None
