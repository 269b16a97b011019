"""A budget: caps on what one scope may use, optionally per calendar window. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from decimal import Decimal, DecimalException, InvalidOperation
from inspect import signature
from math import ceil
from typing import Any, Literal
from urllib.parse import quote

from langchain_costguard.metering.stores.base import MAX_AMOUNT
from langchain_costguard.vocabulary.calendar import WINDOWS, Window, zone
from langchain_costguard.vocabulary.money import Money, nano
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.slips import hint, near, unknown

Per = Literal["call", "step", "session", "agent", "user", "feature", "task", "trace", "model", "all"]

MEASURES = ("usd", "tokens", "input_tokens", "output_tokens", "model_calls", "tool_calls", "steps", "seconds")
"""What a budget can cap. Accounts count nano-USD for ``usd`` and milliseconds for ``seconds``."""

SCOPES = ("call", "step", "session", "agent", "user", "feature", "task", "trace", "model", "all")
_RESERVED = ("usd", "tokens", "input_tokens", "output_tokens")
_HOUR, _DAY = 3600, 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Caps on what one scope may use; give at least one of the limits.

    Args:
        per: Whose spending is counted together: one of ``call``, ``step``, ``session``, ``agent``, ``user``,
            ``feature``, ``task``, ``trace``, ``model``, ``all``, or a tuple of them for each combination.
        usd: Money, as ``"0.50"`` (never a float).
        tokens: Input and output tokens together.
        input_tokens: Input tokens, cached ones included.
        output_tokens: Output tokens, reasoning included.
        model_calls: Calls to any model.
        tool_calls: Calls to any tool.
        steps: Executions of a LangGraph node; outside a graph, model calls.
        seconds: Wall-clock time from the scope's first call.
        window: Start afresh each calendar ``hour``, ``day``, ``week`` (Monday) or ``month``; None never does.
        tz: The calendar's time zone, an IANA name.
        only: Apply to these scopes alone: ``{"agent": "research"}`` or ``{"agent": {"research", "writer"}}``.
        lockout: Refuse at this multiple of the caps: with ``1.2``, alert at 100 % and refuse at 120 %.
        reserve: What is kept back of the caps for a last answer: money (``"0.02"``, of ``usd``), or a share (``"5%"``,
            or ``0.05``) of ``usd`` and every cap on tokens. When the rest is spent, steering takes the tools away and
            spends it; a guard without steering refuses as if the caps were smaller by it. Alerts are shares of the
            whole caps.
        on_exceeded: With ``"downgrade"``, an agent that has a router is given the dearest model that still fits before
            a call is refused; without one, this means ``"refuse"``.
        name: What messages and reports call it; needed when two budgets would count into one account.

    Raises:
        ValueError: names the field and the value.
    """

    per: Per | tuple[Per, ...] = "session"
    usd: Money | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    model_calls: int | None = None
    tool_calls: int | None = None
    steps: int | None = None
    seconds: float | None = None
    window: Window | None = None
    tz: str = "UTC"
    only: Mapping[str, str | Collection[str]] = field(default_factory=dict, hash=False)
    lockout: float = 1.0
    reserve: Money | float | None = None
    on_exceeded: Literal["refuse", "downgrade"] = "refuse"
    name: str = ""

    def __new__(cls, *args: Any, **fields: Any) -> Budget:
        """Object to an unknown measure as to any other bad value: Python's own words for it are a TypeError's."""
        for name, value in fields.items():
            if name not in cls.__dataclass_fields__:
                raise ValueError(unknown("Budget", name, value, [*MEASURES, *_OTHERS], _MEANT))
        return object.__new__(cls)

    def __post_init__(self) -> None:
        object.__setattr__(self, "per", _per(self.per))
        object.__setattr__(self, "only", _only(self.only))
        if self.window is not None and self.window not in WINDOWS:
            more = hint(self.window, WINDOWS)
            raise ValueError(f"window: {self.window!r} is not one of {', '.join(WINDOWS)} or None{more}")
        if self.per == "call" and self.window is not None:
            raise ValueError(f"window: {self.window!r} means nothing for a budget per call")
        zone(self.tz)
        if isinstance(self.lockout, bool) or not isinstance(self.lockout, (int, float, Decimal)):
            raise ValueError(f"lockout: {self.lockout!r} must be a number, 1.0 or more")
        if not _is_between(self.lockout, 1.0, 100):
            raise ValueError(f"lockout: {self.lockout!r} must be between 1.0 and 100")
        if self.on_exceeded not in ("refuse", "downgrade"):
            raise ValueError(f"on_exceeded: {self.on_exceeded!r} is not 'refuse' or 'downgrade'")
        if not isinstance(self.name, str):
            raise ValueError(f"name: {self.name!r} must be a text")
        if not self.caps():
            raise ValueError(f"Budget(per={self.per!r}) has no limit: give at least one of {', '.join(MEASURES)}")
        self.reserves()

    def __repr__(self) -> str:
        given = (f for f in fields(self) if f.name == "per" or getattr(self, f.name) != _unset(f))
        shown = ", ".join(f"{f.name}={_plain(getattr(self, f.name))!r}" for f in given)
        return f"Budget({shown})"

    def caps(self) -> dict[str, int]:
        """The limits that are set, as integers of their account's unit."""
        caps = {m: cap_of(m, value) for m in MEASURES if (value := getattr(self, m)) is not None}
        for measure, cap in caps.items():
            if self.ceiling(cap) > MAX_AMOUNT:
                raise ValueError(f"{measure}: {getattr(self, measure)!r} is more than an account can hold")
        return caps

    def ceiling(self, cap: int) -> int:
        """Where a cap refuses: the cap times ``lockout``, exactly (1.15 times 100 is 115)."""
        return int(cap * Decimal(str(self.lockout)))

    def reserves(self) -> dict[str, int]:
        """What is kept back of the caps, where anything is, as integers of their account's unit."""
        if self.reserve is None:
            return {}
        caps, share = self.caps(), _share(self.reserve)
        if share is None:
            kept = {"usd": nano(self.reserve, "reserve")}  # type: ignore[arg-type]
        else:
            kept = {m: ceil(caps[m] * share) for m in MEASURES if m in caps and m in _RESERVED}
        if not kept.keys() & caps.keys():
            needed = "usd" if share is None else f"one of {', '.join(_RESERVED)}"
            raise ValueError(f"reserve: {self.reserve!r} has no cap to be a part of: give {needed}")
        for measure, amount in kept.items():
            if amount >= caps[measure]:
                raise ValueError(f"reserve: {self.reserve!r} is all of {measure}={getattr(self, measure)!r}")
        return kept

    def dimensions(self) -> tuple[str, ...]:
        """``per`` as a tuple."""
        return (self.per,) if isinstance(self.per, str) else self.per

    def key(self) -> str:
        """What the budget's accounts begin with; budgets with the same key count into the same accounts."""
        if self.name:
            return quote(self.name, safe="", errors="surrogatepass")
        window: str = self.window or ""
        if window and self.tz != "UTC":
            window += f"@{self.tz}"  # another zone's days are other days
        only = ",".join(f"{k}={'+'.join(sorted(map(quoted, v)))}" for k, v in sorted(self.only.items()))
        parts = ["+".join(self.dimensions()), window, f"[{only}]" if only else ""]
        return ".".join(part for part in parts if part)

    @property
    def label(self) -> str:
        """What messages and reports call the budget."""
        return self.name or self.key()

    def idle(self) -> int:
        """Seconds after which an account nobody used may be forgotten."""
        if self.window:
            return {"hour": 2 * _HOUR, "day": 2 * _DAY, "week": 8 * _DAY, "month": 32 * _DAY}[self.window]
        short = {"step": _HOUR, "call": _HOUR, "trace": _DAY, "session": 30 * _DAY, "task": 30 * _DAY}
        return min(short.get(dimension, 400 * _DAY) for dimension in self.dimensions())

    @classmethod
    def production(cls, **changes: Any) -> Budget:
        """The field's day-one default: 20,000 tokens, 15 tool calls, 0.50 USD and 120 s per session."""
        return cls(**{"per": "session", "tokens": 20_000, "tool_calls": 15, "usd": "0.50", "seconds": 120, **changes})

    @classmethod
    def development(cls, **changes: Any) -> Budget:
        """Ten times the field's default, and a refusal at ten times of that only: a budget that warns."""
        roomy = {"per": "session", "tokens": 200_000, "tool_calls": 150, "usd": "5.00", "seconds": 1200, "lockout": 10}
        return cls(**{**roomy, **changes})


