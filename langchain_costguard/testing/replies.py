"""What a fake model answers: one frozen value, cut in the pieces a stream sends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ARGUMENT_PIECE = 16  # characters of a tool call's JSON arguments in one piece


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of an answer that one stream chunk carries; it counts as one output token."""

    text: str
    call: int | None = None
    """Position of the tool call that it belongs to; None is text of the answer."""
    opens: bool = False
    """The first piece of a tool call: it carries the tool's name, and no text."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answers to one request.

    ``Reply("four little words here")`` is four pieces, so four output tokens. A request's ``max_tokens`` cuts the
    pieces (finish reason ``length``) as a real provider does; a request for ``n`` choices gets this reply n times.
    """

    text: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    """Tools the model calls, as (name, arguments). Arguments given as a text are sent as they are, JSON or not."""
    chunks: int | Sequence[str] | None = None
    """How a stream is cut: the pieces themselves, or how many; None is one word a piece. A number without a text
    makes up a text of that many words."""
    input_tokens: int | None = None
    """Input tokens to bill; None counts the words of the request."""
    output_tokens: int | None = None
    """Output tokens to bill for each choice (never above ``max_tokens``); None counts the pieces."""
    usage: Mapping[str, Any] | None = None
    """The wire's usage block, sent as it is, in the words of the dialect asked for."""
    items: Sequence[Mapping[str, Any]] = ()
    """Blocks before the text, sent as they are, in the words of the dialect asked for: what the provider's own tools
    did (``web_search_call``), a compaction."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields beside the answer, sent as they are (``service_tier``)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer beside the usual ones."""
    cumulative: bool = False
    """Every piece of a stream of chat completions tells the usage so far, as vLLM may."""
    status: int = 200
    """HTTP status; from 400 up, an error in the provider's own words is sent and nothing is billed."""
    error: str = "The fake provider was told to fail."
    """Message of an error status."""
    code: str | None = None
    """Code of an error, as OpenAI has them (``insufficient_quota``); None sends none."""
    retry_after: float | None = None
    """Seconds in an error's Retry-After header; None sends none."""
    delay: float = 0.0
    """Seconds before the answer begins."""
    pace: float = 0.0
    """Seconds between two pieces of a stream."""
    hold_after: int | None = None
    """A stream waits for ``provider.gate`` after this many pieces."""
    finish_reason: str | None = None
    """Reported reason in the words of the dialect asked for; None derives it."""
    model: str | None = None
    """Model the provider says it used; None is the one asked for."""
    logprobs: float | None = None
    """Log-probability of each piece of the text, told where a chat completion asks for them; None tells none."""

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens", "retry_after", "delay", "pace", "hold_after"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise ValueError(f"Reply({name}={value!r}): must be a number that is not negative")
        if not _is_number(self.status) or not 200 <= self.status <= 599:
            raise ValueError(f"Reply(status={self.status!r}): must be an HTTP status from 200 to 599")
        if isinstance(self.chunks, int):
            if self.chunks < 1 or 0 < len(self.text) < self.chunks:
                raise ValueError(f"Reply(chunks={self.chunks!r}): cannot cut {self.text!r} in that many pieces")
        elif self.chunks is not None and not (
            isinstance(self.chunks, (list, tuple)) and all(isinstance(piece, str) for piece in self.chunks)
        ):
            raise ValueError(f"Reply(chunks={self.chunks!r}): must be a number of pieces, or a list of texts")
        elif self.chunks is not None and self.text not in ("", "".join(self.chunks)):
            raise ValueError(f"Reply(chunks={self.chunks!r}): the pieces do not add up to {self.text!r}")

    def texts(self) -> list[str]:
        """The text of the answer, cut in pieces."""
        if self.chunks is None:
            return _words(self.text)
        if not isinstance(self.chunks, int):
            return list(self.chunks)
        if not self.text:
            return [f"word{i} " for i in range(self.chunks - 1)] + [f"word{self.chunks - 1}"]
        size, longer = divmod(len(self.text), self.chunks)
        ends = [size * (i + 1) + min(i + 1, longer) for i in range(self.chunks)]
        return [self.text[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def pieces(self) -> Iterator[Piece]:
        """The whole answer as a stream sends it: the text, then the tool calls."""
        for text in self.texts():
            yield Piece(text)
        for position, (_, arguments) in enumerate(self.tool_calls):
            yield Piece("", position, opens=True)
            written = arguments if isinstance(arguments, str) else json.dumps(arguments)
            for start in range(0, len(written), _ARGUMENT_PIECE):
                yield Piece(written[start : start + _ARGUMENT_PIECE], position)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _words(text: str) -> list[str]:
    """One word a piece, each with the blanks after it: nothing of the text is lost."""
    return re.findall(r"\s*\S+\s*|\s+", text)


@dataclass(frozen=True, slots=True)
class Output:
    """What is left of a reply under a request's ceiling: the pieces, and what they are billed."""

    reply: Reply
    pieces: tuple[Piece, ...]
    tokens: int
    cut: bool
    """True when the ceiling cut it."""

    @classmethod
    def of(cls, reply: Reply, ceiling: int | None) -> Output:
        """Cut ``reply`` at ``ceiling`` output tokens (None: no ceiling)."""
        pieces = tuple(reply.pieces())
        tokens = len(pieces) if reply.output_tokens is None else reply.output_tokens
        cut = ceiling is not None and max(tokens, len(pieces)) > ceiling
        if ceiling is not None:
            pieces, tokens = pieces[:ceiling], min(tokens, ceiling)
        return cls(reply, pieces, tokens, cut)

    @property
    def text(self) -> str:
        """The text of the answer."""
        return "".join(piece.text for piece in self.pieces if piece.call is None)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Tool calls as (name, JSON arguments); the last one's arguments may be cut."""
        written: dict[int, str] = {}
        for piece in self.pieces:
            if piece.call is not None:
                written[piece.call] = written.get(piece.call, "") + piece.text
        return [(self.name_of(position), arguments) for position, arguments in written.items()]

    def name_of(self, call: int) -> str:
        """Name of the tool that a call is for."""
        return self.reply.tool_calls[call][0]
