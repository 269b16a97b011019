"""How many tokens a call will take, said before it is made: a best guess, and a bound that includes its error."""

from __future__ import annotations

import marshal
import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import itemgetter, methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from langchain_costguard.metering.pricing import encodings
from langchain_costguard.metering.pricing.blocks import as_json, count_blocks, count_signatures
from langchain_costguard.metering.pricing.families import Family, family_of
from langchain_costguard.metering.pricing.limits import output_limit
from langchain_costguard.metering.pricing.schemas import as_json as schemas_as_json
from langchain_costguard.metering.pricing.schemas import as_typescript, functions_of
from langchain_costguard.metering.pricing.shapes import MARGIN as SHAPE_MARGIN
from langchain_costguard.metering.pricing.tokens import TextCounter, counter
from langchain_costguard.vocabulary.checks import called, mapped
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["Estimate", "Estimator", "TokenCounter", "output_limit"]

TokenCounter = Callable[[Sequence["BaseMessage"]], int]

HOSTED_TOOL = 700
"""Tokens a tool of the provider's own adds by its hidden instructions; what it then finds cannot be foreseen."""

SCHEMA_MARGIN = 0.15
"""Added for the schemas alone: how a provider renders them to its model is its own, undocumented matter."""

_CONTENT = itemgetter("content")
_HAS_CALLS = methodcaller("get", "tool_calls")
_REMEMBERED = 2_000
_REMEMBERED_CHARS = 2_000_000


class Estimate(NamedTuple):
    """Input tokens of a call: the best guess, and the bound that includes the estimator's stated error."""

    tokens: int
    upper: int


class _Plan(NamedTuple):
    """What is looked up once per model: its family and the counter of its encoding."""

    family: Family
    texts: TextCounter


class Lengths(Protocol):
    """What a bound by length takes of a model: tokens for a character, a message, a tool call, and a request."""

    ref: ModelRef
    per_char: int
    per_message: int
    per_call: int
    base: int


