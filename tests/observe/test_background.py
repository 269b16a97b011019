"""What is written behind: in order, again until it is through, and within one deadline at the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard.observe.background import EXIT_SECONDS, Writer
from tests.waits import waits_less_than


class Shelf:
    """Takes what is delivered, unless it is told to fail."""

    def __init__(self, failures: int = 0, keeps: int = 0) -> None:
        self.failures = failures
        self.keeps = keeps
        self.items: list[Any] = []
        self.open = threading.Event()
        self.open.set()

    def deliver(self, items: list[Any]) -> None:
        assert self.open.wait(5)
        if self.failures:
            self.failures -= 1
            self.items += items[: self.keeps]
            del items[: self.keeps]
            raise OSError("away")
        self.items += items


def test_items_arrive_in_the_order_in_which_they_came() -> None:
    shelf = Shelf()
    writer = Writer(shelf.deliver, name="shelf", batch=7)
    for number in range(100):
        assert writer.put(number)
    assert writer.flush()
    assert (shelf.items, len(writer), writer.dropped) == (list(range(100)), 0, 0)


@pytest.mark.parametrize("keeps", [0, 2])
def test_a_delivery_that_fails_is_tried_again_by_itself_with_what_it_left(keeps: int) -> None:
    shelf = Shelf(failures=2, keeps=keeps)
    writer = Writer(shelf.deliver, name="shelf", pauses=(0.01, 0.02))
    for number in range(5):
        writer.put(number)
    assert writer.flush()
    assert shelf.items == list(range(5))


def test_who_is_woken_often_enough_has_lost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.open.clear()
    writer = Writer(shelf.deliver, name="shelf", capacity=2)
    for number in range(5):
        writer.wake(number)
    shelf.open.set()
    assert writer.close()
    assert (shelf.items, writer.dropped) == ([0, 1], 0)
    assert not caplog.messages


def test_what_does_not_fit_is_counted_and_said_and_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.open.clear()
    writer = Writer(shelf.deliver, name="shelf", capacity=3)
    assert [writer.put(number) for number in range(5)] == [True, True, True, False, False]
    assert (len(writer), writer.dropped) == (3, 2)
    shelf.open.set()
    assert writer.close()
    assert shelf.items == [0, 1, 2]
    assert not writer.put(6)
    assert caplog.messages == ["shelf: more is told than can be delivered, and some is lost (said once)"]


def test_what_cannot_be_delivered_in_time_is_handed_to_whoever_says_so() -> None:
    lost: list[Any] = []
    writer = Writer(Shelf(failures=10**6).deliver, name="shelf", lost=lost.extend)
    writer.put("a")
    writer.put("b")
    with waits_less_than(2.5):
        assert not writer.close(0.2)
    assert lost == ["a", "b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_brings_its_own_items_and_not_those_of_its_parent(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.open.clear()

    def deliver(items: list[str]) -> None:
        shelf.deliver(items)
        (tmp_path / str(os.getpid())).write_text(str(items))

    writer = Writer(deliver, name="shelf")
    writer.put("parent")
    child = os.fork()
    if child == 0:
        shelf.open.set()
        writer.put("child")
        os._exit(0 if writer.flush(5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shelf.open.set()
    assert writer.flush()
    assert (tmp_path / str(child)).read_text() == "['child']"
    assert (tmp_path / str(os.getpid())).read_text() == "['parent']"


AT_THE_END = {
    "a script": "work()",
    "a script that exits": "work(); sys.exit(3)",
    "a child of multiprocessing": """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
""",
}


def ending(how: str, state: str, out: Path) -> str:
    return f"""
import atexit, sys, time
atexit.register(lambda: print(time.monotonic() - began))  # the last to run
from langchain_costguard.observe.background import Writer
def deliver(items):
    if {state == "away"}:
        raise OSError("away")
    with open({str(out)!r}, "a") as file:
        file.write("".join(items))
def work():
    global writers
    writers = [Writer(deliver, name=f"w{{n}}", gather=30) for n in range(5)]
    for writer in writers:
        writer.put("x")
began = time.monotonic()
{AT_THE_END[how]}
"""


@pytest.mark.parametrize("state", ["up", "away"])
def test_the_end_of_a_process_waits_for_all_writers_together_and_not_for_long(state: str, tmp_path: Path) -> None:
    started = {  # all at once: each waits at its end
        how: subprocess.Popen(
            [sys.executable, "-c", ending(how, state, tmp_path / how)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for how in AT_THE_END
    }
    for how, process in started.items():
        took, said = process.communicate(timeout=60)
        assert process.returncode == (3 if "exits" in how else 0)
        if state == "up":
            assert (tmp_path / how).read_text() == "xxxxx"
        else:
            assert said.count("1 item was not delivered") == 5
            assert EXIT_SECONDS < float(took) < 3 * EXIT_SECONDS  # and not five times, one after the other
