"""Everything the sandbox remembers: accounts, objects, and what went live.

Pure state: no I/O, no clock; whoever calls says what time it is. It grows until `reset`.
"""

from __future__ import annotations

from publisher.sandbox.errors import SandboxError
from publisher.sandbox.ids import Ids
from publisher.sandbox.objects import Account, Container, Medium, Node, Photo, Platform, Post, Token, Video
from publisher.sandbox.settings import Switches


class World:
    """The simulated graph."""

    def __init__(self, *, seed: int, switches: Switches) -> None:
        self.switches = switches
        self.ids = Ids(seed)
        self.tokens: dict[str, Token] = {}
        self.accounts: dict[str, Account] = {}
        self.objects: dict[str, Node] = {}
        self.posts: list[Post] = []

    def add_account(
        self,
        platform: Platform,
        name: str,
        *,
        now: float,
        account_id: str | None = None,
        token: str | None = None,
        quota_total: int | None = None,
    ) -> Account:
        """Add an account; a token that another account has already serves both.

        Raises:
            SandboxError: the id is taken.
        """
        if account_id is None:
            account_id = self.ids.instagram_account() if platform == Platform.INSTAGRAM else self.ids.page()
        if account_id in self.objects:
            raise SandboxError(f"Expected an unused account id, found {account_id} taken: choose another.")
        account = Account(
            id=account_id,
            platform=platform,
            name=name,
            token=self._token(token or self.ids.token(), now),
            business_id=self.ids.business(),
            quota_total=quota_total,
        )
        account.token.accounts.append(account)
        self.accounts[account_id] = account
        self.objects[account_id] = account
        return account

    def give_token(self, account: Account, token: str, now: float) -> None:
        """Replace an account's token, as a new login does; the old one stops working for it."""
        old = account.token
        old.accounts.remove(account)
        if not old.accounts:
            del self.tokens[old.value]
        account.token = self._token(token, now)
        account.token.accounts.append(account)

    def go_live(
        self,
        made_from: Container | Photo | Video,
        post_id: str,
        *,
        medium: Medium,
        now: float,
        ready_at: float,
        is_story: bool = True,
    ) -> Post:
        """Record that something is live: the one place where a post comes into being."""
        account = made_from.account
        post = Post(
            id=post_id,
            account=account,
            medium=medium,
            source_url=made_from.source_url,
            made_from=made_from,
            published_at=now,
            visible_at=max(now, ready_at) + self.switches.stories_lag_seconds,
            permalink_number=self.ids.permalink_number(),
            is_story=is_story,
        )
        made_from.posts.append(post)
        account.posts.append(post)
        self.posts.append(post)
        self.objects[post_id] = post
        return post

    def reset(self, *, accounts: bool) -> None:
        """Forget every object and post and, if asked, the accounts; ids go on, so none comes twice."""
        self.posts.clear()
        self.objects.clear()
        if accounts:
            self.accounts.clear()
            self.tokens.clear()
        for account in self.accounts.values():
            account.posts.clear()
            account.containers_created_at.clear()
            account.published_at.clear()
            self.objects[account.id] = account

    def _token(self, value: str, now: float) -> Token:
        token = self.tokens.get(value)
        if token is None:
            token = self.tokens[value] = Token(value=value, issued_at=now)
        return token
