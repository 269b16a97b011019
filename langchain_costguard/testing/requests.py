"""What reached the fake provider, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langchain_costguard.vocabulary.usage import Usage

_PROMPT_FIELDS = ("system", "instructions", "messages", "input", "tools")
_NOT_PROMPT = {"role", "type", "id", "call_id", "tool_call_id", "tool_use_id", "url", "data", "status"}


class OfferedTool(NamedTuple):
    """A tool that a request lets the model call."""

    name: str
    schema: dict[str, Any]
    """JSON schema of its arguments."""


@dataclass(eq=False)
class Request:
    """One request as the provider saw it; the fields after ``at`` are filled in while it is answered."""

    number: int
    """1 for the first request of a provider."""
    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(repr=False)
    """Header names are in lower case (``x-stainless-retry-count`` tells an SDK's own retries)."""
    at: float
    """When it came, epoch seconds."""
    status: int | None = None
    """HTTP status of the answer; None while there is none."""
    finished: bool = False
    """The whole answer was sent."""
    aborted: bool = False
    """The client hung up before the end of the answer."""
    chunks_sent: int = 0
    """Pieces of a stream that were sent (openings, endings and usage are not pieces)."""
    holding: bool = False
    """It waits for the gate now."""
    usage: Usage | None = None
    """What the provider bills: the truth to compare a meter with. None while in flight and for errors; of a broken-off
    request, the input and the output sent until then."""
    served: Mapping[str, Any] | None = field(default=None, repr=False)
    """The usage block that was sent to the client; None when it was told nothing."""

    @property
    def model(self) -> str:
        """Model asked for."""
        return str(self.body.get("model", ""))

    @property
    def streamed(self) -> bool:
        """The client asked for a stream."""
        return bool(self.body.get("stream"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation in the wire's own shape."""
        found = self.body.get("messages", self.body.get("input", []))
        return found if isinstance(found, list) else [{"role": "user", "content": found}]

    @property
    def tools(self) -> list[OfferedTool]:
        """Tools offered, whatever the dialect."""
        offered = [tool.get("function", tool) for tool in self.body.get("tools") or []]
        return [
            OfferedTool(tool["name"], tool.get("parameters") or tool.get("input_schema") or {})
            for tool in offered
            if "name" in tool
        ]

    @property
    def n(self) -> int:
        """Choices asked for."""
        return int(self.body.get("n") or 1)

    @property
    def max_tokens(self) -> int | None:
        """Output ceiling of each choice, in tokens; None when none was given."""
        for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
            if self.body.get(name) is not None:
                return int(self.body[name])
        return None

    def count_input(self) -> int:
        """Words of the prompt and of the tools' descriptions, at least 1: never more than a real tokenizer counts."""
        prompt = (self.body.get(name) for name in _PROMPT_FIELDS)
        return max(1, sum(_words(part) for part in prompt))


def _words(value: object) -> int:
    if isinstance(value, str):
        return len(value.split())
    return sum(_words(part) for part in _parts(value))


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from (part for name, part in value.items() if name not in _NOT_PROMPT)
    elif isinstance(value, list):
        yield from value
        if value and isinstance(value[0], int):  # token ids, as embedding clients may send
            yield " x" * len(value)
