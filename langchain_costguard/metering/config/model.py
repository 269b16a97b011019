"""What a configuration file may say: its fields, which pydantic checks, and the JSON Schema that editors read."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise ValueError("must be an amount such as 0.50")
    return value


Number = Annotated[Any, BeforeValidator(_number), Field(json_schema_extra={"type": ["number", "string"]})]
_Dimension = Literal["call", "step", "session", "agent", "user", "feature", "task", "trace", "model", "all"]


def _some(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Limits(_Strict):
    usd: Number | None = Field(None, description="Money, such as 0.50; a number is read exactly.")
    tokens: int | None = Field(None, description="Input and output tokens together.")
    input_tokens: int | None = Field(None, description="Input tokens, cached ones included.")
    output_tokens: int | None = Field(None, description="Output tokens, reasoning included.")
    model_calls: int | None = Field(None, description="Calls to any model.")
    tool_calls: int | None = Field(None, description="Calls to any tool.")
    steps: int | None = Field(None, description="Executions of a LangGraph node.")
    seconds: Decimal | int | None = Field(None, description="Wall-clock time from the scope's first call.")
    window: Literal["hour", "day", "week", "month"] | None = Field(None, description="Start afresh each of these.")
    tz: str = Field("UTC", description="The calendar's time zone, an IANA name.")
    lockout: Decimal | int = Field(1, description="Refuse at this multiple of the caps.")
    reserve: str | Decimal | None = Field(
        None, description='What is kept back for a last answer: money as text ("0.02"), or a share (0.05, or "5%").'
    )
    on_exceeded: Literal["refuse", "downgrade"] = Field("refuse", description="What a router does before a refusal.")
    name: str = Field("", description="What messages and reports call the budget.")


class BudgetEntry(_Limits):
    """One budget, as the arguments of ``Budget``."""

    per: _Dimension | list[_Dimension] = Field("session", description="Whose spending is counted together.")
    only: dict[str, Annotated[list[str], BeforeValidator(_some)]] = Field(
        default_factory=dict, description='Apply to these alone: { agent = "research" }.'
    )


class AgentEntry(_Limits):
    """A budget of one agent."""


class PriceEntry(_Strict):
    """A price, in USD per million tokens (or ``per``)."""

    input: Number
    output: Number = "0"
    cache_read: Number | None = None
    cache_write: Number | None = None
    cache_write_1h: Number | None = None
    input_audio: Number | None = None
    output_audio: Number | None = None
    per: Literal["1", "1K", "1M"] = "1M"


class File(_Strict):
    """A configuration of costguard."""

    schema_: str | None = Field(None, alias="$schema", description="Where this schema lies; for editors.")
    preset: Literal["production", "development"] | None = Field(
        None,
        description="production: 20,000 tokens, 15 tool calls, $0.50 and two minutes a session. "
        "development: generous, and warns in the log instead of refusing.",
    )
    budgets: list[BudgetEntry] = Field(default_factory=list, description="What may be spent, all of them together.")
    agents: dict[str, AgentEntry] = Field(default_factory=dict, description="A budget for each agent of these names.")
    store: str | None = Field(None, description="Where balances are kept: sqlite:PATH, redis://… ; memory: is none.")
    log: str | None = Field(None, description="The spend log: a path, sqlite:PATH, redis://… or postgresql://….")
    prices: dict[str, PriceEntry] = Field(default_factory=dict, description="Your own prices, by model.")
    aliases: dict[str, str] = Field(default_factory=dict, description="What a gateway's own model names stand for.")
    tool_prices: dict[str, Number] = Field(default_factory=dict, description="Fees in USD a call, by tool.")
    unpriced: Literal["estimate", "refuse", "free"] | None = Field(None, description="What an unknown model costs.")
    assume_output_tokens: int | None = Field(None, description="Output that must be affordable.")
    alerts: list[Decimal | int] | None = Field(None, description="Shares of a cap at which an alert is told.")
    switch: str | None = Field(None, description="The kill switch: a file, or an http(s) URL.")
    on_store_failure: Literal["refuse", "local"] | None = Field(None, description="While the store does not answer.")
    hold_seconds: Decimal | int | None = Field(None, description="How long a hold lasts that nobody settles.")
    wait: Decimal | int | None = Field(None, description="Seconds a wrapped model waits for holds to settle.")


def schema() -> dict[str, Any]:
    """The JSON Schema of a file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | File.model_json_schema(by_alias=True)
