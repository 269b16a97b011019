"""What a request binds besides its messages, in nobody's words: read from the words of any client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_costguard.steering.translation import formats
from langchain_costguard.steering.translation.choices import Choice, read_choice

_PLAIN = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), "max_tokens"),
    **dict.fromkeys(("stop", "stop_sequences"), "stop"),
    **dict.fromkeys(("n", "candidate_count"), "n"),
    **{name: name for name in ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")},
}
"""One name for each setting that several clients have."""
_HINTS = frozenset(
    ("cache_control", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "stream_options",
     "stream_usage")
)  # fmt: skip
"""What changes no answer: marks for a provider's own cache, and how a stream tells its usage. It is left behind."""
_EFFORT = ("reasoning_effort", "effort", "thinking_level")
_THINKING = ("thinking", "reasoning", "thinking_budget", "include_thoughts", "thinking_config")
_KEPT = ("ls_structured_output_format",)
"""What is for LangChain alone."""


_UNSAID = Choice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a request binds.

    ``functions`` may go anywhere; ``hosted`` are tools that a provider runs, by name. ``form`` is as in ``formats``.
    ``effort`` is how hard to think; ``none`` is not at all. ``foreign`` are words that only their own client knows.
    """

    functions: tuple[Any, ...] = ()
    hosted: tuple[str, ...] = ()
    choice: Choice = _UNSAID
    alone: bool = False
    """Whether no two tools may be called at once."""
    form: Any = None
    effort: str = ""
    plain: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()

    def without(self, words: Sequence[str]) -> Bound:
        """The same but for these words, which need no translation."""
        form = None if "response_format" in words else self.form
        return replace(self, form=form, foreign=tuple(word for word in self.foreign if word not in words))

    @property
    def tools(self) -> bool:
        """Whether there is anything to call."""
        return bool(self.functions or self.hosted)

    @property
    def one_answer(self) -> bool:
        """Whether a tool is the form of the answer: only its first call is read."""
        said = self.kept.get("ls_structured_output_format")
        return isinstance(said, Mapping) and self.choice.kind == "tool"


def read(settings: Mapping[str, Any], tools: Sequence[Any] = (), choice: Any = None) -> Bound:
    """What is bound, in a call's arguments or beside them (``tools``, ``choice``)."""
    said = {key: value for key, value in settings.items() if value is not None and key not in _HINTS}
    more = said.pop("tools", None)
    functions, hosted = _sorted([*tools, *(more if isinstance(more, Sequence) else [more] if more else ())])
    google = said.pop("tool_config", None)
    stated = said.pop("tool_choice", None) or choice or google
    chosen = read_choice(stated, [name_of(tool) for tool in functions])
    parallel = said.pop("parallel_tool_calls", None)
    foreign = formats.other_words(said)
    form = formats.read_format(said)
    if form is not None and not (isinstance(form, Mapping) or hasattr(form, "model_json_schema")):
        form, foreign = None, [*foreign, "response_format"]
    effort, odd = _effort(said)
    rest = {key: value for key, value in said.items() if key not in (*formats.WORDS, *_EFFORT, *_THINKING)}
    foreign += [*odd, *(key for key in rest if key not in _PLAIN and key not in _KEPT)]
    if chosen.other:
        foreign.append(f"tool_choice of {chosen.other}")
    return Bound(
        functions=tuple(functions),
        hosted=tuple(hosted),
        choice=chosen,
        alone=chosen.one_at_a_time or parallel is False,
        form=form,
        effort=effort,
        plain={_PLAIN[key]: value for key, value in rest.items() if key in _PLAIN},
        kept={key: value for key, value in rest.items() if key in _KEPT},
        foreign=tuple(foreign),
    )


def name_of(tool: Any) -> str:
    """What a function is called."""
    if isinstance(tool, Mapping):
        return str(tool["function"]["name"])
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", ""))


def _sorted(tools: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The functions, and the names of what is none."""
    functions: list[Any] = []
    hosted: list[str] = []
    for tool in tools:
        if isinstance(tool, BaseTool) or (callable(tool) and not isinstance(tool, Mapping)):
            functions.append(tool)
        elif isinstance(tool, Mapping) and _is_function(tool):
            functions.append(_function(tool))
        elif isinstance(tool, Mapping):
            hosted.append(str(tool.get("type") or next((key for key in tool if tool[key] is not None), "")))
        else:
            hosted.append(type(tool).__name__)
    return functions, hosted


def _is_function(tool: Mapping[str, Any]) -> bool:
    if tool.get("type") not in (None, "function", "custom", "object"):
        return False
    named = "name" in tool and bool({"input_schema", "parameters"} & set(tool))
    return isinstance(tool.get("function"), Mapping) or named or ("title" in tool and "properties" in tool)


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A function as OpenAI's chat API writes it, without marks for a cache."""
    plain = {key: value for key, value in tool.items() if key not in ("cache_control", "defer_loading")}
    inside = plain.get("function")
    if isinstance(inside, Mapping):
        return {"type": "function", "function": dict(inside)}
    if plain.get("type") in ("custom", "function"):
        plain.pop("type")
    strict = plain.pop("strict", None)
    made = convert_to_openai_tool(plain)
    if strict is not None:
        made["function"]["strict"] = strict
    return made


def _effort(said: Mapping[str, Any]) -> tuple[str, list[str]]:
    """How hard to think, and what is said of thinking that only its own client understands."""
    config = said.get("output_config")
    inside = [said.get("reasoning"), {"effort": config.get("effort")} if isinstance(config, Mapping) else None]
    levels = [said.get(key) for key in _EFFORT]
    levels += [where.get("effort") for where in inside if isinstance(where, Mapping)]
    effort = next((str(level) for level in levels if level), "")
    odd = list(_odd(said))
    how, budget = said.get("thinking"), said.get("thinking_budget")
    off = (isinstance(how, Mapping) and how.get("type") == "disabled") or budget == 0
    return effort or ("none" if off else ""), odd


def _odd(said: Mapping[str, Any]) -> Iterator[str]:
    how = said.get("thinking")
    if how is not None and not (isinstance(how, Mapping) and how.get("type") == "disabled"):
        yield "thinking"
    reasoning = said.get("reasoning")
    if isinstance(reasoning, Mapping) and set(reasoning) - {"effort", "summary", "generate_summary"}:
        yield "reasoning"
    if said.get("thinking_budget"):
        yield "thinking_budget"
    yield from (key for key in ("include_thoughts", "thinking_config") if said.get(key))
