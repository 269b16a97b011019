"""Sees every call that reaches LangChain's callbacks, says whether a guard of the program saw it, and stops it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard.cli.doctor import records, sites
from langchain_costguard.cli.doctor.answers import offered, prepare
from langchain_costguard.cli.doctor.records import Log
from langchain_costguard.events.metered import CallStarted, Event, Refused
from langchain_costguard.metering.admission import STRICT
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.lineage import is_step
from langchain_costguard.metering.seams.watching import attached_here, watching
from langchain_costguard.steering.seams.whole_run import guard_here
from langchain_costguard.vocabulary.errors import CostGuardError
from langchain_costguard.vocabulary.scope import resolve

_ENOUGH = 1_000
"""Refusals after which a program that never gives up is ended."""
_PLENTY = 10**12


class Drill(Budget):
    """What every guard of the program gets on top of its own budgets: no model call, no tool call, or just an ear."""

    def caps(self) -> dict[str, int]:
        """One cap: nothing, or more than anybody needs."""
        return {self.name.rpartition(" ")[2]: 0 if self.name.startswith("doctor") else _PLENTY}


def drill_for(stage: str) -> Drill:
    """The budget of a trial."""
    name = {"model": "doctor: model_calls", "tool": "doctor: tool_calls"}.get(stage, "ear: model_calls")
    return Drill(per="all", name=name, model_calls=1)


class Observer(BaseCallbackHandler):
    """The last handler of every callback manager: what a guard refuses does not come here."""

    raise_error = True
    run_inline = True

    def __init__(self, log: Log, own: str) -> None:
        self._log = log
        self._own = own
        self._admitted: set[UUID] = set()
        self._chains: set[UUID] = set()

    # What guards of the program tell

    def sink(self, event: Event) -> None:
        """Hear what the program's own guards do."""
        if isinstance(event, CallStarted):
            self._admitted.add(event.run_id)
        elif isinstance(event, Refused):
            where = _where(event.scope.agent, event.scope.step)
            facts = {"error": event.error, "message": event.message, **self._client(event.kind)}
            self._write(event.kind, records.REFUSED, event.name, where, facts)
            self._count()

    # What LangChain tells

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Know that a chain runs: a call in a bare thread meanwhile has lost its context. Tell of a graph's node."""
        self._chains.add(run_id)
        if is_step(kwargs.get("tags")):
            frames = list(sites.stack())
            heard = sites.guards_told(frames) or guard_here(sites.node_config(frames)) is not None
            state = records.SEEN if heard else records.MISSED
            self._log.write(records.NODE, state=state, name=str(kwargs.get("name") or ""))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """It is over."""
        self._chains.discard(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """It is over."""
        self._chains.discard(run_id)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        """A chat model is about to be called."""
        _guard_first("on_chat_model_start", serialized, messages, kwargs)
        self._model(messages[0] if messages else [], kwargs)

    def on_llm_start(self, serialized: Any, prompts: list[str], **kwargs: Any) -> None:
        """A text model is about to be called."""
        _guard_first("on_llm_start", serialized, prompts, kwargs)
        self._model([], kwargs)

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        """A tool is about to run."""
        _guard_first("on_tool_start", serialized, input_str, kwargs)
        name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
        self._call("tool", str(name), kwargs, {})
        if self._log.stage != "tools":
            self._refuse(f"tool {name}")

    def _model(self, messages: Sequence[Any], event: Mapping[str, Any]) -> None:
        metadata, params = event.get("metadata") or {}, event.get("invocation_params") or {}
        name = str(metadata.get("ls_model_name") or params.get("model") or "a model")
        facts = {"tools": [tool.name for tool in offered(params)], **self._client("model")}
        state = self._call("model", name, event, facts)
        if self._log.stage != "model":
            prepare(messages, params, self._log.stage)
        elif state != records.STRICT:
            self._refuse(f"a call to {name}")

    def _call(self, kind: str, name: str, event: Mapping[str, Any], facts: dict[str, Any]) -> str:
        metadata = event.get("metadata") or {}
        if metadata.get(STRICT) and kind == "model":
            state = records.STRICT
        else:
            state = records.SEEN if event["run_id"] in self._admitted else records.MISSED
        facts["lost"] = self._lost(event)
        scope = resolve(metadata, None, None, trace="", model="", session="")
        self._write(kind, state, name, _where(scope.agent, scope.step), facts)
        return state

    def _lost(self, event: Mapping[str, Any]) -> str:
        """Why a handler given from outside does not reach this call: ``callbacks``, ``thread``, or nothing."""
        if event.get("parent_run_id") is not None:
            return ""
        config = var_child_runnable_config.get()
        if config is not None and getattr(config.get("callbacks"), "parent_run_id", None) is not None:
            return "callbacks"
        bare = config is None and threading.current_thread() is not threading.main_thread()
        return "thread" if bare and self._chains else ""

    def _client(self, kind: str) -> dict[str, Any]:
        """What the model object says about its usage reports and retries."""
        found = sites.model_in(sites.stack()) if kind == "model" else None
        if found is None:
            return {}
        model, method = found
        streams = method in ("stream", "astream") or bool(getattr(model, "streaming", False))
        told = getattr(model, "stream_usage", True)
        retries = getattr(model, "max_retries", 0)
        if retries is None:  # the SDK's own default; openai's and anthropic's are the same
            retries = 2 if type(model).__module__.startswith(("langchain_openai", "langchain_anthropic")) else 0
        return {"streams": streams, "tells_usage": bool(told), "retries": retries if isinstance(retries, int) else 0}

    def _write(self, kind: str, state: str, name: str, where: str, facts: dict[str, Any]) -> None:
        site = sites.here(self._own)
        self._log.write(records.CALL, kind=kind, state=state, site=site, name=name, where=where, facts=facts)

    def _refuse(self, what: str) -> None:
        self._count()
        raise CostGuardError(f"costguard doctor refused {what}.")

    def _count(self) -> None:
        self._log.refusals += 1
        if self._log.refusals > _ENOUGH:
            self._log.write(records.END, state="endless")
            os._exit(0)


def _guard_first(event: str, serialized: Any, given: Any, kwargs: Mapping[str, Any]) -> None:
    """Let the guards speak first: LangChain calls that of a steered agent after handlers that come from further out,
    as this one does, and has no order among handlers where it merges managers. That they hear of a call twice is
    nothing to them.
    https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/callbacks/base.py (merge)
    """
    for guard in (*filter(None, [attached_here()]), *sites.guards_told(sites.stack())):
        getattr(guard, event)(serialized, given, **kwargs)


def _where(agent: str, step: str) -> str:
    return ", ".join(f"{noun} {name}" for noun, name in (("agent", agent), ("node", step)) if name)


@contextmanager
def watching_last(observer: Observer) -> Iterator[None]:
    """Attach the observer behind whatever the program watches with: slots that guards use are made before its own."""
    with ExitStack() as last:
        with ExitStack() as earlier:
            for _ in range(8):
                earlier.enter_context(watching(BaseCallbackHandler()))
            last.enter_context(watching(observer))
        yield
