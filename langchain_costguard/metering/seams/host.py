"""What the seams that own a call's frame need of a guard: its parts, not the guard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from langchain_costguard.metering.admission import Admission
    from langchain_costguard.metering.aside import Aside
    from langchain_costguard.metering.meter import Meter
    from langchain_costguard.metering.seams.waiting import Waiting
    from langchain_costguard.metering.settlement import Settlement
    from langchain_costguard.metering.voice import Voice


class Host(Protocol):
    """The parts, and the key by which calls of models that were wrapped for them are known."""

    key: str
    meter: Meter
    admission: Admission
    settlement: Settlement
    waiting: Waiting
    voice: Voice
    aside: Aside
