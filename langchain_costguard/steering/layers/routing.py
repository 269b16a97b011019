"""Routing in steering: a router chooses, and the request goes to the model it chose, if that can do what is asked."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_costguard.caching.keepable import cut_off
from langchain_costguard.events.steered import Routed
from langchain_costguard.routing.abilities import able, profile_of
from langchain_costguard.routing.route import Route, Router, RouteRequest
from langchain_costguard.routing.runlog import RunLog
from langchain_costguard.steering.flow import Asking, Flow, Run
from langchain_costguard.steering.layers.fleet import ASSUMED_OUTPUT, Fleet, answers_as, label, ref_of
from langchain_costguard.steering.layers.recording import on_record
from langchain_costguard.steering.policies.kinds import ErrorKind, classify, status_of
from langchain_costguard.steering.requests import Reply, used_in
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.steering.translation.takeover import declined, in_own_words, taken_over
from langchain_costguard.vocabulary.errors import BudgetExceededError, CircuitOpenError, CostGuardError
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard

_DOWN = (ErrorKind.RATE_LIMIT, ErrorKind.TIMEOUT, ErrorKind.SERVER, ErrorKind.AUTH, ErrorKind.QUOTA)
"""Failures that are one model's, or its provider's: another may answer."""
_GONE = 404
"""The status of a model that its provider does not have, or not any more."""


def routing(router: Router, fleet: Fleet, runs: RunLog | None, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Ask the model the router chooses, and put the answer on record. A router that fails leaves the request as it is,
    and so does a node of ``install()``, whose model is its own."""
    if getattr(request, "model", None) is None:
        here.guard.say_once("A router cannot choose the model of an installed node: use RoutedModel in the node.")
        untouched: Reply = yield from ask(request)
        return untouched
    asked = as_route_request(here, request)
    route = yield from _chosen(router, fleet, here, asked)
    chosen, why = (request.model, "") if route is None else _fit(fleet, route, asked, request.model)
    dearest = request.model if route is None or route.dearest is None else route.dearest
    turn = _in_turn(fleet, here, chosen, asked)
    why = why if turn[0] is chosen else _no_room(chosen)
    broken, tried = None, list[Any]()
    while True:
        model = turn.pop(0)
        tried.append(model)
        here.facts = _facts(fleet, why, dearest, route)
        try:
            reply: Reply = yield from ask(taken_over(request, model))
        except Exception as error:
            why, turn = _after(error, fleet, here, asked, tried, turn, request.model if route is not None else None)
            if turn:
                continue
            if broken is None:
                raise
            reply, model = broken, chosen
        else:
            others = _whole_instead(reply, fleet, here, asked, tried, request.model) if route and not broken else []
            if others:
                broken, turn, why = reply, others, f"the reply of {ref_of(model).name} broke off"
                continue
        reply = in_own_words(request, reply)
        if why and reply.message is not None and not reply.ended:
            saved = fleet.charge(fleet.model(dearest), reply.message) - fleet.charge(model, reply.message)
            here.tell(Routed, why, name=ref_of(model).name, saved=saved, score=route.score if route else None)
        if not reply.ended:
            score = route.score if route is not None and model is chosen else None
            on_record(runs, fleet, here, asked, model, reply.message, score=score)
        return reply


def _no_room(model: Any) -> str:
    return f"a budget has no room for {ref_of(model).name}"


def _after(
    error: Exception, fleet: Fleet, here: Here, asked: RouteRequest, tried: list[Any], turn: list[Any], default: Any
) -> tuple[str, list[Any]]:
    """Why a model did not answer, and which are to be asked now; none where the error is not one that another mends."""
    name = ref_of(tried[-1]).name
    if here.paid or here.out:
        return "", []
    if isinstance(error, BudgetExceededError):
        return _no_room(tried[-1]), turn if _downgrades(here.guard, error) else []
    down = isinstance(error, CircuitOpenError) or classify(error) in _DOWN or status_of(error) == _GONE
    if default is None or isinstance(error, CostGuardError) or not down:
        return "", []
    return f"{name} failed: {type(error).__name__}", turn or _able(fleet, asked, default, tried)


