"""The control API under `/_sandbox/`: what tests and people script and ask. JSON both ways, no token.

An error is `{"error": "one sentence"}` with 400 or 404.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio
import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from publisher.sandbox.clock import Clock
from publisher.sandbox.errors import SandboxError
from publisher.sandbox.fault_spec import FaultSpec
from publisher.sandbox.faults import Decision, Fault, Faults
from publisher.sandbox.graph_error import encode
from publisher.sandbox.journal import Journal
from publisher.sandbox.objects import Account
from publisher.sandbox.orders import AccountChange, ClockOrder, NewAccount, NewUser, ResetOrder, ResumeOrder
from publisher.sandbox.reports import MASK, account_report, live_row, settings_report
from publisher.sandbox.settings import Switches
from publisher.sandbox.uploads import Uploads
from publisher.sandbox.world import World

PREFIX: Final = "_sandbox"
HIT_TIMEOUT_SECONDS_MAX: Final = 300.0
Body = TypeVar("Body", bound=BaseModel)
Action = Callable[[web.BaseRequest], Awaitable[Any]]
ActionOnOne = Callable[[web.BaseRequest, str], Awaitable[Any]]


class NotFoundError(SandboxError):
    """The control API has no such thing."""


class Control:
    """Answers control calls."""

    def __init__(
        self,
        *,
        world: World,
        clock: Clock,
        faults: Faults,
        journal: Journal,
        uploads: Uploads,
        use_switches: Callable[[Switches], None],
    ) -> None:
        self._world = world
        self._clock = clock
        self._faults = faults
        self._journal = journal
        self._uploads = uploads
        self._use_switches = use_switches
        self._first_switches = world.switches
        self._actions: dict[tuple[str, str], Action] = {
            ("GET", "health"): self._health,
            ("GET", "accounts"): self._list_accounts,
            ("POST", "accounts"): self._add_account,
            ("POST", "users"): self._add_user,
            ("GET", "settings"): self._read_settings,
            ("PATCH", "settings"): self._change_settings,
            ("PUT", "settings"): self._change_settings,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "live"): self._list_live,
            ("GET", "requests"): self._list_requests,
            ("GET", "counts"): self._read_counts,
            ("GET", "clock"): self._read_clock,
            ("POST", "clock"): self._advance_clock,
            ("POST", "reset"): self._reset,
        }
        self._actions_on_one: dict[tuple[str, str, str], ActionOnOne] = {
            ("GET", "accounts", ""): self._read_account,
            ("PATCH", "accounts", ""): self._change_account,
            ("GET", "faults", ""): self._read_fault,
            ("DELETE", "faults", ""): self._remove_fault,
            ("GET", "faults", "hit"): self._wait_hit,
            ("POST", "faults", "resume"): self._resume_fault,
        }

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """Return the answer of one control call."""
        try:
            return _json(await self._act(request), 200)
        except NotFoundError as missing:
            return _json({"error": str(missing)}, 404)
        except SandboxError as refused:
            return _json({"error": str(refused)}, 400)
        except ValidationError as invalid:
            return _json({"error": _sentence(invalid)}, 400)
        except web.HTTPRequestEntityTooLarge:
            return _json({"error": "Expected a small JSON body, found a large one."}, 400)
        except (ConnectionError, web.RequestPayloadError):
            return _json({"error": "Expected a whole body, found a part of one."}, 400)

    async def _act(self, request: web.BaseRequest) -> Any:
        segments = [segment for segment in request.path.split("/") if segment][1:]
        if len(segments) == 1:
            action = self._actions.get((request.method, segments[0]))
            if action is not None:
                return await action(request)
        elif len(segments) in (2, 3):
            verb = segments[2] if len(segments) == 3 else ""
            action_on_one = self._actions_on_one.get((request.method, segments[0], verb))
            if action_on_one is not None:
                return await action_on_one(request, segments[1])
        raise NotFoundError(
            f"Expected a call of the control API, found {request.method} {request.path}: see publisher.sandbox."
        )

    async def _health(self, _: web.BaseRequest) -> Any:
        return {"status": "ok", "accounts": len(self._world.accounts), "live": len(self._world.posts)}

    async def _list_accounts(self, _: web.BaseRequest) -> Any:
        return {"accounts": [account_report(account) for account in self._world.accounts.values()]}

    async def _add_account(self, request: web.BaseRequest) -> Any:
        order = await _read(request, NewAccount)
        account = self._world.add_account(
            order.platform,
            order.name,
            now=self._clock.now(),
            account_id=order.id,
            token=order.token,
            quota_total=order.quota_total,
            instagram_login=order.login == "instagram",
        )
        return account_report(account)

    async def _add_user(self, request: web.BaseRequest) -> Any:
        order = await _read(request, NewUser)
        accounts = [self._account(account_id) for account_id in order.accounts]
        token = self._world.add_user(
            order.name, accounts, token=order.token, lives_long=order.long_lived, now=self._clock.now()
        )
        return {"id": token.user_id, "name": order.name, "token": token.value, "expires_at": token.expires_at}

    async def _read_account(self, _: web.BaseRequest, account_id: str) -> Any:
        return account_report(self._account(account_id))

    async def _change_account(self, request: web.BaseRequest, account_id: str) -> Any:
        account, order = self._account(account_id), await _read(request, AccountChange)
        if order.name is not None:
            account.name = order.name
        if order.token is not None:
            self._world.give_token(account, order.token, self._clock.now())
        if order.token_state is not None:
            account.token.state = order.token_state
        if "quota_total" in order.model_fields_set:
            account.quota_total = order.quota_total
        if order.usage is not None:
            account.usage = order.usage.figures()
        if order.missing_scopes is not None:
            account.missing_scopes = order.missing_scopes
        return account_report(account)

    async def _read_settings(self, _: web.BaseRequest) -> Any:
        return settings_report(self._world.switches)

    async def _change_settings(self, request: web.BaseRequest) -> Any:
        changes = await _read_object(request)
        if changes.get("app_secret") == MASK:
            del changes["app_secret"]  # what GET shows, sent back: unchanged
        switches = Switches.model_validate(_known_values(self._world.switches) | changes)
        self._use_switches(switches)
        return settings_report(switches)

    async def _list_faults(self, _: web.BaseRequest) -> Any:
        shown = [fault.describe() for fault in self._faults.by_id.values()]
        return {"faults": shown, "random": dict(self._faults.mishap_counts)}

    async def _add_fault(self, request: web.BaseRequest) -> Any:
        spec = await _read(request, FaultSpec)
        return self._faults.add(self._world.ids.fault(), spec).describe()

    async def _clear_faults(self, _: web.BaseRequest) -> Any:
        self._faults.clear(Decision())
        return {"faults": []}

    async def _read_fault(self, _: web.BaseRequest, fault_id: str) -> Any:
        return self._fault(fault_id).describe()

    async def _remove_fault(self, _: web.BaseRequest, fault_id: str) -> Any:
        fault = self._fault(fault_id)
        self._faults.remove(fault, Decision())
        return fault.describe()

    async def _wait_hit(self, request: web.BaseRequest, fault_id: str) -> Any:
        """Answer when the fault has hit `hits` calls (default 1), or after `timeout` seconds (default 30)."""
        fault = self._fault(fault_id)
        timeout = _read_number(request, "timeout", 30, HIT_TIMEOUT_SECONDS_MAX)
        hit_count = int(_read_number(request, "hits", 1, 1_000_000))
        with anyio.move_on_after(timeout):
            await fault.wait_hit(hit_count)
        return {"hit": fault.hit_count >= hit_count, **fault.describe()}

    async def _resume_fault(self, request: web.BaseRequest, fault_id: str) -> Any:
        fault, order = self._fault(fault_id), await _read(request, ResumeOrder)
        return {"resumed": fault.resume(Decision(drop=order.drop, apply=order.apply))}

    async def _list_live(self, request: web.BaseRequest) -> Any:
        media, account_id = request.query.get("media"), request.query.get("account")
        now = self._clock.now()
        posts = [
            post
            for post in self._world.posts
            if (media is None or any(media in it for it in (*post.source_urls, post.details.caption or "")))
            and (account_id is None or post.account.id == account_id)
            and post.published_at <= now
        ]
        rows = [] if request.query.get("rows") == "false" else [live_row(post) for post in posts]
        return {"count": len(posts), "live": rows}

    async def _list_requests(self, request: web.BaseRequest) -> Any:
        endpoint, account_id = request.query.get("endpoint"), request.query.get("account")
        secrets = frozenset(self._world.tokens)
        rows = [
            entry.describe(secrets)
            for entry in self._journal.entries
            if (endpoint is None or entry.endpoint == endpoint) and (account_id is None or entry.account == account_id)
        ]
        return {"requests": rows}

    async def _read_counts(self, _: web.BaseRequest) -> Any:
        return {"counts": dict(self._journal.counts), "cpu_seconds": time.process_time()}

    async def _read_clock(self, _: web.BaseRequest) -> Any:
        return {"now": self._clock.now(), "ahead_seconds": self._clock.ahead_seconds}

    async def _advance_clock(self, request: web.BaseRequest) -> Any:
        self._clock.advance((await _read(request, ClockOrder)).advance_seconds)
        return await self._read_clock(request)

    async def _reset(self, request: web.BaseRequest) -> Any:
        """Forget what happened; accounts and settings stay unless they are named."""
        order = await _read(request, ResetOrder)
        self.reset(accounts=order.accounts)
        if order.settings:
            self._use_switches(self._first_switches)
        return {"status": "ok", "accounts": len(self._world.accounts)}

    def reset(self, *, accounts: bool) -> None:
        """Forget what happened and, if asked, the accounts."""
        self._faults.clear(Decision(drop=True, apply=False))
        self._world.reset(accounts=accounts)
        self._uploads.clear()
        self._journal.clear()
        self._clock.reset()

    def _account(self, account_id: str) -> Account:
        account = self._world.accounts.get(account_id)
        if account is None:
            raise NotFoundError(f"Expected the id of an account, found {account_id}: see GET /_sandbox/accounts.")
        return account

    def _fault(self, fault_id: str) -> Fault:
        fault = self._faults.by_id.get(fault_id)
        if fault is None:
            raise NotFoundError(f"Expected the id of a fault, found {fault_id}: see GET /_sandbox/faults.")
        return fault


def _known_values(switches: Switches) -> dict[str, Any]:
    return {name: getattr(switches, name) for name in Switches.model_fields}


async def _read(request: web.BaseRequest, kind: type[Body]) -> Body:
    return kind.model_validate(await _read_object(request))


async def _read_object(request: web.BaseRequest) -> dict[str, Any]:
    """Read a JSON object; no body is an empty one."""
    text = await request.read()
    try:
        document = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as malformed:
        raise SandboxError("Expected a JSON object as the body, found something else.") from malformed
    if not isinstance(document, dict):
        raise SandboxError("Expected a JSON object as the body, found another JSON value.")
    return document


def _read_number(request: web.BaseRequest, name: str, default: float, largest: float) -> float:
    text = request.query.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= largest:
        raise SandboxError(f"Expected {name} from 0 to {largest:g}, found {text}.")
    return number


def _sentence(invalid: ValidationError) -> str:
    first = invalid.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return f"Expected a good value for {where}, found one that is refused: {first['msg']}."


def _json(body: object, status: int) -> web.Response:
    return web.Response(body=encode(body), status=status, content_type="application/json")
