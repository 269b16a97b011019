"""Whether a tool is to be called, and which: in the words of any client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langchain_costguard.steering.translation.dialects import FAMILY


class Choice(NamedTuple):
    """``kind`` is ``auto``, ``none``, ``any``, ``tool`` (the one of that ``name``), or empty where nothing is said.

    ``other`` is a choice that only its own client understands.
    """

    kind: str = ""
    name: str = ""
    other: str = ""
    one_at_a_time: bool = False

    @property
    def forced(self) -> bool:
        """Whether some tool must be called."""
        return self.kind in ("any", "tool")


_KINDS = {"auto": "auto", "none": "none", "any": "any", "required": "any"}


def read_choice(said: Any, names: Sequence[str]) -> Choice:
    """A choice in anybody's words; ``names`` are those of the tools."""
    if said is None or said is False:
        return Choice()
    if said is True:
        return Choice("any")
    if isinstance(said, str):
        return Choice(_KINDS[said]) if said in _KINDS and said not in names else Choice("tool", said)
    if isinstance(said, Mapping):
        return _read_mapping(said, names)
    if isinstance(said, Sequence):
        return _among([str(name) for name in said], names)
    return Choice(other=repr(said))


def _read_mapping(said: Mapping[str, Any], names: Sequence[str]) -> Choice:
    google = said.get("function_calling_config", said)
    if isinstance(google, Mapping) and "mode" in google:
        mode, allowed = (
            str(getattr(google["mode"], "value", google["mode"])).lower(),
            google.get("allowed_function_names"),
        )
        return _among(list(allowed), names) if allowed and mode == "any" else read_choice(mode, [])
    kind, alone = said.get("type"), bool(said.get("disable_parallel_tool_use"))
    if kind in _KINDS:
        return Choice(_KINDS[kind], one_at_a_time=alone)
    inside = said.get("function")
    name = inside.get("name") if isinstance(inside, Mapping) else said.get("name")
    if kind in ("tool", "function") and name:
        return Choice("tool", str(name), one_at_a_time=alone)
    return Choice(other=str(kind or sorted(said)))


def _among(allowed: Sequence[str], names: Sequence[str]) -> Choice:
    if set(allowed) >= set(names):
        return Choice("any")
    return Choice("tool", allowed[0]) if len(allowed) == 1 else Choice(other="some of the tools")


def write_choice(choice: Choice, dialect: str) -> Any:
    """A choice as ``bind_tools`` of a client takes it."""
    if not choice.kind:
        return None
    if dialect == "anthropic":
        return {"type": "tool", "name": choice.name} if choice.kind == "tool" else {"type": choice.kind}
    if choice.kind == "tool":
        return {"type": "function", "function": {"name": choice.name}} if dialect in FAMILY else choice.name
    return "required" if choice.kind == "any" and dialect in FAMILY else choice.kind