def _whole_instead(
    reply: Reply, fleet: Fleet, here: Here, asked: RouteRequest, tried: list[Any], default: Any
) -> list[Any]:
    """The models to ask for a whole reply, where this one broke off before anybody saw it."""
    if reply.message is None or here.out or not cut_off(reply.message):
        return []
    return _able(fleet, asked, default, tried)


def _able(fleet: Fleet, asked: RouteRequest, default: Any, tried: list[Any]) -> list[Any]:
    """The models not tried yet that can do what is asked, the cheapest first."""
    tokens, known = _tokens(fleet, default, asked), {ref_of(model) for model in tried}
    others = {ref_of(model): model for model in (*map(fleet.model, fleet.specs), default)}
    able_ones = [model for ref, model in others.items() if ref not in known and not unable(fleet, model, asked)]
    return sorted(able_ones, key=lambda model: fleet.cost(model, tokens))


def _facts(fleet: Fleet, why: str, dearest: Any, route: Route | None) -> dict[str, Any]:
    """What a trace shows of the choice, beside the model's name."""
    if not why:
        return {}
    score = {} if route is None or route.score is None else {"costguard_route_score": route.score}
    return {"costguard_route": why, "costguard_route_instead_of": ref_of(fleet.model(dearest)).name, **score}


def choose(
    router: Router, fleet: Fleet, here: Here, request: Any, default: Any, default_name: str, known: Container[str]
) -> Flow[tuple[str, str]]:
    """The name of the model for a request that somebody else will make, and why; of the ``known`` ones, if any are."""
    asked = as_route_request(here, request)
    route = yield from _chosen(router, fleet, here, asked)
    if route is None:
        return default_name, "the router failed"
    model, why = _fit(fleet, route, asked, default)
    names = {id(default): default_name} | {id(fleet.model(spec)): label(spec) for spec in fleet.specs}
    name = names.get(id(model)) or label(route.model)
    if known and name not in known:
        here.guard.say_once(f"The router chose {name!r}, for which goto has no node: the default is used instead.")
        return default_name, f"there is no node for {name}"
    here.tell(Routed, why, name=name, score=route.score)
    return name, why


def _chosen(router: Router, fleet: Fleet, here: Here, asked: RouteRequest) -> Flow[Route | None]:
    try:
        route = yield Run(router, (asked,), getattr(router, "aroute", None))
        if not isinstance(route, Route):
            raise TypeError(f"the router returned {route!r}, which is no Route")
        for model in (route.model, route.dearest):
            if model is not None:
                fleet.model(model)
    except Exception as error:  # whatever a router does wrong: the agent goes on as if there were none
        here.guard.say_once("The router failed, and the agent's own model is used", error)
        return None
    return route


def _fit(fleet: Fleet, route: Route, asked: RouteRequest, default: Any) -> tuple[Any, str]:
    """The model to use, and why: the chosen one where it is able, and worth leaving the conversation's own for."""
    model = fleet.model(route.model)
    tokens = _tokens(fleet, model, asked)
    wrong = unable(fleet, model, asked, tokens)
    if wrong:
        others = [fleet.model(spec) for spec in fleet.specs] + [default]
        fit = [other for other in others if not unable(fleet, other, asked)]
        model = min(fit, key=lambda other: fleet.cost(other, tokens), default=default)
        return model, f"{ref_of(model).name}, for the router's choice cannot do it: {wrong}"
    kept = _kept_for_its_cache(fleet, model, asked, tokens)
    if kept is not None:
        return kept, f"{ref_of(kept).name} has the conversation in its prompt cache, which is worth more"
    return model, route.why


