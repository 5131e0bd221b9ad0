"""`outbox accounts`: the publishing accounts. A token comes from a file or standard input and is never printed."""

from __future__ import annotations

import getpass
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.printing import JsonFlag, print_json, print_table, say, to_json

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from publisher.accounts import ListedAccount


class PlatformOption(StrEnum):
    """Where an account is."""

    INSTAGRAM = "instagram"
    FACEBOOK = "facebook"


def add(
    platform: Annotated[PlatformOption, typer.Option(help="Where it is.")],
    remote_id: Annotated[str, typer.Option("--id", metavar="DIGITS", help="Its id at Meta: IG user id or Page id.")],
    name: Annotated[str, typer.Option(help="For people.")],
    token_file: Annotated[
        Path | None, typer.Option(help="Where its access token is; without it, standard input.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add an account, or give it a new token; what was held for it goes on.

    The token is read from --token-file or from standard input, and encrypted
    with the first of the keys in PUBLISHER_TOKEN_KEYS or
    PUBLISHER_TOKEN_KEYS_FILE.
    """
    from pydantic import SecretStr  # noqa: PLC0415 (help needs none of it)

    from publisher.accounts import add_account  # noqa: PLC0415
    from publisher.settings import PublisherSettings  # noqa: PLC0415
    from publisher.tokens import open_key_ring  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    keys = open_key_ring(PublisherSettings.load())
    token = SecretStr(_read_token(token_file))

    async def work(connection: AsyncConnection[TupleRow]) -> tuple[ListedAccount, int]:
        return await add_account(connection, keys, platform=platform.value, remote_id=remote_id, name=name, token=token)

    account, released_count = run_with_database(work)
    if as_json:
        print_json({"key": account.key, **to_json(account), "released_count": released_count})
    else:
        print(account.key)
        say(f"the account's token is stored; {released_count} events go on")


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


def generate_key() -> None:
    """Print a new key for PUBLISHER_TOKEN_KEYS: a secret, to be kept where the relay finds it and nowhere else."""
    from publisher.tokens import generate_key as generate  # noqa: PLC0415 (help needs none of it)

    print(generate())


def _read_token(token_file: Path | None) -> str:
    if token_file is None:
        return getpass.getpass("Access token: ") if sys.stdin.isatty() else sys.stdin.read()
    try:
        return token_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise typer.BadParameter(f"expected a file with an access token at {token_file}, found: {reason}") from None