class Estimator:
    """Estimates input tokens before a call. ``counter`` is the user's own, and ``counters`` are those of models by name
    or pattern (the first that fits): they are believed as they are."""

    def __init__(self, counter: TokenCounter | None = None, counters: Mapping[str, TokenCounter] | None = None) -> None:
        if counter is not None:
            called("counter", counter, "a function that counts the tokens of messages")
        mapped("counters", {} if counters is None else counters, '{"claude-*": counter}')
        self._counter = counter
        self._counters = dict(counters or {})
        self.own = counter is not None or bool(self._counters)
        """Whether a user's own counter is believed as it is."""
        self._lengths: dict[int, tuple[Any, int, int]] = {}
        self._plans: dict[str, _Plan] = {}
        self._calls: dict[int, tuple[list[Any], int, TextCounter, int]] = {}
        self._calls_chars = 0
        self._tools: dict[tuple[str, bool, bytes], tuple[int, int]] = {}
        self._last_tools: tuple[Any, int, str, bool, tuple[int, int]] | None = None

    def estimate(
        self,
        ref: ModelRef,
        messages: Sequence[BaseMessage],
        *,
        tools: Sequence[Any] | None = None,
        response_format: Any = None,
    ) -> Estimate:
        """The input tokens of a chat call with these messages, tool schemas and demanded answer format."""
        if self.own and (own := self._own(ref.name)) is not None:
            tokens = own(messages)
            return Estimate(tokens, tokens)
        plan = self._plans.get(ref.name) or self._plan(ref.name)
        family, texts = plan
        if not texts.exact:
            texts.refresh()
        other: float = family.base + family.per_message * len(messages)
        fields = list(map(vars, messages))
        try:
            text = sum(map(texts.recent.get, map(_CONTENT, fields)))  # type: ignore[arg-type]
        except TypeError:  # a text not seen before (None), or content in blocks (cannot be looked up)
            text, images = self._contents(plan, fields)
            other += images
        for each in filter(_HAS_CALLS, fields):
            words, more = self._tool_calls(plan, each)
            text += words
            other += more
        slack = family.slack
        if tools:
            more, extra = self._schemas(plan, tools)
            other += more
            slack += extra
        if response_format is not None:
            other += family.schema_base + family.schema_factor * texts.count(as_json(_schema(response_format)))
        return self._sum(plan, text * family.factor + other, slack)

    def at_most(self, terms: Lengths, messages: Sequence[BaseMessage], tools: Sequence[Any] | None) -> int | None:
        """A figure that ``upper`` cannot be above, by the length of the texts; None where there is more to look at.

        A byte is no more than a token, so an ASCII character is none, and another no more than four.
        """
        fields = list(map(vars, messages))
        try:
            text = "".join(map(_CONTENT, fields))
        except TypeError:  # content in blocks
            return None
        size = len(text) if text.isascii() else 4 * len(text)
        more = terms.base + terms.per_message * len(fields)
        for each in filter(_HAS_CALLS, fields):
            size += self._length(each["tool_calls"])
            extra = each.get("additional_kwargs")
            more += terms.per_call * len(each["tool_calls"]) + (count_signatures(extra) if extra else 0)
        if tools:
            plan = self._plans.get(terms.ref.name) or self._plan(terms.ref.name)
            more += 2 * sum(self._schemas(plan, tools))
        return size * terms.per_char + more

    def _length(self, calls: list[Any]) -> int:
        """The characters of tool calls, four for one that is not ASCII; remembered by the list, which is kept."""
        entry = self._lengths.get(id(calls))
        if entry is None or entry[0] is not calls or entry[1] != len(calls):
            texts = [f"{call.get('name')}{as_json(call.get('args'))}" for call in calls]
            size = sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
            if len(self._lengths) >= _REMEMBERED:
                self._lengths = {}
            entry = self._lengths[id(calls)] = (calls, len(calls), size)
        return entry[2]

    def _own(self, model: str) -> TokenCounter | None:
        """The user's own counter for a model."""
        fitting = (each for pattern, each in self._counters.items() if fnmatchcase(model, pattern))
        return next(fitting, self._counter)

    def estimate_text(self, ref: ModelRef, text: str) -> Estimate:
        """The input tokens of a text completion, or of a text to embed."""
        plan = self._plans.get(ref.name) or self._plan(ref.name)
        plan.texts.refresh()
        return self._sum(plan, plan.texts.count(text) * plan.family.factor, 0)

    def count_output(self, text: str, ref: ModelRef) -> int:
        """The output tokens of a text received so far (a stream that was broken off)."""
        plan = self._plans.get(ref.name) or self._plan(ref.name)
        plan.texts.refresh()
        return math.ceil(plan.texts.count(text) * plan.family.factor)

    def warm(self, seconds: float = 0.0) -> bool:
        """Begin to prepare the vocabulary in the background, wait for it so long, and say whether it is ready."""
        if seconds > 0:
            return encodings.wait("o200k_base", seconds)
        return encodings.encoder("o200k_base") is not None

    def _plan(self, name: str) -> _Plan:
        if len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        family = family_of(name)
        plan = self._plans[name] = _Plan(family, counter(family.encoding))
        return plan

    def _sum(self, plan: _Plan, tokens: float, slack: int) -> Estimate:
        margin = plan.family.margin + (0 if plan.texts.exact else SHAPE_MARGIN)
        return Estimate(math.ceil(tokens), math.ceil(tokens * (1 + margin)) + slack)

    def _contents(self, plan: _Plan, fields: Sequence[dict[str, Any]]) -> tuple[int, int]:
        """Tokens of all contents: those of text, and those of images, files and other things."""
        count, text, other = plan.texts.count, 0, 0
        for each in fields:
            content = each["content"]
            if isinstance(content, str):
                text += count(content)
            elif isinstance(content, list | tuple):
                counted = bool(each.get("tool_calls"))
                words, rest = count_blocks(content, count, plan.family.image, calls_counted=counted)
                text += words
                other += rest
            else:
                text += count(str(content))
        return text, other

    def _tool_calls(self, plan: _Plan, fields: dict[str, Any]) -> tuple[int, float]:
        """Tokens of a message's tool calls: their text, and what surrounds it.

        The text's count is remembered by the list itself, which is kept, so that its id stays its own.
        """
        calls, extra = fields["tool_calls"], fields.get("additional_kwargs")
        other = len(calls) * plan.family.per_call + (count_signatures(extra) if extra else 0)
        entry = self._calls.get(id(calls))
        if entry is not None and entry[0] is calls and entry[1] == len(calls) and entry[2] is plan.texts:
            return entry[3], other
        tokens = chars = 0
        for call in calls:
            arguments = as_json(call.get("args"))
            chars += len(arguments)
            tokens += plan.texts.count(str(call.get("name"))) + plan.texts.count(arguments)
        if plan.texts.exact:
            self._calls_chars += chars
            if len(self._calls) >= _REMEMBERED or self._calls_chars > _REMEMBERED_CHARS:
                self._calls, self._calls_chars = {}, chars
            self._calls[id(calls)] = (calls, len(calls), plan.texts, tokens)
        return tokens, other

    def _schemas(self, plan: _Plan, tools: Sequence[Any]) -> tuple[int, int]:
        """Tokens of the tools, and what their count may be short of; remembered by the tools' content."""
        family, exact = plan.family, plan.texts.exact
        last = self._last_tools
        if last is not None and last[0] is tools and last[1:4] == (len(tools), family.name, exact):
            return last[4]
        try:
            key = (family.name, exact, marshal.dumps(cast(Any, tools), 2))
        except ValueError:
            key = (family.name, exact, repr(tools).encode("utf-8", "replace"))
        found = self._tools.get(key)
        if found is None:
            if len(self._tools) >= _REMEMBERED // 10:
                self._tools.clear()
            found = self._tools[key] = _count_schemas(plan, tools)
        self._last_tools = (tools, len(tools), family.name, exact, found)
        return found


def _count_schemas(plan: _Plan, tools: Sequence[Any]) -> tuple[int, int]:
    functions, hosted = functions_of(tools)
    family = plan.family
    tokens: float = hosted * HOSTED_TOOL
    slack = 2.0 * tokens
    if functions:
        render = as_typescript if family.rendering == "typescript" else schemas_as_json
        schema = plan.texts.count(render(functions)) * family.schema_factor
        tokens += family.tool_base + family.per_tool * len(functions) + schema
        slack += family.tool_slack + SCHEMA_MARGIN * schema
    return math.ceil(tokens), math.ceil(slack)


def _schema(response_format: Any) -> Any:
    if isinstance(response_format, type) and hasattr(response_format, "model_json_schema"):
        return response_format.model_json_schema()
    return response_format
