"""The bodies of control calls."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from publisher.sandbox.fault_spec import UsageFigures
from publisher.sandbox.objects import Platform, TokenState


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewAccount(_Order):
    """An account to add; what is left out is made up."""

    platform: Platform
    name: str = Field(min_length=1, max_length=100)
    id: str | None = Field(default=None, pattern=r"^[0-9]{5,20}$")
    token: str | None = Field(default=None, min_length=8, max_length=1_000)
    quota_total: int | None = Field(default=None, ge=0)
    login: Literal["facebook", "instagram"] = "facebook"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.login == "instagram" and self.platform is not Platform.INSTAGRAM:
            raise ValueError("Instagram Login is for accounts of Instagram")
        return self


class NewUser(_Order):
    """A person who logged in, with a User token that reaches the accounts."""

    name: str = Field(min_length=1, max_length=100)
    accounts: tuple[str, ...] = ()
    token: str | None = Field(default=None, min_length=8, max_length=1_000)
    long_lived: bool = False


class AccountChange(_Order):
    """What to change of an account; `quota_total` null goes back to the setting."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    token: str | None = Field(default=None, min_length=8, max_length=1_000)
    token_state: TokenState | None = None
    quota_total: int | None = Field(default=None, ge=0)
    usage: UsageFigures | None = None
    missing_scopes: list[str] | None = Field(default=None, max_length=20)


class ResumeOrder(_Order):
    """How held calls go on."""

    drop: bool = False
    apply: bool = True


class ClockOrder(_Order):
    """How far to move the clock ahead."""

    advance_seconds: float = Field(ge=0, le=366 * 86_400, allow_inf_nan=False)


class ResetOrder(_Order):
    """What to forget besides objects, posts, faults, calls and the clock."""

    accounts: bool = False
    settings: bool = False