_init = signature(Budget.__init__)
# What editors and notebooks show: the fields, not what `__new__` takes.
type.__setattr__(Budget, "__signature__", _init.replace(parameters=[*_init.parameters.values()][1:]))


_OTHERS = ("per", "window", "tz", "only", "lockout", "reserve", "on_exceeded", "name")
_MEANT = {
    **dict.fromkeys(("dollars", "cost", "max_usd", "usd_limit", "budget", "amount", "money", "max_cost"), 'usd="0.50"'),
    **dict.fromkeys(("max_tokens", "token", "token_limit"), "tokens=20_000"),
    **dict.fromkeys(("calls", "max_calls", "requests", "llm_calls"), "model_calls=10"),
    **dict.fromkeys(("timeout", "time", "duration", "max_seconds"), "seconds=120"),
    **dict.fromkeys(("period", "interval", "every"), 'window="day"'),
    **dict.fromkeys(("scope", "by", "user", "session", "agent"), 'per="user", or only={"agent": "research"}'),
}


def cap_of(measure: str, value: Any) -> int:
    """A limit as an integer of its account's unit.

    Raises:
        ValueError: names the measure and the value.
    """
    if measure == "usd":
        return nano(value, "usd")
    if measure == "seconds":
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise ValueError(f"seconds: {value!r} must be a number of seconds above zero")
        if not _is_between(value, 0, 1e9) or value == 0:
            raise ValueError(f"seconds: {value!r} must be a number of seconds above zero, and at most 1e9")
        return max(1, round(value * 1000))
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{measure}: {value!r} must be a whole number above zero")
    return value


