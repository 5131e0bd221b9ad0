"""The application: it decides what is published, and knows nothing of relays.

Each story is one transaction on a connection whose role may do nothing but this. The event is written by a trigger in
the same transaction: what is rolled back never happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString
from uuid import UUID

import anyio
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from relay.demo.script import STORIES, Account, Fate, Story

PAUSE_SECONDS = 0.25
"""Between two stories: slow enough to be watched."""

CREATE: LiteralString = """
select social.create_variant(
  account => %(account)s, media_url => %(media_url)s, media_type => %(media_type)s, title => %(title)s,
  sequence => %(sequence)s, publish_at => clock_timestamp() + make_interval(secs => %(ahead_seconds)s),
  approved => %(approved)s
)
"""
APPROVE: LiteralString = "update social.content_variants set status = 'approved' where id = %(id)s"


async def create_stories(
    connection: AsyncConnection[TupleRow],
    keys: dict[Account, str],
    media_url: str,
    created: Callable[[Story, UUID], None],
) -> None:
    """Create all stories of the script, one after another.

    Args:
        connection: In autocommit, as the application's role.
        keys: The key of each account: platform and id.
        media_url: Where the media server is.
        created: Told of each story after its last transaction has ended, committed or not.
    """
    for story in STORIES:
        created(story, await _create(connection, story, keys[story.account], f"{media_url}/{story.file_name}"))
        await anyio.sleep(PAUSE_SECONDS)


async def _create(connection: AsyncConnection[TupleRow], story: Story, account: str, url: str) -> UUID:
    arguments = {
        "account": account,
        "media_url": url,
        "media_type": story.media_type,
        "title": f"Story {story.number}",
        "sequence": story.sequence,
        "ahead_seconds": story.ahead_seconds,
        "approved": not story.is_drafted,
    }
    async with connection.transaction(force_rollback=story.fate is Fate.ROLLED_BACK):
        row = await (await connection.execute(CREATE, arguments)).fetchone()
    assert row is not None
    variant_id: UUID = row[0]
    if story.is_drafted:
        async with connection.transaction():
            await connection.execute(APPROVE, {"id": variant_id})
    return variant_id
