"""Several threads at one place: who leads takes the others with it, in their order, and nobody is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from langchain_costguard.metering.stores import StoreError, together
from langchain_costguard.metering.stores.base import StoreBusyError
from langchain_costguard.metering.stores.together import Job, Together

PATIENT = 5.0
"""Seconds after which nothing will come of it any more."""


class Place:
    """Does jobs when it is let, by what each wants: a value, or an error."""

    def __init__(self, leaders: int = 1, patience: float = PATIENT) -> None:
        self.queue: Together[Any] = Together(self.work, leaders=leaders, patience=patience, where="here")
        self.turns = threading.Semaphore(0)
        self.done: list[list[Any]] = []
        self.begun = 0
        self.ends: BaseException | None = None
        self.said: dict[Any, Any] = {}
        self.threads: list[threading.Thread] = []

    def work(self, jobs: list[Job[Any]]) -> None:
        self.begun += 1
        assert self.turns.acquire(timeout=PATIENT)
        self.done.append([job.wanted for job in jobs])
        if self.ends is not None:
            raise self.ends
        for job in jobs:
            if isinstance(job.wanted, Exception):
                job.error = job.wanted
            else:
                job.value = job.wanted

    def ask(self, wanted: Any, kind: object = None) -> None:
        """From a thread of its own; returns when it is at the place, or waits for it."""

        def run() -> None:
            try:
                self.said[wanted] = self.queue.do(Job(wanted, kind))
            except BaseException as error:
                self.said[wanted] = error

        before = self.inside()
        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        wait_for(lambda: self.inside() > before or wanted in self.said)

    def inside(self) -> int:
        return len(self.queue._waiting) + len(self.queue._leading) + sum(map(len, self.done))

    def go(self, times: int = 1) -> None:
        """Let it work, and wait for those who are done."""
        before = len(self.done)
        self.turns.release(times)
        wait_for(lambda: len(self.done) >= before + times)

    def end(self) -> dict[Any, Any]:
        self.turns.release(99)
        for thread in self.threads:
            thread.join(PATIENT)
            assert not thread.is_alive()
        assert (self.queue._waiting, self.queue._leading) == (self.queue._waiting.__class__(), {})
        return self.said


def wait_for(it: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENT
    while not it():
        assert time.monotonic() < until


def test_who_leads_takes_those_who_wait_and_are_of_its_kind_in_their_order() -> None:
    place = Place()
    for wanted, kind in ((1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "a"), (6, "a")):
        place.ask(wanted, kind)
    assert place.end() == {number: number for number in range(1, 7)}
    assert place.done == [[1], [2, 3], [4], [5, 6]]


def test_it_takes_no_more_than_so_many_at_once() -> None:
    place = Place()
    for number in range(1 + 64 + 3):
        place.ask(number)
    place.end()
    assert place.done == [[0], [*range(1, 65)], [65, 66, 67]]


def test_so_many_lead_at_a_time_and_who_ends_hands_on_to_one() -> None:
    place = Place(leaders=2)
    for number in range(6):
        place.ask(number, kind=number)
    wait_for(lambda: place.begun == 2)
    assert (len(place.queue._leading), len(place.queue._waiting)) == (2, 4)
    for begun in (3, 4):
        place.go()
        wait_for(lambda begun=begun: place.begun == begun and len(place.queue._leading) == 2)
        assert len(place.queue._waiting) == 6 - begun
    assert place.end() == {number: number for number in range(6)}
    assert sorted(place.done) == [[number] for number in range(6)]


@pytest.mark.parametrize(
    ("first", "late", "then"),
    [
        (StoreError("away"), False, StoreError),
        (StoreBusyError("busy"), False, None),
        (ValueError("its own"), False, None),
        ("well", False, None),
        ("well", True, StoreBusyError),
    ],
)
def test_who_waits_leaves_where_those_before_got_no_answer(
    first: Any, late: bool, then: type[StoreError] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if late:
        monkeypatch.setattr(together, "QUEUEING", 0.0)
        monkeypatch.setattr(together, "time", SimpleNamespace(monotonic=lambda: 64.0))
    place = Place(patience=PATIENT if late else 0.001)
    place.ask(first, "a")
    place.ask("second", "b")
    if late:
        place.queue._patience = 0.001
    place.ask("third", "c")
    if not late:
        place.go()
        wait_for(lambda: place.begun == 2)
    if then is not None:
        wait_for(lambda: "third" in place.said)
    said = place.end()
    assert said[first] is first or said[first] == first
    assert said["second"] == "second"
    if then is None:
        assert said["third"] == "third"
    else:
        assert type(said["third"]) is then
        assert str(said["third"]) == "here: the threads before this one did not get through"


def test_where_who_leads_is_interrupted_those_with_it_are_told_and_those_behind_go_on() -> None:
    place = Place()
    for wanted, kind in (("first", "a"), ("second", "a"), ("third", "a"), ("fourth", "b")):
        place.ask(wanted, kind)
    place.go()
    wait_for(lambda: place.begun == 2)
    place.ends = KeyboardInterrupt()
    place.go()
    wait_for(lambda: place.begun == 3)
    ends, place.ends = place.ends, None
    said = place.end()
    assert said["second"] is ends
    assert str(said.pop("third")) == "here: the thread that was at it was interrupted"
    assert (said["first"], said["fourth"]) == ("first", "fourth")


def test_the_lead_is_handed_on_though_whoever_does_so_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    place, wake, interrupted = Place(), together._wake, list[Job[Any]]()

    def interrupts(job: Job[Any]) -> None:
        if not interrupted:
            interrupted.append(job)
            raise KeyboardInterrupt
        wake(job)

    monkeypatch.setattr(together, "_wake", interrupts)
    for wanted in ("first", "second", "third"):
        place.ask(wanted, wanted)
    said = place.end()
    assert isinstance(said.pop("first"), KeyboardInterrupt)
    assert said == {"second": "second", "third": "third"}


def test_who_was_handed_the_lead_and_is_still_in_the_queue_does_its_own_job_once() -> None:
    place = Place()
    place.turns.release()
    own, other = Job("own"), Job("other")
    place.queue._leading[own.thread] = own  # and whoever put it there was interrupted before it took it off
    place.queue._waiting.extend((own, other))
    place.queue._do_with_others(own)
    assert place.done == [["own", "other"]]
    assert not place.queue._waiting


def test_a_thread_in_the_middle_of_a_job_is_told_that_it_is() -> None:
    said: list[Any] = []

    def work(jobs: list[Job[int]]) -> None:
        for job in jobs:
            job.value = job.wanted
        if not said:
            with pytest.raises(StoreError) as caught:
                queue.do(Job(2))
            said.append(str(caught.value))

    queue = Together(work, leaders=1, patience=PATIENT, where="here")
    assert (queue.do(Job(1)), said) == (1, ["here: this very thread is using it"])
    assert queue.do(Job(3)) == 3
