"""When a service that fails is left alone, and when it is tried again. The state is a value, the time an argument.

::

    closed ──(failures in a row)──▶ open ──(open_seconds)──▶ half-open: one probe
      ▲                              ▲                            │
      └──────── it succeeded ────────┼──────── it failed ─────────┘

https://martinfowler.com/bliki/CircuitBreaker.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from langchain_costguard.steering.policies.answers import answered_with, kind_of, raised_by_tool
from langchain_costguard.steering.policies.kinds import ErrorKind, classify, status_of
from langchain_costguard.vocabulary.slips import forgiving

Change = Literal["opened", "closed", ""]
_NOT_THE_SERVICE = frozenset({ErrorKind.REFUSAL, ErrorKind.VALIDATION, ErrorKind.CONTEXT})


def default_is_failure(outcome: Any) -> bool:
    """Whether an exception, or a reply, says that the service is not well.

    Every exception does but those that are not the service's: the guard's refusals and LangGraph's interrupts, a
    cancelled call, arguments that do not fit the schema, a request that is wrong (HTTP 400, 404, 422), filtered, or too
    long for the model. Of replies, a tool message with the status ``error`` does, unless it tells of one of these.
    """
    if isinstance(outcome, BaseException):
        if not isinstance(outcome, Exception) or raised_by_tool(classify, outcome) in _NOT_THE_SERVICE:
            return False
        status = status_of(outcome)
        return status is None or not 400 <= status < 500 or kind_of(status) not in _NOT_THE_SERVICE
    kind = answered_with(outcome)
    return kind is not None and kind not in _NOT_THE_SERVICE


@forgiving(
    threshold="failures=5",
    fail_max="failures=5",
    max_failures="failures=5",
    failure_threshold="failures=5",
    timeout="open_seconds=60",
    reset_timeout="open_seconds=60",
    cooldown="open_seconds=60",
    recovery_timeout="open_seconds=60",
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """Leaves a tool (or model) alone that failed too often in a row, and then tries it with one call.

    Args:
        failures: In a row, after which the circuit opens.
        open_seconds: Seconds no call is made; then one is, as a probe. A probe that never reports back is given up
            after as long.
        shared: Keep the state in the guard's store, so that each worker does not pay for the failures itself.
        is_failure: Takes the exception, or the message that came back, and says whether the service failed.

    Raises:
        ValueError: names the field and the value.
    """

    failures: int = 5
    open_seconds: float = 60.0
    shared: bool = False
    is_failure: Callable[[Any], bool] = default_is_failure

    def __post_init__(self) -> None:
        failures, seconds = self.failures, self.open_seconds
        if isinstance(failures, bool) or not isinstance(failures, int) or not 1 <= failures <= 1_000_000:
            raise ValueError(f"failures: {failures!r} must be a whole number above zero")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 86_400:
            raise ValueError(f"open_seconds: {seconds!r} must be a number of seconds above zero and at most 86400")
        if not isinstance(self.shared, bool):
            raise ValueError(f"shared: {self.shared!r} must be True or False")
        if not callable(self.is_failure):
            raise ValueError(f"is_failure: {self.is_failure!r} must be a function of an exception or a message")

    def worked(self, outcome: Any) -> bool | None:
        """Whether the service did its work; None where the outcome says nothing about it (cancelled, refused)."""
        if self.is_failure(outcome):
            return False
        return None if isinstance(outcome, BaseException) else True


class Circuit(NamedTuple):
    """The state of one tool's circuit. It is closed while ``until`` is None."""

    failures: int = 0
    """In a row, while it is closed."""
    until: float | None = None
    """Epoch seconds until which it is open; half-open from then on."""
    probe_until: float = 0.0
    """Epoch seconds after which the probe under way is given up."""
    number: int = 0
    """Another one after each change: a result counts only where its call was let through under the same number."""


class Pass(NamedTuple):
    """Leave to make one call, or (``seconds`` above zero) none for so long. Hand it back with how the call ended."""

    seconds: float = 0.0
    number: int = 0
    probe_until: float = 0.0
    """Of a probe, the epoch seconds after which it is given up; else 0."""
    generation: int = -1
    """Of a shared circuit, the store's number of its state; -1 where this process decided alone."""

    @property
    def probe(self) -> bool:
        """Whether all depends on this one call."""
        return self.probe_until > 0


def admit(circuit: Circuit, breaker: Breaker, now: float) -> tuple[Circuit, Pass]:
    """Let a call through or not; ``now`` is epoch seconds."""
    if circuit.until is None:
        return circuit, Pass(number=circuit.number)
    # Where the clock was put back, nobody waits longer than he would have had to.
    latest = now + breaker.open_seconds
    circuit = circuit._replace(until=min(circuit.until, latest), probe_until=min(circuit.probe_until, latest))
    free_at = max(circuit.until or 0.0, circuit.probe_until)
    if now < free_at:
        return circuit, Pass(seconds=free_at - now, number=circuit.number)
    circuit = circuit._replace(probe_until=latest, number=circuit.number + 1)
    return circuit, Pass(number=circuit.number, probe_until=latest)


def record(circuit: Circuit, breaker: Breaker, leave: Pass, worked: bool | None, now: float) -> tuple[Circuit, Change]:
    """Count how a call ended. What was begun before the last change says nothing about the service as it is now."""
    if leave.number != circuit.number or leave.seconds > 0:
        return circuit, ""
    if worked is None:
        return (circuit._replace(probe_until=0.0) if leave.probe else circuit), ""
    if leave.probe:
        return (closed(circuit), "closed") if worked else (opened(circuit, now + breaker.open_seconds), "opened")
    if worked:
        return circuit._replace(failures=0), ""
    if circuit.failures + 1 < breaker.failures:
        return circuit._replace(failures=circuit.failures + 1), ""
    return opened(circuit, now + breaker.open_seconds), "opened"


def opened(circuit: Circuit, until: float) -> Circuit:
    """It is open until then (epoch seconds)."""
    return Circuit(until=until, number=circuit.number + 1)


def closed(circuit: Circuit) -> Circuit:
    """It is closed, and no failure counted."""
    return Circuit(number=circuit.number + 1)
