"""What is remembered, for how long, and who may share it: the rules of one cache."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from langchain_costguard.vocabulary.checks import called, listed

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.scope import Scope

Share = Literal["user", "feature", "all"]
DAY = 86_400.0


class Asked(Protocol):
    """What the rules look at in a ``Question``."""

    @property
    def temperature(self) -> float | None:
        """As the request has it; None where it does not say."""

    @property
    def scope(self) -> Scope:
        """Who asks."""

    @property
    def tags(self) -> Collection[str]:
        """The tags of the call."""

    def certain(self, deterministic: bool) -> bool:
        """Whether its answer is always the same."""


class Options(TypedDict, total=False):
    """The arguments that every cache takes, as ``Rules`` describes them."""

    ttl: float
    share: Share
    deterministic: bool
    tool_calls: bool
    cache_if: Callable[[Any], bool] | None
    no_cache: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one cache.

    Attributes:
        ttl: Seconds after which an answer is forgotten.
        share: Who may see an answer: the ``"user"`` it was made for, users of the same ``"feature"``, or ``"all"``.
            Where a call names no user (or feature), it shares with the others that name none.
        deterministic: That a request without a temperature may be answered from memory, as one with temperature 0.
        tool_calls: Whether replies that call tools are remembered, too.
        cache_if: Says of each question whether it may be remembered and answered from memory.
        no_cache: Nodes, agents, features and tags whose calls are neither remembered nor answered from memory. The tag
            ``no_cache`` does the same for any call.

    Raises:
        ValueError: names the field and the value.
    """

    ttl: float = DAY
    share: Share = "user"
    deterministic: bool = False
    tool_calls: bool = False
    cache_if: Callable[[Any], bool] | None = None
    no_cache: Collection[str] = ()

    def __post_init__(self) -> None:
        ttl: Any = self.ttl
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl < 1e10:
            raise ValueError(f"ttl: {ttl!r} must be a number of seconds above 0")
        if self.share not in ("user", "feature", "all"):
            raise ValueError(f"share: {self.share!r} is not 'user', 'feature' or 'all'")
        if self.cache_if is not None:
            called("cache_if", self.cache_if, "callable: it takes a Question and returns a bool")
        listed("no_cache", self.no_cache, "names of nodes, agents, features and tags")
        for field in ("deterministic", "tool_calls"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field}: {getattr(self, field)!r} must be True or False")

    def tenant(self, scope: Scope) -> str:
        """Whose answers a call may see: ``user:u1``, ``feature:search``, or an empty text for everybody's."""
        if self.share == "all":
            return ""
        name = scope.user if self.share == "user" else scope.feature
        return f"{self.share}:{name}" if name else ""

    def allow(self, question: Asked) -> bool:
        """Whether a question may be answered from memory, and its answer remembered."""
        if not question.certain(self.deterministic):
            return False
        scope = question.scope
        names = {scope.step, scope.agent, scope.feature, *question.tags}
        if "no_cache" in names or not names.isdisjoint(self.no_cache):
            return False
        return self.cache_if is None or bool(self.cache_if(question))
