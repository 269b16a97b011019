"""What the user chooses about the window: ``Context``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_costguard.context.pieces import Rule
from langchain_costguard.context.stash import Stash, opened
from langchain_costguard.vocabulary.checks import listed

Summarizer = str | BaseChatModel | Callable[[Sequence[BaseMessage]], str]
WEEK = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What goes into the window, and when it pays to take something out: ``steer(guard, context=Context())``.

    The thread's messages stay as they are; only what is sent is shorter. Long tool results are cut when they first
    enter the prompt, and the tool ``fetch_result`` returns the whole of them. Older history is compacted rarely and
    much, when by the model's prices that costs least: a prompt that changes is written to the provider's cache again.

    Args:
        window: Tokens that a prompt may have. None: nine tenths of what the model's profile says it takes, less its
            own limit of output.
        cap: Tokens that stay of a tool result (of a window below 30,000 tokens, 5 % of it at the most). None: all.
        keep: The newest messages, which a compaction leaves alone.
        summary: What stands for the history that goes. None: a digest, word for word and without a model. A model, its
            name, or a function of the messages makes it in the background, and the digest stands in where it fails.
        protect: Rules: a message of which one is true always stays.
        exclude_tools: Tools whose results are never cut: names or patterns such as ``"policy_*"``.
        warn_at: When to warn, once each in a thread: shares of the window (below 1) or tokens. What models make of a
            prompt falls with its length long before the window ends: https://research.trychroma.com/context-rot
        store: Where the wholes of cut results are kept, and the edits of threads without a checkpoint: a ``Stash``, a
            path of a SQLite file, or a Redis URL. None: in this process.
        ttl: Seconds that they are kept.
        server: Leave the clearing of old tool results to Anthropic (``clear_tool_uses``), at least as much at a time as
            pays for the rewriting; only for ``ChatAnthropic``.

    Raises:
        ValueError: names the field and the value.
    """

    window: int | None = None
    cap: int | None = 1_500
    keep: int = 4
    summary: Summarizer | None = None
    protect: Sequence[Rule] = ()
    exclude_tools: Collection[str] = ()
    warn_at: Sequence[float] = (0.65, 100_000)
    store: Stash | str | None = None
    ttl: float = WEEK
    server: bool = False

    def __post_init__(self) -> None:
        for field, least in (("window", 1_000), ("cap", 50)):
            value: Any = getattr(self, field)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{field}: {value!r} must be a whole number of tokens from {least}, or None")
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 1:
            raise ValueError(f"keep: {self.keep!r} must be a whole number of messages from 1")
        self._check_lists()
        if isinstance(self.ttl, bool) or not isinstance(self.ttl, (int, float)) or not 0 < self.ttl < 1e10:
            raise ValueError(f"ttl: {self.ttl!r} must be a number of seconds above 0")
        summary: Any = self.summary
        if summary is not None and not (callable(summary) or (isinstance(summary, (str, BaseChatModel)) and summary)):
            raise ValueError(f"summary: {summary!r} must be a chat model, a name such as 'openai:gpt-4o-mini', or None")
        if not isinstance(self.server, bool):
            raise ValueError(f"server: {self.server!r} must be True or False")
        object.__setattr__(self, "store", opened(self.store))

    def _check_lists(self) -> None:
        listed("protect", self.protect, "functions that take a message", callable)
        listed("exclude_tools", self.exclude_tools, "names of tools")
        listed("warn_at", self.warn_at, "shares below 1 or of tokens, or ()", _is_level)

    @property
    def stash(self) -> Stash:
        """Where wholes and edits are kept."""
        assert isinstance(self.store, Stash)
        return self.store


def _is_level(level: Any) -> bool:
    return isinstance(level, (int, float)) and not isinstance(level, bool) and level > 0
