"""One tier of a cascade is tried: its model is asked, as often as it takes to give the reply a score."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages import AIMessage, HumanMessage

from langchain_costguard.caching.keepable import cut_off
from langchain_costguard.routing.agreement import Votes, answer_of
from langchain_costguard.routing.cascade import Agreement, Judge, LogProbs, Parses
from langchain_costguard.steering.flow import Asking, Call, Flow, Run, quick
from langchain_costguard.steering.requests import Reply, noting
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError, ReplyRejectedError

if TYPE_CHECKING:
    from langchain_costguard.steering.layers.tiers import Tiers

quick(answer_of)


class Tried(NamedTuple):
    """What came of a tier: the reply to give, its score (None: there is no trusting it), nano-USD, and why."""

    reply: Reply | None
    score: float | None
    spent: int
    why: str
    good: bool | None = None
    """Whether the reply was good enough; None where nobody knows."""


def tried_at(tiers: Tiers, model: Any, here: Here, ask: Asking, request: Any) -> Flow[Tried]:
    """Ask a tier's model.

    Raises:
        BudgetExceededError: before there was any reply.
    """
    confidence = tiers.cascade.confidence
    how = confidence if isinstance(confidence, Agreement) else Agreement(samples=1)
    replies: list[Reply] = []
    least = tiers.cascade.least
    votes, spent, needed = Votes(how.same), 0, how.needed(least)
    for taken in range(how.samples):
        try:
            reply: Reply = yield from ask(_prepared(request, confidence, taken))
        except BudgetExceededError:
            if not replies:
                raise
            break
        except CostGuardError:
            raise
        except ReplyRejectedError:
            return Tried(replies[0] if replies else None, None, spent, "its reply was rejected", good=False)
        except Exception as error:
            if here.out:
                raise
            if not replies:
                return Tried(None, None, spent, f"it failed: {type(error).__name__}")
            break
        message = reply.message
        if message is None or reply.ended:
            return Tried(replies[0] if replies else None, None, spent, "its reply was rejected", good=False)
        spent += tiers.fleet.charge(model, message)
        if cut_off(message) and not here.out:
            return Tried(replies[0] if replies else None, None, spent, "its reply broke off", good=False)
        replies.append(reply)
        if how is not confidence:
            tried = yield from _scored(tiers, here, request, reply, spent)
            return tried if tried.score is None else tried._replace(good=tried.score >= least)
        votes.add((yield from _safely(here, how.answer, message)))
        if votes.settled(how.samples, needed):
            break
    why = f"{votes.most} of {votes.taken} samples agree, and {needed} of {how.samples} must"
    score = votes.most / how.samples
    doubtful = score < least and not votes.settled(how.samples, needed)  # a sample was refused, or failed
    return Tried(replies[votes.first], score, spent, why, good=None if doubtful else score >= least)


def _scored(tiers: Tiers, here: Here, request: Any, reply: Reply, spent: int) -> Flow[Tried]:
    """The one reply's score, by whatever but agreement the cascade goes."""
    confidence, message = tiers.cascade.confidence, reply.message
    assert message is not None
    score: float | None
    if confidence is None:
        return Tried(reply, 1.0, spent, "it replied")
    if isinstance(confidence, LogProbs):
        score = confidence.score(message)
    elif isinstance(confidence, Judge):
        asked = _alone(request, tiers.judge, confidence.question(_conversation(request), message))
        try:
            verdict: Reply = yield Call(asked)  # not through the other policies: a guardrail is not meant for a judge
        except BudgetExceededError:
            return Tried(reply, None, spent, "the judge was refused")
        except CostGuardError:
            raise
        except Exception as error:
            return Tried(reply, None, spent, f"the judge failed: {type(error).__name__}")
        here.paid += 1
        spent += tiers.fleet.charge(tiers.judge, verdict.message)
        score = confidence.score(verdict.message) if verdict.message is not None else None
    else:
        said = yield from _safely(here, tiers.check, message, failed=False)
        if isinstance(confidence, Parses):
            said = said in (None, True, "") and not message.invalid_tool_calls
        score = float(said) if isinstance(said, (bool, int, float)) else None
    kind = type(confidence).__name__
    why = (
        f"{kind} has no score" if score is None else f"{kind} scores {score:.2f}, and {tiers.cascade.least:.2f} will do"
    )
    return Tried(reply, score, spent, why)


def _prepared(request: Any, confidence: Any, taken: int) -> Any:
    """The request for one try: its variant of the prompt, and the settings by which a sample or its odds are had."""
    settings: dict[str, Any] = {}
    known = getattr(type(request.model), "model_fields", {})
    if isinstance(confidence, LogProbs) and "logprobs" in known:
        settings["logprobs"] = True
    if isinstance(confidence, Agreement):
        if confidence.temperature is not None and "temperature" in known:
            settings["temperature"] = confidence.temperature
        if confidence.variants and (text := confidence.variants[taken % len(confidence.variants)]):
            request = request.override(messages=noting(request.messages, text, "variant"))
    if not settings:
        return request
    field = "model_settings" if hasattr(request, "model_settings") else "settings"
    return request.override(**{field: {**getattr(request, field), **settings}})


def _alone(request: Any, model: Any, text: str) -> Any:
    """A request to another model about this one: without its tools, its format and its instructions."""
    changes: dict[str, Any] = {"model": model, "messages": [HumanMessage(text)]}
    if not hasattr(request, "model_settings"):
        return request.override(**changes, settings={})
    changes |= {"tools": [], "tool_choice": None, "response_format": None, "system_message": None}
    return request.override(**changes, model_settings={})


def _conversation(request: Any) -> list[Any]:
    system = getattr(request, "system_message", None)
    return [*([system] if system is not None else []), *request.messages]


def _safely(here: Here, function: Callable[..., Any], message: AIMessage, failed: Any = None) -> Flow[Any]:
    """What a user's function says of a reply; one that raises does not trust it."""
    try:
        return (yield Run(function, (message,)))
    except CostGuardError:
        raise
    except Exception as error:
        name = getattr(function, "__name__", type(function).__name__)
        here.guard.say_once(f"A cascade's {name} failed, and the reply is not trusted", error)
        return failed
