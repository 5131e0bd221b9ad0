"""Everything the sandbox remembers: accounts, objects, and what went live.

Pure state: no I/O, no clock; whoever calls says what time it is. It grows until `reset`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from typing import Final

from publisher.sandbox.errors import SandboxError
from publisher.sandbox.ids import Ids
from publisher.sandbox.objects import (
    DAY_SECONDS,
    Account,
    Details,
    Made,
    Medium,
    Node,
    Placement,
    Platform,
    Post,
    Token,
    TokenKind,
    User,
    Video,
)
from publisher.sandbox.settings import Switches

# Meta: long-lived tokens.
LONG_LIVED_SECONDS: Final = 60 * DAY_SECONDS
SHORT_LIVED_SECONDS: Final = 3_600


class World:
    """The simulated graph."""

    def __init__(self, *, seed: int, switches: Switches) -> None:
        self.switches = switches
        self.ids = Ids(seed)
        self.tokens: dict[str, Token] = {}
        self.accounts: dict[str, Account] = {}
        self.users: dict[str, User] = {}
        self.objects: dict[str, Node] = {}
        self.sessions: dict[str, Video] = {}
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
        instagram_login: bool = False,
    ) -> Account:
        """Add an account; a token that another account has already serves both.

        Raises:
            SandboxError: the id is taken, or the token is of the other login.
        """
        if account_id is None:
            account_id = self.ids.instagram_account() if platform == Platform.INSTAGRAM else self.ids.page()
        if account_id in self.objects:
            raise SandboxError(f"Expected an unused account id, found {account_id} taken: choose another.")
        kind: TokenKind = "instagram" if instagram_login else "page"
        account = Account(
            id=account_id,
            platform=platform,
            name=name,
            token=self._token(token or self.ids.token(kind), kind, now),
            business_id=self.ids.business(),
            scoped_id=self.ids.scoped_account() if instagram_login else None,
            quota_total=quota_total,
        )
        account.token.accounts[account.id] = account
        self.restore(account)
        return account

    def restore(self, account: Account) -> None:
        """Take an account in."""
        self.accounts[account.id] = account
        self._index(account)

    def give_token(self, account: Account, token: str, now: float) -> None:
        """Replace an account's token, as a new login does; the old one stops working for it."""
        old = account.token
        account.token = self._token(token, old.kind, now)
        if account.token is old:
            return
        del old.accounts[account.id]
        if not old.accounts:
            del self.tokens[old.value]
        account.token.accounts[account.id] = account

    def refresh_token(self, token: Token, now: float) -> Token:
        """Give the accounts of a token a longer-lived one; the old one works until it expires."""
        fresh = Token(
            value=self.ids.token(token.kind),
            issued_at=now,
            kind=token.kind,
            expires_at=now + LONG_LIVED_SECONDS,
            user_id=token.user_id,
            accounts=dict(token.accounts),
        )
        self.tokens[fresh.value] = fresh
        for account in fresh.accounts.values():
            if account.token is token:
                account.token = fresh
        return fresh

    def add_user(
        self, name: str, accounts: Iterable[Account], *, token: str | None, lives_long: bool, now: float
    ) -> Token:
        """Add a person who logged in, with a User token that reaches the accounts.

        Raises:
            SandboxError: the token is taken.
        """
        value = token or self.ids.token("user")
        if value in self.tokens:
            raise SandboxError("Expected an unused token, found one that is taken: choose another.")
        user = User(self.ids.user(), name)
        self.users[user.id] = user
        self.objects[user.id] = user
        self.tokens[value] = found = Token(
            value=value,
            issued_at=now,
            kind="user",
            expires_at=now + (LONG_LIVED_SECONDS if lives_long else SHORT_LIVED_SECONDS),
            user_id=user.id,
            accounts={account.id: account for account in accounts},
        )
        return found

    def add(self, node: Made) -> None:
        """Take a new object in."""
        self.objects[node.id] = node

    def go_live(
        self,
        account: Account,
        post_id: str,
        *,
        medium: Medium,
        placement: Placement,
        made_from: tuple[Made, ...] = (),
        details: Details | None = None,
        now: float,
        ready_at: float = 0,
        items: tuple[Post, ...] = (),
    ) -> Post:
        """Record that something is live: the one place where a post comes into being."""
        switches = self.switches
        lag = switches.stories_lag_seconds if placement is Placement.STORY else switches.feed_lag_seconds
        post = Post(
            id=post_id,
            account=account,
            medium=medium,
            placement=placement,
            source_urls=tuple(url for made in made_from for url in made.source_urls),
            made_from=made_from,
            published_at=now,
            visible_at=max(now, ready_at) + lag,
            permalink_number=self.ids.permalink_number(),
            details=details or Details(),
            items=items,
        )
        self.enlist(post)
        return post

    def enlist(self, post: Post) -> None:
        """Put a post where it is looked for; an item of a carousel is in no list."""
        self.objects[post.id] = post
        if post.placement is Placement.ITEM:
            return
        for made in post.made_from:
            made.posts.append(post)
        own = post.account.stories if post.placement is Placement.STORY else post.account.feed
        insort(own, post, key=lambda it: it.published_at)
        self.posts.append(post)

    def reset(self, *, accounts: bool) -> None:
        """Forget every object and post and, if asked, the accounts; ids go on, so none comes twice."""
        self.posts.clear()
        self.objects.clear()
        self.sessions.clear()
        if accounts:
            self.accounts.clear()
            self.users.clear()
            self.tokens.clear()
        for account in self.accounts.values():
            account.stories.clear()
            account.feed.clear()
            account.containers_created_at.clear()
            account.published_at.clear()
            account.reels_at.clear()
            self._index(account)
        self.objects.update(self.users)

    def _index(self, account: Account) -> None:
        self.objects[account.id] = account
        if account.scoped_id is not None:
            self.objects[account.scoped_id] = account

    def _token(self, value: str, kind: TokenKind, now: float) -> Token:
        token = self.tokens.get(value)
        if token is None:
            expires_at = now + LONG_LIVED_SECONDS if kind == "instagram" else None
            token = self.tokens[value] = Token(value=value, issued_at=now, kind=kind, expires_at=expires_at)
        elif token.kind != kind:
            raise SandboxError(
                f"Expected a token of the account's own login, found a {token.kind} token: choose another."
            )
        return token
