"""A spend log of a million calls: ``python tests/benchmarks/bench_spend_log.py [CALLS]``. Prints MB and seconds."""

from __future__ import annotations

import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from langchain_costguard import ModelRef, Scope, Spend, Usage
from langchain_costguard.events import CallSettled
from langchain_costguard.observe.log import open_log
from langchain_costguard.observe.log.entry import entry_of
from langchain_costguard.observe.log.sink import SpendLog

DAYS = 30
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-6")


def calls(number: int, start: float) -> Iterator[CallSettled]:
    """Calls of 30 agents, 8 features and 5,000 users, six to a session."""
    dice = random.Random(1)
    for n in range(number):
        if n % 6 == 0:
            trace, session = str(uuid.UUID(int=dice.getrandbits(128))), f"session-{dice.getrandbits(48):012x}"
            user, feature = f"user-{dice.randrange(5000)}", f"feature-{dice.randrange(8)}"
            agent = f"agent-{dice.randrange(30)}"
        model = dice.choice(MODELS)
        scope = Scope(user, session, agent, "model", feature, "", trace, model)
        usage = Usage(dice.randrange(200, 9000), dice.randrange(10, 900), cache_read=dice.randrange(2) * 128)
        run, parent = (uuid.UUID(int=dice.getrandbits(128)) for _ in range(2))
        charge, held = dice.randrange(10**5, 10**8), dice.randrange(10**5, 10**8)
        yield CallSettled(
            start + n * DAYS * 86_400 / number, scope, run, ModelRef("openai", model), usage, charge, held, 0, False,
            dice.random() * 5, dice.random(), parent, model, f"{model}-2024-08-06", "genai-prices", "ok", 0,
            (("user.day|u|usd", 5, 9),),
        )  # fmt: skip


def main(number: int) -> None:
    """Write them, and ask."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "spend.db")
        log, batch, began = open_log(place), [], time.perf_counter()
        for event in calls(number, time.time() - DAYS * 86_400):
            batch.append(entry_of(event))
            if len(batch) == 2_000:
                log.write([entry for entry in batch if entry])
                batch = []
        log.write([entry for entry in batch if entry])
        log.close()
        print(f"{number:,} calls: {(time.perf_counter() - began) / number * 1e6:.0f} us a row on the log's thread,")
        print(f"{place.stat().st_size / 1e6:.1f} MB")
        spend = Spend(place)
        asked = {
            "by feature and day": lambda: spend.by("feature", "day"),
            "by feature, agent and day": lambda: spend.by("feature", "agent", "day"),
            "of one user, by day": lambda: spend.where(user="user-3").by("day"),
            "by user": lambda: spend.by("user"),
            "the ten dearest traces": spend.traces,
        }
        for what, ask in asked.items():
            began = time.perf_counter()
            ask()
            print(f"{what}: {time.perf_counter() - began:.2f} s")
        sink = SpendLog(Path(folder, "other.db"))
        events = list(calls(2_000, time.time()))
        began = time.thread_time()
        for event in events:
            sink(event)
        print(f"{(time.thread_time() - began) / len(events) * 1e6:.1f} us a call on the caller's thread")
        sink.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
