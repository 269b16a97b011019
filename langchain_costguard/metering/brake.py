"""The emergency brake: who is halted, by this guard or by the switch that processes share, and why."""

from __future__ import annotations

from uuid import UUID

from langchain_costguard.metering.budgets.switch import KillSwitch, halt, named, revive
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.refusals import halted
from langchain_costguard.metering.stores.base import Store
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.scope import Scope

_ALL = "*"


class Brake:
    """Halts one agent, or all: here at once, and in every process that shares the store or the switch.

    Args:
        switch: Re-read at most every few seconds; None where nothing outside this process can halt it.
        store: Where a halt is written for other processes, if they share it.
        voice: Tells of what was refused.
    """

    def __init__(self, switch: KillSwitch | None, store: Store, voice: Voice) -> None:
        self._switch = switch
        self._store = store
        self._voice = voice
        self._killed: dict[str, str] = {}
        self.armed = switch is not None
        """Whether there is anything to look at: a quick answer for each call."""
        self.due = None if switch is None else switch.due
        """Whether the next look may have to wait; None where it never does."""

    def kill(self, agent: str | None, reason: str) -> None:
        """Stop ``agent``, or all.

        Raises:
            ValueError: the name is empty.
        """
        named(agent)
        self._killed[agent or _ALL] = reason
        self.armed = True
        if self._store.shared:
            halt(self._store, agent, reason)

    def revive(self, agent: str | None) -> None:
        """Take a ``kill`` back.

        Raises:
            ValueError: the name is empty.
        """
        named(agent)
        self._killed.pop(agent or _ALL, None)
        if self._store.shared:
            revive(self._store, agent)
        if self._switch is not None:
            self._switch.expire()
        self.armed = bool(self._killed) or self._switch is not None

    def waits(self) -> bool:
        """Whether the next look may have to wait."""
        return self._switch is not None and self._switch.due()

    def pulled(self) -> bool:
        """Whether anybody is halted at all."""
        return bool(self._killed or (self._switch is not None and self._switch.halts()))

    def check(self, kind: str, name: str, run_id: UUID, scope: Scope, *, midway: bool = False) -> None:
        """Look whether this run may go on.

        Raises:
            AgentHaltedError: its agent is halted, or all are.
        """
        found = self._reason(scope.agent)
        if found is not None:
            what = f"{kind} {name}".strip() if kind != "model" else f"a call to {name}"
            raise self._voice.refused_run(kind, name, run_id, scope, halted(what, *found), midway=midway)

    def check_call(self, call: Call, *, midway: bool = False) -> None:
        """The same, of a call."""
        if self.armed:
            self.check(call.kind, call.name, call.run_id, call.scope, midway=midway)

    def _reason(self, agent: str) -> tuple[str, str] | None:
        """Who is halted that this concerns, and why."""
        for name in (_ALL, agent) if self._killed else ():
            reason = self._killed.get(name)
            if reason is not None:
                return name, reason
        return self._switch.reason(agent) if self._switch is not None else None
