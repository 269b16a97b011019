"""What steering asks of a guard, and tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_costguard.metering.fees import Fees
from langchain_costguard.metering.seams.callbacks import Callbacks
from langchain_costguard.metering.settings import check_scope
from langchain_costguard.vocabulary.money import Money
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.events.steered import Steered
    from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError


class Steerable(Callbacks):
    """The side of a guard that steering sees."""

    fees: Fees

    def now(self) -> float:
        """Epoch seconds."""
        return self.voice.now()

    @property
    def session(self) -> str:
        """The session of calls that name none."""
        return self.lineage.session

    def whose(self, config: Mapping[str, Any] | None = None) -> Scope:
        """Who is spending here: the scope that a call made now (with this ``config``) would have, but for its model."""
        return self.lineage.whose(config)

    def would_refuse(self, scope: Scope | None = None, usd: Money | None = None) -> BudgetExceededError | None:
        """Try whether a model call, in the next step, would fit; see ``Admission.would_refuse``."""
        check_scope(scope)
        return self.admission.would_refuse(scope, usd)

    def count_step(self, metadata: Mapping[str, Any], scope: Scope, *, again: bool = False) -> CostGuardError | None:
        """Count a step that no callback saw start, or ``again`` one that was refused; the refusal where it does not
        fit."""
        return self.admission.count_step(metadata, scope, again=again)

    def tool_fee(self, tool: str, arguments: Any) -> int | None:
        """What a tool call costs (nano-USD), as far as is known before it."""
        return self.fees.before(tool, arguments)

    def tell(self, event: Steered) -> None:
        """Count what steering did, for the report, and tell the sinks of it."""
        self.voice.tell(event)

    def say_once(self, text: str, error: BaseException | None = None) -> None:
        """Warn in the log of something in the user's set-up, once."""
        self.voice.say_once(text, error)
