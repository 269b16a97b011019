"""Promises of how long somebody waits, told on a machine that does other things as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

BEAT = 0.02


@contextmanager
def waits_less_than(seconds: float) -> Iterator[None]:
    """What is done inside must be over within `seconds`, counted in beats of a thread that sleeps between them.

    Whatever keeps this process from its work keeps that thread from its next beat, and so is not taken for a wait. Set
    `seconds` well between what is promised and what a broken promise would take: no test is there to tell 1.0 from 1.1.
    """
    over, beats = threading.Event(), 0

    def count() -> None:
        nonlocal beats
        while not over.wait(BEAT):
            beats += 1

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        over.set()
        counting.join()
    assert beats * BEAT < seconds
