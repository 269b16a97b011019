"""An answer as it is kept, and what can be told about those that are."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A remembered answer.

    Attributes:
        reply: The model's message, as JSON (``replies.encoded``).
        model: The model's name.
        feature, tenant, tags: By which answers can be forgotten.
        created, expires: Epoch seconds.
        cost: Nano-USD that the answer cost: what a hit saves.
        prompt, context: The user's last message, and a digest of the turns before it; empty in an exact cache.
    """

    reply: str
    model: str = ""
    feature: str = ""
    tenant: str = ""
    tags: tuple[str, ...] = ()
    created: float
    expires: float
    cost: int = 0
    prompt: str = ""
    context: str = ""

    def to_json(self) -> str:
        """The entry as one line."""
        return json.dumps({name: getattr(self, name) for name in _NAMES}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Entry:
        """The entry of such a line.

        Raises:
            ValueError: it is none.
        """
        try:
            read: dict[str, Any] = json.loads(text)
            known = {name: read[name] for name in _NAMES if name in read}
            entry = cls(**{**known, "tags": tuple(read.get("tags") or ())})
            for name in _NAMES:
                if not isinstance(getattr(entry, name), _KINDS.get(name, str)):
                    raise ValueError(f"no entry of a cache: its {name} is {getattr(entry, name)!r}"[:200])
            return entry
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no entry of a cache: {error}") from None


_NAMES = [field.name for field in fields(Entry)]
_KINDS: dict[str, Any] = {"tags": tuple, "created": (int, float), "expires": (int, float), "cost": int}


class Wanted(NamedTuple):
    """Which answers: those of which everything given is true. With nothing given, all."""

    tag: str | None = None
    feature: str | None = None
    model: str | None = None
    tenant: str | None = None
    before: float | None = None
    """Epoch seconds: those made before then."""

    def fits(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        return (
            (self.tag is None or self.tag in entry.tags)
            and (self.feature is None or self.feature == entry.feature)
            and (self.model is None or self.model == entry.model)
            and (self.tenant is None or self.tenant == entry.tenant)
            and (self.before is None or entry.created < self.before)
        )


class Stock(NamedTuple):
    """What a cache holds of one feature and model: answers, their bytes, and what they cost (nano-USD)."""

    feature: str
    model: str
    entries: int
    bytes: int
    cost: int
