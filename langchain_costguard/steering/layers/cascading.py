"""A cascade in steering: cheaper models are tried first, each try an ordinary call, admitted and paid as any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_costguard.caching.keepable import cut_off
from langchain_costguard.events.steered import Escalated, Sufficed
from langchain_costguard.steering.flow import Asking, Flow
from langchain_costguard.steering.layers.attempts import retrying
from langchain_costguard.steering.layers.checking import checking
from langchain_costguard.steering.layers.fleet import ref_of
from langchain_costguard.steering.layers.recording import on_record
from langchain_costguard.steering.layers.routing import as_route_request, unable
from langchain_costguard.steering.layers.tiers import Tiers
from langchain_costguard.steering.layers.trying import Tried, tried_at
from langchain_costguard.steering.requests import Reply
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.steering.translation.takeover import in_own_words, taken_over
from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError, ReplyRejectedError

if TYPE_CHECKING:
    from langchain_costguard.routing.route import RouteRequest
    from langchain_costguard.steering.layers.ending import OnExceeded
    from langchain_costguard.steering.policies.retries import Retry


def cascading(tiers: Tiers, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Ask one tier after the other until a reply can be trusted.

    A tier that fails leads to the next at once, and one that cannot do what is asked is not tried. Where the last tier
    is refused or fails, the best reply there is is given: it was paid for, and is more than none. A node's model is its
    own, and is asked as ever.
    """
    if not hasattr(request, "model"):
        only: Reply = yield from ask(request)
        return only
    asked = as_route_request(here, request)
    best: Tried | None = None
    by = ""
    for index, model in enumerate(tiers.cheap):
        name = ref_of(model).name
        if wrong := unable(tiers.fleet, model, asked):
            here.tell(Escalated, wrong, name=name)
            continue
        with _named(here, name):
            try:
                tried = yield from tried_at(tiers, model, here, ask, taken_over(request, model))
            except BudgetExceededError:
                if best is None:
                    raise
                break
        _note(tiers, index, here, asked, tried)
        if tried.good and tried.reply is not None:
            saved = tiers.fleet.charge(tiers.last, tried.reply.message) - tried.spent
            here.tell(Sufficed, tried.why, name=name, saved=saved, score=tried.score)
            return in_own_words(request, tried.reply)
        here.tell(Escalated, tried.why, name=name, saved=-tried.spent, score=tried.score)
        if tried.reply is not None:
            best, by = tried, name
    return (yield from _last(tiers, here, ask, request, asked, best, by))


def _last(
    tiers: Tiers, here: Here, ask: Asking, request: Any, asked: RouteRequest, best: Tried | None, by: str
) -> Flow[Reply]:
    """Ask the last tier; what it says is trusted, and the best of the others' is given where it says nothing. Where it
    cannot take over what is bound for the request's own model, that is asked."""
    last, name = tiers.last, ref_of(tiers.last).name
    if wrong := asked.declines(last):
        here.tell(Escalated, wrong, name=name)
        last, name = request.model, ref_of(request.model).name
    try:
        with _named(here, name):
            reply: Reply = yield from ask(taken_over(request, last))
    except BudgetExceededError as refusal:
        if best is None or best.reply is None:
            raise
        why = f"the budget {refusal.budget!r} had no room for {name}"
    except (CostGuardError, ReplyRejectedError):
        raise
    except Exception as error:
        if best is None or best.reply is None or here.out:
            raise
        why = f"{name} failed: {type(error).__name__}"
    else:
        broke_off = reply.message is not None and not here.out and cut_off(reply.message)
        if broke_off and best is not None and best.reply is not None:
            here.tell(Sufficed, f"the reply of {name} broke off", name=by, score=best.score)
            return in_own_words(request, best.reply)
        if not reply.ended:
            checked = True if tiers.judges else None
            on_record(tiers.runs, tiers.fleet, here, asked, last, reply.message, good=checked, assumed=True)
        return in_own_words(request, reply)
    here.tell(Sufficed, why, name=by, score=best.score)
    return in_own_words(request, best.reply)


def _note(tiers: Tiers, index: int, here: Here, asked: RouteRequest, tried: Tried) -> None:
    """Put a try on record, if it came to an answer; where that is good, the tiers behind are taken to be as good."""
    if tiers.runs is None or (tried.reply is None and tried.good is None):
        return
    models, message = [*tiers.cheap, tiers.last], tried.reply.message if tried.reply is not None else None
    good = tried.good if tiers.judges else None
    on_record(tiers.runs, tiers.fleet, here, asked, models[index], message, good=good, score=tried.score)
    for model in models[index + 1 :] if good else ():
        on_record(tiers.runs, tiers.fleet, here, asked, model, message, good=True, made=False, assumed=True)


def checking_last(
    tiers: Tiers,
    guardrails: Any,
    repairs: int,
    classify: Any,
    on_rejected: OnExceeded,
    here: Here,
    ask: Asking,
    request: Any,
) -> Flow[Reply]:
    """Look at a reply; one that is rejected is not the end of the run where there is another tier to ask."""
    leads_on = tiers.leads_on(getattr(request, "model", None))
    return (
        yield from checking(guardrails, repairs, classify, "raise" if leads_on else on_rejected, here, ask, request)
    )


def retrying_last(tiers: Tiers, retry: Retry, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Try a failed call again, but not of a tier behind which there is another."""
    if tiers.leads_on(getattr(request, "model", None)):
        return (yield from ask(request))
    return (yield from retrying(retry, here, ask, request))


@contextmanager
def _named(here: Here, name: str) -> Iterator[None]:
    """What is told meanwhile is of this model."""
    before, here.name = here.name, name
    try:
        yield
    finally:
        here.name = before
