"""A cascade in steering: cheaper models are tried first, each try an ordinary call, admitted and paid as any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.constants import TAG_NOSTREAM

from langchain_costguard.errors import BudgetExceededError, CostGuardError
from langchain_costguard.events import Escalated, Sufficed
from langchain_costguard.pricing.reading import from_usage_metadata
from langchain_costguard.routing.agreement import Votes, answer_of
from langchain_costguard.routing.cascade import Agreement, Cascade, Judge, LogProbs, Parses, Verifier
from langchain_costguard.steering.attempts import retrying
from langchain_costguard.steering.flow import Asking, Call, Flow, Run, quick
from langchain_costguard.steering.guardrails import parses
from langchain_costguard.steering.here import Here
from langchain_costguard.steering.requests import Reply
from langchain_costguard.steering.routed import Fleet, ref_of
from langchain_costguard.steering.sentences import told

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.policies.retries import Retry

quick(answer_of)


class Tiers:
    """A cascade with its models at hand: names are resolved once, and one that cannot be had is told up front.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(self, cascade: Cascade, guard: CostGuard) -> None:
        if not isinstance(cascade, Cascade):
            raise ValueError(f"cascade: {cascade!r} is no Cascade, such as Cascade(tiers=[cheap, dear]), or None")
        self.cascade = cascade
        self.fleet = Fleet((), guard)
        *cheap, self.last = (self.fleet.model(tier) for tier in cascade.tiers)
        confidence = cascade.confidence
        self.holds_streams = bool(cheap) and confidence is not None
        """Whether a reply is shown only once it is trusted."""
        self.cheap = [_unseen(model) for model in cheap] if self.holds_streams else cheap
        self.judge = _unseen(self.fleet.model(confidence.model)) if isinstance(confidence, Judge) else None
        self.check: Callable[[AIMessage], Any] = lambda reply: True
        if isinstance(confidence, Parses):
            self.check = parses(confidence.check) if hasattr(confidence.check, "invoke") else confidence.check
        elif isinstance(confidence, Verifier):
            self.check = confidence.check

    def leads_on(self, model: Any) -> bool:
        """Whether another tier is asked where this model fails."""
        return model is not self.last and any(model is other for other in self.cheap)

    def cost(self, model: Any, message: AIMessage | None) -> int:
        """Nano-USD that the model takes, or would have taken, for this reply; 0 where nobody knows."""
        usage = from_usage_metadata(message.usage_metadata) if message is not None and message.usage_metadata else None
        try:
            return self.fleet.rates(model).charge(usage) if usage is not None else 0
        except LookupError:
            return 0


class _Tried(NamedTuple):
    """What came of a tier: the reply to give, its score (None: there is no trusting it), nano-USD, and why."""

    reply: Reply | None
    score: float | None
    spent: int
    why: str


def cascading(tiers: Tiers, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Ask one tier after the other until a reply can be trusted.

    A tier that fails leads to the next at once. Where a budget refuses the next tier, the best reply there is is given:
    it was paid for, and is more than none. A node's model is its own, and is asked as ever.
    """
    if not hasattr(request, "model"):
        only: Reply = yield from ask(request)
        return only
    best: _Tried | None = None
    for model in tiers.cheap:
        name, least = ref_of(model).name, tiers.cascade.least
        with _named(here, name):
            try:
                tried = yield from _tried(tiers, model, here, ask, request.override(model=model))
            except BudgetExceededError:
                if best is None:
                    raise
                break
        if tried.reply is not None and tried.score is not None and tried.score >= least:
            saved = tiers.cost(tiers.last, tried.reply.message) - tried.spent
            here.tell(Sufficed, tried.why, name=name, saved=saved, score=tried.score)
            return tried.reply
        here.tell(Escalated, tried.why, name=name, saved=-tried.spent, score=tried.score)
        best = tried if tried.reply is not None else best
    name = ref_of(tiers.last).name
    try:
        with _named(here, name):
            reply: Reply = yield from ask(request.override(model=tiers.last))
            return reply
    except BudgetExceededError as refusal:
        if best is None or best.reply is None:
            raise
        here.tell(Sufficed, f"the budget {refusal.budget!r} had no room for {name}", score=best.score)
        return best.reply


def retrying_last(tiers: Tiers, retry: Retry, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Try a failed call again, but not of a tier behind which there is another."""
    if tiers.leads_on(getattr(request, "model", None)):
        return (yield from ask(request))
    return (yield from retrying(retry, here, ask, request))


def _tried(tiers: Tiers, model: Any, here: Here, ask: Asking, request: Any) -> Flow[_Tried]:
    confidence = tiers.cascade.confidence
    how = confidence if isinstance(confidence, Agreement) else Agreement(samples=1)
    replies: list[Reply] = []
    votes, spent, needed = Votes(how.same), 0, how.needed(tiers.cascade.least)
    for taken in range(how.samples):
        try:
            reply: Reply = yield from ask(_prepared(request, confidence, taken))
        except BudgetExceededError:
            if not replies:
                raise
            break
        except CostGuardError:
            raise
        except Exception as error:
            if here.out:
                raise
            if not replies:
                return _Tried(None, None, spent, f"it failed: {type(error).__name__}")
            break
        message = reply.message
        if message is None or reply.ended:
            return _Tried(replies[0] if replies else None, None, spent, "its reply was rejected")
        replies.append(reply)
        spent += tiers.cost(model, message)
        if how is not confidence:
            return (yield from _scored(tiers, here, request, reply, spent))
        votes.add((yield from _safely(here, how.answer, message)))
        if votes.settled(how.samples, needed):
            break
    why = f"{votes.most} of {votes.taken} samples agree, and {needed} of {how.samples} must"
    return _Tried(replies[votes.first], votes.most / how.samples, spent, why)


def _scored(tiers: Tiers, here: Here, request: Any, reply: Reply, spent: int) -> Flow[_Tried]:
    """The one reply's score, by whatever but agreement the cascade goes."""
    confidence, message = tiers.cascade.confidence, reply.message
    assert message is not None
    score: float | None
    if confidence is None:
        return _Tried(reply, 1.0, spent, "it replied")
    if isinstance(confidence, LogProbs):
        score = confidence.score(message)
    elif isinstance(confidence, Judge):
        asked = _alone(request, tiers.judge, confidence.question(_conversation(request), message))
        try:
            verdict: Reply = yield Call(asked)  # not through the other policies: a guardrail is not meant for a judge
        except BudgetExceededError:
            return _Tried(reply, None, spent, "the judge was refused")
        except CostGuardError:
            raise
        except Exception as error:
            return _Tried(reply, None, spent, f"the judge failed: {type(error).__name__}")
        here.paid += 1
        spent += tiers.cost(tiers.judge, verdict.message)
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
    return _Tried(reply, score, spent, why)


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
            request = request.override(messages=[*request.messages, told(text, "variant")])
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
        here.guard.say_once(f"A cascade's {function!r} failed, and the reply is not trusted: {error!r}")
        return failed


@contextmanager
def _named(here: Here, name: str) -> Iterator[None]:
    """What is told meanwhile is of this model."""
    before, here.name = here.name, name
    try:
        yield
    finally:
        here.name = before


def _unseen(model: Any) -> Any:
    """The model, of which ``stream_mode="messages"`` shows no tokens: the reply that is given is shown whole."""
    return model.model_copy(update={"tags": [*(model.tags or ()), TAG_NOSTREAM]})