def unable(fleet: Fleet, model: Any, asked: RouteRequest, tokens: int | None = None) -> str:
    """Why a model cannot do what is asked; empty where it can. Near its limit, a request counts with its tools, and for
    as long as it may be."""
    most = profile_of(model).get("max_input_tokens")
    if not isinstance(most, int) or most <= 0:
        return able(model, asked)
    if tokens is None:
        tokens = _tokens(fleet, model, asked)
    if tokens > most // 2:
        tokens = fleet.guard.estimator.estimate(ref_of(model), list(asked.messages), tools=asked.tools)[1]
    return able(model, asked, tokens)


def _kept_for_its_cache(fleet: Fleet, model: Any, asked: RouteRequest, tokens: int) -> Any:
    """The model of the last turn, where reading its cache costs less than a cheaper model's whole input."""
    last = next((m for m in reversed(asked.messages) if isinstance(m, AIMessage)), None)
    used = used_in(last)
    cached = used.cache_read + used.cache_write if used is not None else 0
    if not cached or not asked.last_model or answers_as(model, asked.last_model):
        return None
    old = next((known for known in map(fleet.model, fleet.specs) if answers_as(known, asked.last_model)), None)
    if old is None or fleet.cost(model, tokens) >= fleet.cost(old, tokens) or unable(fleet, old, asked):
        return None
    staying = Usage(input_tokens=tokens, output_tokens=ASSUMED_OUTPUT, cache_read=min(cached, tokens))
    return old if fleet.rates(old).charge(staying) <= fleet.cost(model, tokens) else None


def _in_turn(fleet: Fleet, here: Here, chosen: Any, asked: RouteRequest) -> list[Any]:
    """The models to ask, one after the other as budgets refuse them. Where a budget downgrades, those come first of
    which it can pay a whole reply: of a dearer one it might pay the beginning."""
    if not any(budget.on_exceeded == "downgrade" for budget in here.guard.budgets):
        return [chosen]
    tokens = _tokens(fleet, chosen, asked)
    most = fleet.cost(chosen, tokens)
    cheaper = {ref_of(model): model for model in map(fleet.model, fleet.specs) if fleet.cost(model, tokens) < most}
    able_ones = [model for model in cheaper.values() if not unable(fleet, model, asked)]
    turn = [chosen, *sorted(able_ones, key=lambda model: -fleet.cost(model, tokens))]
    labels = {budget.label for budget in here.guard.budgets if budget.on_exceeded == "downgrade"}
    rows = [row for row in here.headroom.rows if row.measure == "usd" and row.budget in labels]
    left = min((row.left for row in rows), default=None)
    if left is None:
        return turn
    return sorted(turn, key=lambda model: fleet.cost(model, tokens, _longest(model)) > left)


def _longest(model: Any) -> int:
    """Output tokens a reply may have, as the model is set up."""
    return model._get_ls_params().get("ls_max_tokens") or ASSUMED_OUTPUT


def _downgrades(guard: CostGuard, error: BudgetExceededError) -> bool:
    return any(budget.label == error.budget and budget.on_exceeded == "downgrade" for budget in guard.budgets)


def as_route_request(here: Here, request: Any) -> RouteRequest:
    """What a router is asked about a request to a model."""
    messages: Sequence[BaseMessage] = request.messages
    system = getattr(request, "system_message", None)
    settings: Mapping[str, Any] = getattr(request, "settings", None) or {}
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    said = last.response_metadata if last is not None else {}
    return RouteRequest(
        messages=[system, *messages] if system is not None else messages,
        tools=getattr(request, "tools", None) or settings.get("tools") or (),
        structured=bool(getattr(request, "response_format", None) or settings.get("response_format")),
        scope=here.scope,
        headroom=lambda: here.headroom,
        last_model=str(said.get("model_name") or said.get("model") or ""),
        tags=here.tags,
        metadata=here.metadata,
        declines=partial(declined, request),
    )


def _tokens(fleet: Fleet, model: Any, asked: RouteRequest) -> int:
    return fleet.guard.estimator.estimate(ref_of(model), list(asked.messages), tools=None)[0]
