"""A summary by a model, made in the background after one answer and taken up before a later call.

It is metered as a step of its own, by the guard, and no stream shows it: it runs in a context of its own, and carries
LangGraph's tag for that besides. What fails, or is refused by a budget, ends as a digest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, get_buffer_string
from langgraph.constants import TAG_NOSTREAM

from langchain_costguard.context.summary import INSTRUCTION, Making, cached_price, summary_price
from langchain_costguard.steering.layers.fleet import Fleet, ref_of
from langchain_costguard.vocabulary.scope import TAGS

if TYPE_CHECKING:
    from langchain_costguard.steering.layers.windows import Shaped, Windows
    from langchain_costguard.steering.surroundings import Here

STEP = "context"


def making(windows: Windows, here: Here, shaped: Shaped) -> Making:
    """Begin to make the summary that a compaction waits for."""
    assert shaped.deferred is not None
    cut = shaped.deferred.cut
    made = Making(shaped.record, cut, tuple(map(windows.shaper.key, shaped.born[: cut.covered])))
    make = _maker(windows, here, shaped)
    thread = threading.Thread(target=_quietly, args=(windows, made, make), name="costguard-context", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread to be had, or the interpreter is ending: a digest stands in
        made.done = True
    return made


def _quietly(windows: Windows, made: Making, make: Callable[[], str]) -> None:
    try:
        made.run(make)
    except Exception as error:  # a budget's refusal among them: the digest stands in
        windows.guard.say_once("A model's summary failed, and a digest stands in for it", error)


def _maker(windows: Windows, here: Here, shaped: Shaped) -> Callable[[], str]:
    assert shaped.deferred is not None
    guard, chosen, record = windows.guard, windows.chosen.summary, shaped.record
    gone = [shaped.born[at] for at in shaped.deferred.cut.dropped if at >= len(record.keys) or at in record.kept]
    if record.summary:
        gone = [HumanMessage(record.summary), *gone]
    if callable(chosen) and not isinstance(chosen, BaseChatModel):
        return lambda: str(chosen(gone))
    model = windows.summarizer()
    asked: Sequence[BaseMessage] = [
        HumanMessage(f"{INSTRUCTION}\n\n<conversation>\n{get_buffer_string(gone)}\n</conversation>")
    ]
    own = _own_is_cheaper(windows, shaped, model, gone)
    if own is not None:
        model, asked = own
    whose = {tag: name for tag in TAGS if (name := getattr(here.scope, tag))}
    config: Any = {
        "tags": [TAG_NOSTREAM],
        "metadata": {"langgraph_node": STEP, "lc_source": "costguard_context"},
        "run_name": "costguard context",
    }

    def make() -> str:
        with guard.scope(**whose):
            return str(model.invoke(list(asked), config).text)

    return make


def _own_is_cheaper(
    windows: Windows, shaped: Shaped, model: Any, gone: Sequence[BaseMessage]
) -> tuple[Any, list[BaseMessage]] | None:
    """The agent's own model, asked at the end of the prompt that it has in its cache, where that costs less than the
    chosen model's reading of the history anew: Haiku's input is dearer than what Sonnet reads from its cache."""
    request, now, ref = shaped.request, shaped.now, shaped.ref
    main = getattr(request, "model", None)
    if now is None or ref is None or main is None or ref_of(main) != ref:
        return None
    rates = Fleet((), windows.guard).rates(model)
    history = int(sum(windows.sizes(ref, gone)) * now.scale)
    if summary_price(rates, history) <= cached_price(now.prices, shaped.sent[0]):
        return None
    tools = getattr(request, "tools", None)
    settings = getattr(request, "settings", None) or {}
    bound = main.bind_tools(tools) if tools else main.bind(**settings) if settings else main
    system = getattr(request, "system_message", None)
    asked = [*([system] if system is not None else []), *request.messages, HumanMessage(INSTRUCTION)]
    return _guarded(windows, bound, main), asked


def _guarded(windows: Windows, bound: Any, main: Any) -> Any:
    strict = windows.guard.wrap(main)
    return strict if bound is main else bound.model_copy(update={"bound": strict})
