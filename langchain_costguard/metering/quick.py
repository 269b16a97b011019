"""The short way of a model call: held in one step and settled in one step, where nothing is out of the ordinary.

Nearly every call is plain: one reply, at one rate, on accounts that a store in this process has at hand and that are
far from full. Such a call is held by a bound on its input that its length gives (``coarse``): what it takes exactly is
counted only where somebody asks. Whatever else is the case, the answer is no, nothing has changed, and the long way
(``Admission.prepare``, ``Meter.admit`` and ``Meter.settle``) decides; both come to the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard.metering.budgets.accounts import new_tuple
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.lineage import Lineage
from langchain_costguard.metering.measures import CEILINGS
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.cache_writes import may_write_cache
from langchain_costguard.metering.pricing.offered import is_hosted
from langchain_costguard.metering.pricing.rates import PICO_PER_NANO, Rates
from langchain_costguard.metering.terms import TermsBook
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

_TELLING = CEILINGS | {
    "audio", "best_of", "cache_control", "candidate_count", "context_management", "extra_body", "functions",
    "inference_geo", "modalities", "model_kwargs", "n", "response_format", "search_parameters",
    "service_tier", "speed", "tools",
}  # fmt: skip
"""What else in a request says what it costs: any of it but tools sends the call the long way."""


class Quick:
    """The short way, in the process of a ``MemoryStore``.

    Args:
        meter: Whose ledger, prices and books.
        terms: What is known of the models.
        voice: Where somebody listens, the long way tells of each call.
        lineage: Says whose call it is.
    """

    def __init__(self, meter: Meter, *, terms: TermsBook, voice: Voice, lineage: Lineage) -> None:
        self._meter = meter
        self._ledger = meter.ledger
        self._terms = terms
        self._voice = voice
        self._lineage = lineage
        self._enclosing = lineage.enclosing
        self._clock = voice.now
        self._lines = meter.lines
        self._on = meter.ledger.memory is not None and not meter.estimator.own

    def renew(self) -> None:
        """The meter has another ledger, or other prices: what was known of them is not so any more."""
        self._ledger = self._meter.ledger
        self._terms.renew(self._meter.book)

    def start(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
        client: Any,
    ) -> Call | None:
        """The call, held; None, with nothing changed, where the long way has to look at it."""
        name, asked = metadata.get("ls_model_name"), metadata.get("ls_max_tokens")
        if not self._on or not name or self._voice.sinks or isinstance(prompt, str):
            return None
        tools: Any = None
        for key in _TELLING.intersection(params):
            value = params[key]
            if value:
                if key == "tools":
                    if value.__class__ is list and any(map(is_hosted, value)):
                        return None
                    tools = value
                elif key not in CEILINGS or value.__class__ is not int:
                    return None
                elif asked is None or value > asked:
                    asked = value
        if asked is not None and (asked.__class__ is not int or asked < 1):
            return None
        provider, now = metadata.get("ls_provider") or "", self._clock()
        terms = self._terms.known.get((provider, name, id(client)))
        if terms is None or terms.client is not client:
            terms = self._terms.of(provider, name, client, now)
        if not terms.since <= now < terms.until:
            terms.refresh(self._meter.book, now)
        rates = terms.rates
        if rates is None or not terms.usual:
            return None
        if terms.asks and (tools or "cache_control" in params) and may_write_cache(prompt, params, terms.facts):
            return None
        upper = self._meter.estimator.at_most(terms, prompt, tools)
        if upper is None or upper > terms.most:
            return None
        config = self._enclosing()
        if parent is None and config is None:
            trace, alone = str(run_id), True
        else:
            trace = self._lineage.trace(run_id, parent, config)
            alone = parent is None and trace == str(run_id)
        if config is None and not tags and scopes.unsaid(metadata):
            scope: Scope = new_tuple(Scope, ("", self._lineage.session, "", "", "", "", trace, terms.ref.name))
            known = terms.known
            if known is None or known.until <= now:
                known = terms.known = self._ledger.known(scope, now)
        else:
            scope = self._lineage.scope(metadata, tags, config, trace, terms.ref.name)
            alone = alone and scope.trace == trace
            known = self._ledger.known(scope, now)
        path = metadata.get("langgraph_checkpoint_ns")
        step_id = f"{trace}/{path}" if path else trace
        ceiling = terms.limit if asked is None else asked
        if asked is None:  # rounded as the long way does, which holds what the budgets afford, a token at a time
            usd = -(-upper * terms.input // PICO_PER_NANO) + terms.per_unit[0] * ceiling
        else:
            usd = -(-(upper * terms.input + ceiling * terms.output) // PICO_PER_NANO)
        amounts = (usd + terms.request, upper + ceiling, upper, ceiling, 1, 0, 0 if scope[3] else 1, 0)
        hold = self._ledger.hold_coarsely(known, scope, step_id, amounts, terms.per_unit, now, alone=alone)
        if hold is None:
            return None
        call = Call(run_id, parent, "model", terms.ref.name, scope, step_id, now)
        call.ref, call.rates = terms.ref, rates
        call.terms, call.url = terms, terms.url
        call.alone, call.hold, call.held = alone, hold, amounts[0]
        call.asked, call.upper, call.coarse = asked, upper, (prompt, tools)
        call.ceiling = call.allowed = ceiling
        call.writes_cache = not terms.asks
        return call

    def end(self, call: Call, given: int, made: int, reported: str | None) -> bool:
        """Settle a call by its tokens in and out; false, with nothing changed, where the long way has to."""
        hold, terms = call.hold, call.terms
        if terms is None or hold is None or hold.units or self._voice.sinks:
            return False
        # What would have been held exactly may be less than that.
        if given * 2 > call.upper and call.coarse is not None:
            return False
        rates: Rates | None = call.rates
        if reported is not None and reported != call.name:
            rates = terms.charged_by(self._meter.book, reported, call.started)
        if rates is None or given > terms.most or call.charged is not None:
            return False
        pico = given * rates.input + made * rates.output
        charge, rest = pico // PICO_PER_NANO, pico % PICO_PER_NANO
        if rest >= 500 and (rest > 500 or charge & 1):
            charge += 1
        charge += rates.request
        if charge > call.held:
            return False
        scope = call.scope
        actual = (charge, given + made, given, made, 1, 0, 0 if scope[3] else 1, 0)
        now = self._clock()
        if not self._ledger.settle_plainly(hold, actual, now):
            return False
        meter, took, stream = self._meter, charge, call.stream
        meter.tallies.timed(scope, now - call.started, None if stream is None else stream.first_at - call.started)
        if self._lines:
            meter.wake(hold)
        if call.asked is not None:
            took = call.held
            if call.coarse is not None:
                took = charge + (call.ceiling - made) * terms.output // PICO_PER_NANO
        if took > meter.dearest.get(scope[1], 0):
            meter.note_dearest(scope[1], took)
        cacheable = given if given >= terms.cacheable else 0
        meter.tallies.count(scope, [1, 0, given, 0, 0, made, 0, charge, 0, 0, 0, 0, cacheable])
        return True
