"""One call under way: made once at its start, carried by ``run_id``, and closed once at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from langchain_costguard.metering.budgets.ledger import Amounts, Hold
from langchain_costguard.metering.pricing.asks import NOTHING, Asks
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

if TYPE_CHECKING:
    from langchain_costguard.metering.terms import Terms

OPEN, PROVISIONAL = "open", "provisional"


class Call:
    """A model or tool call between its start and its end.

    Attributes:
        tokens, upper: the input estimate, and the same with the estimator's stated error (tokens).
        asked: the most output tokens a reply may have, as the request says; None where it does not.
        allowed: the same, or what the model can give at the most.
        ceiling: the same as it was held: what was asked for, or less, or what the budgets afford.
        times: how many replies were asked for (``n``).
        coarse: the prompt and the tools, where ``upper`` is but a bound by their length, and ``tokens`` not known.
        terms: those of its model, where it was let in the short way.
        alone: the call is a trace of its own: nothing else counts into its budgets per step and trace.
        odd: something about the call asks for a closer look at its reply.
        asks: what the request asks for that decides its price.
        audio: its input holds audio, which has a price of its own; ``words`` are the tokens of the rest.
        url: where the client sends to, as far as it says.
        around: the model call inside which this one is made; ``inside`` is what those made inside this one used.
        text: it is a text model's.
        batch: the request that this prompt is sent in, where there are several.
        hour: of what its cache keeps for an hour, the tokens up to there; None where all of it is kept so long.
        state: ``open``, or ``provisional`` once settled by estimate because its parent ended first.
        status: how it ended: ``ok``, ``failed``, ``stopped`` by the guard, or ``cancelled``.
    """

    # fmt: off
    __slots__ = (
        "allowed", "alone", "arguments", "around", "asked", "asks", "audio", "batch", "ceiling", "charged", "coarse",
        "held", "hold", "hour", "inside", "kind", "name", "odd", "parent", "rates", "ref", "run_id", "scope", "started",
        "state", "status", "step_id", "stream", "strict", "task", "terms", "text", "thinks", "times", "tokens", "upper",
        "url", "words", "writes_cache",
    )
    # fmt: on

    def __init__(
        self, run_id: UUID, parent: UUID | None, kind: str, name: str, scope: Scope, step_id: str, started: float
    ) -> None:
        self.run_id = run_id
        self.parent = parent
        self.kind = kind
        self.name = name
        self.scope = scope
        self.step_id = step_id
        self.started = started
        self.hold: Hold | None = None
        self.state = OPEN
        self.status = "ok"
        self.stream: Stream | None = None
        self.strict = False
        self.task = 0
        self.held = 0
        self.charged: Amounts | None = None
        self.alone = False
        self.times = 1
        self.coarse: tuple[Any, Any] | None = None
        self.terms: Terms | None = None
        self.odd = False
        self.asks: Asks = NOTHING
        self.audio = False
        self.url: str | None = None
        self.around: Call | None = None
        self.inside: list[Usage] | None = None
        self.text = False
        self.batch: Batch | None = None
        self.thinks = 0
        """Output tokens that the request sets apart for thinking: its ceiling has to be above them."""

    ref: ModelRef
    rates: Rates
    words: int
    tokens: int
    upper: int
    allowed: int
    ceiling: int
    asked: int | None
    writes_cache: bool | Literal["1h"]
    hour: int | None
    arguments: Any
    """A tool's, from which its price may be computed."""


class Batch:
    """The prompts that a text model sends in one request: LangChain starts a run for each, and brings the usage of all
    of them with the first."""

    __slots__ = ("calls", "params", "told")

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.calls: list[Call] = []
        self.told = False


class Asked:
    """A model call that was started in this context, for LangChain's cache, which is told of none.

    Attributes:
        call: The call.
        tags: Those it was given.
        open_calls: The calls open where it is booked.
        around: The call it was started in.
        prompts: What a cache was asked in it.
    """

    __slots__ = ("around", "call", "open_calls", "prompts", "tags")

    def __init__(
        self, call: Call, tags: Sequence[str] | None, open_calls: Mapping[int, Call], around: Asked | None
    ) -> None:
        self.call = call
        self.tags = tags or ()
        self.open_calls = open_calls
        self.around = around
        self.prompts: Sequence[str] = ()


listeners: list[str] = []
"""Who wants to know what was asked: nothing is noted for nobody."""
_asked: ContextVar[Asked | None] = ContextVar("costguard_asked", default=None)


def asked(call: Call, tags: Sequence[str] | None, open_calls: Mapping[int, Call]) -> None:
    """Note a model call that starts in this context."""
    _asked.set(Asked(call, tags, open_calls, asked_here()))


def asked_here(prompt: str | None = None, run_id: UUID | None = None) -> Asked | None:
    """The innermost model call under way in this context.

    With ``prompt``, the one in which a cache was asked this very text, if there is one: a strict call is settled before
    its answer reaches the cache. With ``run_id``, the call of that run or none: one that was left open, timed out or
    not read on, is not who asks now.
    """
    found = _asked.get()
    if prompt is not None:
        noted = found
        while noted is not None:
            if any(text is prompt for text in noted.prompts):
                return noted
            noted = noted.around
    while found is not None and not _is_open(found, run_id):
        found = found.around
    return found


def _is_open(asked: Asked, run_id: UUID | None) -> bool:
    call = asked.call
    return call.run_id.int in asked.open_calls and (run_id is None or call.run_id == run_id)


class Stream:
    """What has come of a streamed reply so far."""

    # fmt: off
    __slots__ = (
        "chars", "check_at", "chunks", "first_at", "last_chunk", "next_check", "parts", "repeats", "stopped", "usage",
    )
    # fmt: on

    def __init__(self, now: float, check_at: int) -> None:
        self.parts: list[str] = []
        self.chunks = 0
        self.chars = 0
        self.check_at = check_at
        self.first_at = now
        self.last_chunk: Any = None
        self.next_check = 0.0
        self.stopped = False
        self.usage: Mapping[str, Any] | None = None
        self.repeats = False

    def tell(self, usage: Mapping[str, Any]) -> None:
        """Note the usage that a chunk carries: where a second one counts the same prompt again, it is that of all so
        far, and the last one is the reply's."""
        before = self.usage
        if before is not None and usage.get("input_tokens") and before.get("input_tokens") == usage["input_tokens"]:
            self.repeats = True
        if before is None or usage.get("input_tokens"):
            self.usage = usage

    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)

    def at_most(self) -> int:
        """Tokens so far, counted cheaply and high: providers send a token or more a chunk, and text that is not all
        emoji has a character or more to a token."""
        return max(self.chunks, self.chars)


def pieces(token: Any, chunk: Any) -> str:
    """The text of one streamed chunk that is billed as output: content, reasoning, and the arguments of tool calls."""
    if isinstance(token, str) and token:
        return token
    message = getattr(chunk, "message", None)
    calls = getattr(message, "tool_call_chunks", None)
    if calls:
        return "".join(f"{call.get('name') or ''}{call.get('args') or ''}" for call in calls)
    if isinstance(token, list):
        return "".join(map(_block, token))
    extra = getattr(message, "additional_kwargs", None)
    return str(extra.get("reasoning_content") or "") if extra else ""


def _block(block: Any) -> str:
    if isinstance(block, str):
        return block
    if not isinstance(block, dict):
        return ""
    for key in ("text", "thinking", "reasoning", "partial_json", "input_json_delta", "args"):
        value = block.get(key)
        if isinstance(value, str) and value:
            return value
    return "".join(str(item.get("text") or "") for item in block.get("summary") or () if isinstance(item, dict))
