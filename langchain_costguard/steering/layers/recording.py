"""Answers on record, where the user wants them there: what a router can learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_costguard.steering.requests import used_in
from langchain_costguard.steering.sayings import MARK

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_costguard.routing.route import RouteRequest
    from langchain_costguard.routing.runlog import RunLog
    from langchain_costguard.steering.layers.fleet import Fleet
    from langchain_costguard.steering.surroundings import Here


def on_record(
    runs: RunLog | None,
    fleet: Fleet,
    here: Here,
    asked: RouteRequest,
    model: Any,
    message: AIMessage | None,
    *,
    good: bool | None = None,
    score: float | None = None,
    made: bool = True,
    assumed: bool = False,
) -> None:
    """Put a model's answer on record; not one of ours. It was paid for, whatever becomes of the record.

    ``made`` is false where another model made it, and this one is taken to have answered as well, at its own price.
    """
    if runs is None or (message is not None and MARK in message.response_metadata):
        return
    used, rates = used_in(message), fleet.rates(model)
    cost = None if used is None or rates.estimated else rates.charge(used)
    id = message.id if message is not None and made else None
    try:
        runs.answered(asked.prompt, fleet.label(model), id=id, good=good, score=score, cost=cost, assumed=assumed)
    except Exception as error:  # the file is full, or the score is none that JSON knows
        here.guard.say_once(f"An answer could not be put on record in {runs!r}", error)