def _is_between(value: float | Decimal, least: float, most: float) -> bool:
    try:
        return least <= value <= most
    except DecimalException:  # a signalling NaN compares with nothing
        return False


def _share(reserve: Any) -> Decimal | None:
    """A reserve that is a share, exactly; None of one that is an amount of money."""
    if isinstance(reserve, str) and reserve.strip().endswith("%"):
        try:
            share = Decimal(reserve.strip()[:-1]) / 100
        except InvalidOperation:
            share = Decimal("NaN")
    elif isinstance(reserve, float):
        share = Decimal(str(reserve))
    else:
        return None
    if not share.is_finite() or not 0 < share < 1:
        raise ValueError(f'reserve: {reserve!r} must be a share such as 0.05 or "5%", or an amount of USD as text')
    return share


def _per(per: Any) -> Any:
    dimensions = (per,) if isinstance(per, str) else tuple(per) if isinstance(per, (tuple, list)) else ()
    if not dimensions or any(dimension not in SCOPES for dimension in dimensions):
        wrong = next((dimension for dimension in dimensions if dimension not in SCOPES), per)
        more = f"; write window={near(wrong, WINDOWS)!r}" if near(wrong, WINDOWS) else hint(wrong, SCOPES)
        raise ValueError(f"per: {per!r} is not one of {', '.join(SCOPES)}, or a tuple of them{more}")
    if len(dimensions) == 1:
        return dimensions[0]
    if "call" in dimensions or "all" in dimensions or len(set(dimensions)) < len(dimensions):
        raise ValueError(f"per: {per!r} combines scopes that cannot be combined")
    return dimensions


def _only(only: Any) -> Mapping[str, frozenset[str]]:
    if not isinstance(only, Mapping):
        raise ValueError(f'only: {only!r} must be a mapping such as {{"agent": "research"}}')
    chosen: dict[str, frozenset[str]] = {}
    for dimension, values in only.items():
        if dimension not in Scope._fields:
            more = hint(dimension, Scope._fields)
            raise ValueError(f"only={dict(only)!r}: {dimension!r} is not one of {', '.join(Scope._fields)}{more}")
        members = [values] if isinstance(values, str) else list(values) if isinstance(values, Collection) else []
        if not members or not all(isinstance(member, str) for member in members):
            raise ValueError(f"only: {dimension}={values!r} must be a text or a non-empty set of texts")
        chosen[dimension] = frozenset(members)
    return chosen


def _unset(of: Field[Any]) -> Any:
    return of.default_factory() if of.default_factory is not MISSING else of.default


def _plain(value: Any) -> Any:
    return {key: set(names) for key, names in value.items()} if isinstance(value, Mapping) else value


def quoted(text: str) -> str:
    """A scope's value as part of an account's name, free of the separators used there; ``-`` is no value at all."""
    if text.isalnum() and text.isascii():
        return text
    if text in ("", "-"):
        return "%2D" if text else "-"
    return quote(text, safe="-_.~: /", errors="surrogatepass")
