"""What was reserved for one call, or why it was not; and the budgets that count nothing but that call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_costguard.metering.budgets.accounts import FOREVER, SECONDS, Account, Alone, Plan
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Refusal
from langchain_costguard.metering.stores.page import NO_BRIEF, Brief, Page
from langchain_costguard.vocabulary.scope import Scope

Amounts = Sequence[int]
"""One integer per measure, in the order of ``MEASURES``."""
NONE: Amounts = (0,) * len(MEASURES)


class Hold:
    """What was reserved for one call: ``fixed + per_unit * units`` on each of ``accounts``.

    Attributes:
        until: The second in which it expires.
        deadline: Epoch seconds at which the tightest ``seconds`` budget runs out.
        page: What a store in this process has of the accounts; ``brief`` are the states of those that are on no page.
        alone: The budgets of this call alone, where what they would bear on top has not been asked yet.
        room: Units that budgets of this call alone would bear on top, and (``tight``) the account that leaves least.
    """

    __slots__ = (
        "accounts", "alone", "brief", "deadline", "fixed", "page", "per_unit", "room", "tight", "units", "until",
    )  # fmt: skip

    def __init__(
        self,
        accounts: list[Account],
        fixed: Amounts,
        per_unit: Amounts,
        units: int,
        until: int,
        page: Page | None = None,
        deadline: float = FOREVER,
        alone: Alone | None = None,
        brief: Brief = NO_BRIEF,
    ) -> None:
        self.accounts = accounts
        self.fixed = fixed
        self.per_unit = per_unit
        self.units = units
        self.until = until
        self.page = page
        self.deadline = deadline
        self.alone = alone
        self.brief = brief
        self.room = MAX_AMOUNT
        self.tight: Account | None = None

    @property
    def limits(self) -> bool:
        """Whether any budget limits the call's output or time."""
        alone = self.alone is not None and bool(self.alone.caps)
        return alone or bool(self.accounts) or self.deadline < FOREVER or self.room < MAX_AMOUNT

    def amounts(self) -> list[int]:
        """All that is held."""
        return [fixed + each * self.units for fixed, each in zip(self.fixed, self.per_unit, strict=True)]

    def spare(self) -> None:
        """Find out what budgets of this call alone would bear on top."""
        alone, self.alone = self.alone, None
        for measure, most, account in alone.caps if alone is not None else ():
            rate = self.per_unit[measure]
            if rate and (room := (most - self.fixed[measure]) // rate - self.units) < self.room:
                self.room, self.tight = room, account


@dataclass(slots=True)
class Denial:
    """Why a call was refused: the account, and what it would have taken."""

    account: Account
    refusal: Refusal


def within_call(
    private: Sequence[Plan],
    scope: Scope,
    fixed: Amounts,
    per_unit: Amounts,
    units: tuple[int, int],
    now: float,
    *,
    last: bool,
) -> Denial | tuple[tuple[int, int], float, int, Account | None]:
    """Budgets that count nothing but this call need no store: what it may take is compared on the spot.

    Returns the units, the deadline, and how many units the tightest of them would bear.
    """
    least, most = units
    deadline, room, tight = FOREVER, MAX_AMOUNT, None
    for plan in private:
        if not plan.applies(scope):
            continue
        for measure, _, cap, base, idle, kept in plan.caps:
            if measure == SECONDS:
                deadline = min(deadline, now + cap / 1000)
                continue
            needed, rate = fixed[measure] + per_unit[measure] * least, per_unit[measure]
            reserve = 0 if last else kept
            if needed > cap - reserve:
                account = Account(measure, "", cap, idle, base, plan.budget, reserve)
                return Denial(account, Refusal(0, needed, 0, 0, by_holds=False))
            if rate and (affordable := (cap - reserve - fixed[measure]) // rate) < room:
                room, most = affordable, min(most, affordable)
                tight = Account(measure, "", cap, idle, base, plan.budget, reserve)
    return (least, most), deadline, room, tight
