"""What the attributes of each span are: values only, made from events and from what was said, where that is wanted."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

from langchain_costguard.events.metered import CacheHit, CallSettled, Refused, ToolSettled
from langchain_costguard.observe.exports.headers import requests_made
from langchain_costguard.observe.telemetry import content, naming
from langchain_costguard.observe.telemetry.presets import PRESETS, Attributes, Paid, tags_of
from langchain_costguard.observe.telemetry.run import Run
from langchain_costguard.vocabulary.money import NANO
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef

Identify = bool | Literal["hash"] | Callable[[str], str]
_PARAMS = {
    "temperature": float, "top_p": float, "top_k": int, "seed": int, "frequency_penalty": float,
    "presence_penalty": float,
}  # fmt: skip
_MAXIMA = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def identifying(identify: Any) -> Callable[[str], str] | None:
    """How a user or session is named outside: as it is (but for an e-mail address or a key, which become a hash),
    always as a keyed hash, by a callable, or (None) not at all.

    The key is ``COSTGUARD_HASH_KEY``, or one of this process alone.

    Raises:
        ValueError: none of these.
    """
    key = (os.environ.get("COSTGUARD_HASH_KEY") or secrets.token_hex()).encode()

    def hashed(name: str) -> str:
        return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:16]

    if identify is False:
        return None
    if identify is True:
        return lambda name: name if content.redacted(name) == name else hashed(name)
    if isinstance(identify, str) and identify == "hash":
        return hashed
    if callable(identify):
        return identify  # type: ignore[no-any-return]
    raise ValueError(f"identify: {identify!r} must be True, False, 'hash' or a callable that names people otherwise")


class Describing:
    """Attributes of spans.

    Args:
        names: The conventions' names.
        preset: Whose keys a cost has besides ours; None for ours alone.
        name: How people are named; None where they are not.
        redact: What is done to every text.
        said: Whether prompts and replies are wanted.
    """

    def __init__(
        self,
        names: naming.Names,
        preset: str | None,
        name: Callable[[str], str] | None,
        redact: content.Redact,
        *,
        said: bool,
    ) -> None:
        self.names = names
        self.safe = lru_cache(4_096)(redact)
        self._preset = preset
        self._name = lru_cache(4_096)(name) if name is not None else None
        self._redact = redact
        self._said = said

    def who(self, scope: Scope) -> Attributes:
        """Who is spending. Langfuse and others take user and session from each span alone."""
        found: Attributes = {key: self.safe(value) for key, value in naming.scope_attributes(scope).items()}
        if self._name is not None:
            if scope.session:
                found["session.id"] = found["gen_ai.conversation.id"] = self._name(scope.session)
            if scope.user:
                found["user.id"] = self._name(scope.user)
        found.update(tags_of(scope, self._preset))
        return found

    def agent(self, operation: str, name: str, metadata: Mapping[str, Any]) -> Attributes:
        """An agent's run, or the outermost graph's."""
        key = "gen_ai.agent.name" if operation == "invoke_agent" else self.names.workflow
        found: Attributes = {"gen_ai.operation.name": operation, key: self.safe(name)}
        if self._preset == "phoenix":
            found["openinference.span.kind"] = "AGENT" if operation == "invoke_agent" else "CHAIN"
        pairs = (("user", "user.id"), ("session", "session.id"))
        for tag, attribute in pairs if self._name is not None else ():
            value = metadata.get(f"costguard_{tag}") or metadata.get(f"{tag}_id")
            value = value or (metadata.get("thread_id") if tag == "session" else None)
            if value and self._name is not None:
                found[attribute] = self._name(str(value))
        return found

    def start(self, run: Run, run_id: UUID) -> Attributes:
        """What is known when a call was admitted."""
        found = self.who(run.scope)
        found["gen_ai.operation.name"] = naming.operation_of(run.kind)
        found[naming.HELD] = run.held
        found[naming.RUN] = str(run_id)
        params: Mapping[str, Any] = run.run.params if run.run is not None else {}
        if run.kind == "tool":
            found["gen_ai.tool.name"] = self.safe(run.name)
            if params.get("tool_call_id"):
                found["gen_ai.tool.call.id"] = str(params["tool_call_id"])
            if self._said and run.run is not None:
                found["gen_ai.tool.call.arguments"] = content.in_text(run.run.said, self._redact)
            return found
        found.update(self._request(run, params))
        return found

    def money(self, run: Run, event: Any, run_id: UUID) -> Attributes:
        """What a call was paid, by whose word."""
        found = self.who(event.scope)
        found[naming.RUN] = str(run_id)
        if isinstance(event, CallSettled):
            return found | self._model(event.model) | self._paid(event)
        if isinstance(event, ToolSettled):
            found |= {"gen_ai.tool.name": self.safe(event.tool)} | _cost(event.charge, "local", estimated=False)
        elif isinstance(event, CacheHit):
            found |= self._model(event.model) | _cost(0, "local", estimated=False)
            found |= {"costguard.cache_hit": True, naming.SAVED: event.saved}
        return found

    def outcome(self, run: Run, outcome: Any) -> Attributes:
        """What came back: ids and reasons, and what was said where that is wanted."""
        found: Attributes = {}
        if run.kind == "tool" and self._said and outcome is not None:
            found["gen_ai.tool.call.result"] = content.in_text(getattr(outcome, "content", outcome), self._redact)
        if run.kind != "model" or outcome is None:
            return found
        found.update(_response(outcome))
        if run.answered:
            found.pop("gen_ai.response.model", None)
        if self._said and run.run is not None:
            said = content.messages_of(run.run.said, self._redact)
            system, rest = content.instructions_and_rest(said)
            if system:
                found["gen_ai.system_instructions"] = content.in_text(system, str)
            found["gen_ai.input.messages"] = content.in_text(rest, str)
            found["gen_ai.output.messages"] = content.in_text(content.replies_of(outcome, self._redact), str)
            tools = run.run.params.get("tools")
            if tools:
                found["gen_ai.tool.definitions"] = content.in_text(tools, self._redact)
        return found

    def refusal(self, event: Refused, holders: Sequence[str]) -> Attributes:
        """What was asked and what was left, in the unit of the budget's account. Its sentence names people, and is
        there only where they are named as they are."""
        found: Attributes = {
            "error.type": event.error,
            "costguard.refusal.kind": event.kind,
            "costguard.refusal.name": self.safe(event.name),
            "costguard.refusal.midway": event.midway,
        }
        if event.budget:
            found |= {
                "costguard.refusal.budget": self.safe(event.budget),
                "costguard.refusal.measure": event.measure,
                "costguard.refusal.asked": event.asked,
                "costguard.refusal.left": event.left,
            }
        if holders:
            found["costguard.refusal.holders"] = "; ".join(holders)
        return found

    def _model(self, ref: ModelRef) -> Attributes:
        return {
            "gen_ai.provider.name": naming.provider_of(ref.provider, ref.name),
            "gen_ai.request.model": self.safe(ref.name),
        }

    def _request(self, run: Run, params: Mapping[str, Any]) -> Attributes:
        found: Attributes = {"gen_ai.request.model": self.safe(run.name)}
        metadata: Mapping[str, Any] = run.run.metadata if run.run is not None else {}
        if metadata.get("ls_provider"):
            found["gen_ai.provider.name"] = naming.provider_of(str(metadata["ls_provider"]), run.name)
        for name, kind in _PARAMS.items():
            value = params.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[f"gen_ai.request.{name}"] = kind(value)
        most = next((params[name] for name in _MAXIMA if isinstance(params.get(name), int)), None)
        most = most or metadata.get("ls_max_tokens")
        if isinstance(most, int):
            found["gen_ai.request.max_tokens"] = most
        if params.get("stream") is True:
            found["gen_ai.request.stream"] = True
        return found

    def _paid(self, event: CallSettled) -> Attributes:
        found: Attributes = dict(naming.usage_attributes(event.usage, self.names))
        provider = "provider" if event.source == "provider" else "local"
        found |= _cost(event.charge, provider, estimated=event.estimated)
        if event.rated:
            found["costguard.price.source"] = self.safe(event.rated)
        if event.saved:
            found[naming.SAVED] = event.saved
        if event.answered:
            found["gen_ai.response.model"] = self.safe(event.answered)
        if event.first_token_seconds is not None:
            found["gen_ai.request.stream"] = True
            found["gen_ai.response.time_to_first_chunk"] = event.first_token_seconds
        for account, spent, cap in event.balances:
            budget, _, measure = account.partition("|")[0], None, account.rpartition("|")[2]
            found[f"costguard.budget.{self.safe(budget)}.{measure}.left"] = cap - spent
        if self._preset is not None:
            began = event.at - event.seconds
            paid = Paid(event.charge, event.usage, event.scope, began, event.first_token_seconds)
            found |= PRESETS[self._preset](paid)
        return found


def _cost(charge: int, source: str, *, estimated: bool) -> Attributes:
    return {
        naming.COST_USD: charge / NANO,
        naming.COST_NANO: charge,
        naming.SOURCE: source,
        naming.ESTIMATED: estimated,
    }


def _response(outcome: Any) -> dict[str, Any]:
    """Of LangChain's ``LLMResult``: response id, model and finish reasons."""
    found: dict[str, Any] = {}
    reasons = []
    for generation in (g for group in getattr(outcome, "generations", None) or () for g in group):
        said = getattr(getattr(generation, "message", None), "response_metadata", None) or {}
        info = {**(getattr(generation, "generation_info", None) or {}), **said}
        reason = info.get("finish_reason") or info.get("stop_reason") or info.get("done_reason")
        if isinstance(reason, str):
            reasons.append(reason)
        for key, names in (("gen_ai.response.id", ("id",)), ("gen_ai.response.model", ("model_name", "model"))):
            value = next((info[name] for name in names if isinstance(info.get(name), str)), None)
            if value:
                found.setdefault(key, value)
        headers = info.get("headers")
        if isinstance(headers, Mapping) and (made := requests_made(headers)) > 1:
            found["costguard.gateway.requests"] = made
    if reasons:
        found["gen_ai.response.finish_reasons"] = reasons
    return found
