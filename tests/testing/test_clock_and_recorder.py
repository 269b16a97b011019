"""The manual clock and the sink that remembers."""

import math
from datetime import UTC, datetime

import pytest

from langchain_costguard.testing import ManualClock, Recorder


def test_the_clock_moves_only_when_told_to():
    clock = ManualClock()

    assert datetime.fromtimestamp(clock(), UTC) == datetime(2025, 1, 1, tzinfo=UTC)
    assert clock() == clock()
    assert clock.advance(90) == clock() == ManualClock()() + 90


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_the_clock_does_not_go_back_or_to_nowhere(seconds):
    clock = ManualClock(1000)
    with pytest.raises(ValueError, match=f"seconds={seconds!r}"):
        clock.advance(seconds)

    assert clock() == 1000


def test_the_recorder_keeps_events_in_order_and_finds_them_by_type():
    recorder = Recorder()
    for event in (1, "two", 3):
        recorder(event)

    assert recorder.events == [1, "two", 3]
    assert recorder.of(int) == [1, 3]
    recorder.clear()
    assert recorder.events == []
