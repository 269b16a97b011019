"""A person gives a budget more: in every process that shares the store, and told here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_costguard import events
from langchain_costguard.metering.budgets import grants
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.line import Lines
from langchain_costguard.metering.lineage import Lineage
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.settings import check_scope
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.scope import Scope


class Granting:
    """Gives budgets more.

    Args:
        meter: Whose ledger.
        voice: Tells of it.
        lineage: Says whose account it is, where nobody does.
        lines: Who waits for room on it.
    """

    def __init__(self, meter: Meter, *, voice: Voice, lineage: Lineage, lines: Lines) -> None:
        self._meter = meter
        self._voice = voice
        self._lineage = lineage
        self._lines = lines

    def give(self, what: Any, given: Mapping[str, Any], *, scope: Scope | None, key: str | None, why: str) -> bool:
        """See ``CostGuard.grant``; ``given`` is by measure."""
        ledger, now = self._meter.ledger, self._voice.now()
        label, account = _account_of(what, scope)
        amounts, here = grants.amounts_of(given), scope or self._lineage.whose()
        gifts = grants.gifts(ledger, label, account, here, amounts, now)
        try:
            if not grants.give(ledger.store, gifts, key=key, now=now):
                return False
        except StoreError as error:
            raise self._meter.unavailable(error) from error
        for (measure, amount), (claim, _) in zip(amounts.items(), gifts, strict=True):
            self._voice.tell(events.Granted(now, here, label, why, 0, label, measure, claim.account, amount))
        self._lines.wake([claim.account for claim, _ in gifts])
        return True


def _account_of(what: Any, scope: Scope | None) -> tuple[str, str | None]:
    """The label of the budget that is given something, and, of a refusal, the account that refused."""
    check_scope(scope)
    if isinstance(what, (Budget, str)):
        return (what if isinstance(what, str) else what.label), None
    facts = getattr(what, "facts", {})
    if "budget" not in facts:
        raise ValueError(f"what: {what!r} is no refusal by a budget, nor a budget or its label")
    if scope is not None:
        raise ValueError(f"scope: {scope!r} cannot be given with a refusal, which says whose account it is")
    return facts["budget"], facts.get("account", "")
