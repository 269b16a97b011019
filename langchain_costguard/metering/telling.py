"""What events say of a call and of a refusal: facts that are at hand when they happen, put in the events' words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard import events
from langchain_costguard.metering.budgets.ledger import INPUT, OUTPUT, USD
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.vocabulary.money import NANO
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import CostGuardError


def settled(
    call: Call,
    usage: Usage,
    now: float,
    charge: int,
    saved: int,
    *,
    estimated: bool,
    rates: Rates | None,
    reported: str | None,
    cacheable: int,
    balances: tuple[tuple[str, int, int], ...],
) -> events.CallSettled:
    """A model call that was paid: at ``rates`` where they are not those it was admitted at."""
    before, stream, ref = call.charged, call.stream, call.ref
    first = stream.first_at - call.started if stream else None
    told = None if before is None else before[USD]
    usage_before = None if before is None else Usage(before[INPUT], before[OUTPUT])
    # In the order of the event's fields: by keyword it takes twice as long.
    return events.CallSettled(
        now, call.scope, call.run_id, ref, usage, charge, call.held, saved, estimated, now - call.started, first,
        call.parent, ref.name, reported or "", (rates or call.rates).source, call.status, cacheable, balances,
        told, usage_before,
    )  # fmt: skip


def voided(call: Call, now: float) -> events.CallVoided:
    """A call that failed, and is not billed."""
    seconds = now - call.started
    return events.CallVoided(now, call.scope, call.run_id, call.name, call.kind, call.held, seconds, call.parent)


def refused(
    now: float,
    scope: Scope,
    run_id: UUID,
    kind: str,
    name: str,
    error: CostGuardError,
    *,
    midway: bool,
    parent: UUID | None,
) -> events.Refused:
    """A start that was refused, or a stream that was stopped."""
    facts: dict[str, Any] = error.facts
    measure = facts.get("measure", "")
    left = facts.get("left", 0) * (NANO if measure == "usd" else 1)
    return events.Refused(
        now, scope, run_id, kind, name, type(error).__name__, str(error), midway, parent,
        facts.get("budget", ""), measure, facts.get("account", ""), facts.get("asked", 0), max(0, int(left)),
    )  # fmt: skip
