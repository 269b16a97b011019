"""Eight processes on one budget, with leases or without: how much of it they use, and how many trips that takes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.proxy import proxied
from tests.servers import Server

PROCESSES = 8
CALLS = 10_000
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from langchain_core.language_models import FakeListChatModel
from langchain_costguard import Budget, BudgetExceededError, CostGuard, RedisStore
url, namespace, lease, calls = sys.argv[1:]
store = RedisStore(url, namespace=namespace, lease=lease or None, timeout=5)
guard = CostGuard(Budget(per="all", model_calls=int(calls)), store=store)
model, config, done = FakeListChatModel(responses=["fine"]), {"callbacks": [guard]}, 0
print("ready", flush=True)
input()
began = time.perf_counter()
try:
    while True:
        model.invoke("hi", config)
        done += 1
except BudgetExceededError:
    print(done, time.perf_counter() - began, flush=True)
"""


def run(server: Server, lease: str | None, calls: int = CALLS) -> tuple[int, int, float]:
    """Calls that were let in, trips to the server, and calls a second."""
    with proxied(server.port) as proxy:
        arguments = [proxy.url, f"leased {lease} {time.time()}", lease or "", str(calls)]
        command = [sys.executable, "-c", PROGRAM, *arguments]
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        workers = [subprocess.Popen(command, text=True, cwd=ROOT, **quiet) for _ in range(PROCESSES)]  # type: ignore[call-overload]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        before = proxy.trips
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        said = [worker.communicate()[0].split() for worker in workers]
        done = sum(int(calls) for calls, _ in said)
        return done, proxy.trips - before, done / max(float(seconds) for _, seconds in said)
