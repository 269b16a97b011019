"""Servers that fork their workers: a guard made before or after counts every call, once. ``python -m tests.prefork``.

Each server runs with two workers on one store, first with the guard made in the parent, is asked by eight threads, and
is told to end (SIGTERM) while the last settlements may be on their way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from langchain_costguard import Budget, CostGuard, Price
from langchain_costguard.stores import open_store
from langchain_costguard.testing import ScriptedChatModel
from tests.servers import _free_port, redis_server

CALLS, WORKERS = 100, 2
PATIENCE = 180
"""Seconds: a Python that has LangChain loaded needs half a second of CPU to end, and as much to begin."""
READY = "/ready"
STORE = os.environ.get("PREFORK_STORE", "")


def _guard() -> CostGuard:
    prices = {"gpt-4o": Price(input="1", output="2")}
    return CostGuard(Budget(per="all", usd="1", model_calls=CALLS), store=open_store(STORE), prices=prices)


def _ask() -> str:
    ScriptedChatModel(usage=(10, 5), max_tokens=5).invoke("hi", {"callbacks": [guard]})
    return str(os.getpid())


if STORE:  # in the servers
    guard = _guard()
    guard.headroom()  # the parent has used the store, and its threads run

    def wsgi(environ: Any, start: Any) -> list[bytes]:
        pid = str(os.getpid()) if environ["PATH_INFO"] == READY else _ask()
        start("200 OK", [("content-type", "text/plain")])
        return [pid.encode()]

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] != READY:
            await ScriptedChatModel(usage=(10, 5), max_tokens=5).ainvoke("hi", {"callbacks": [guard]})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    try:
        from celery import Celery
    except ImportError:
        pass
    else:
        queue = {"data_folder_in": "queue", "data_folder_out": "queue"}
        celery = Celery("tests.prefork", broker="filesystem://", backend="file://results")
        celery.conf.update(broker_transport_options=queue, worker_prefetch_multiplier=1)
        task = celery.task(_ask, name="ask")


def _servers(port: int) -> dict[str, list[str]]:
    gunicorn = [
        sys.executable, "-m", "gunicorn", "-w", "2", "--threads", "4", "-b", f"127.0.0.1:{port}",
        "--no-control-socket", "--log-level", "warning", "tests.prefork:wsgi",
    ]  # fmt: skip
    return {
        "gunicorn --preload": [*gunicorn, "--preload"],
        "gunicorn": gunicorn,
        "uvicorn --workers": [
            sys.executable, "-m", "uvicorn", "--workers", "2", "--port", str(port), "--log-level", "warning",
            "tests.prefork:asgi",
        ],
        "celery": [
            sys.executable, "-m", "celery", "-q", "-A", "tests.prefork:celery", "worker", "-c", "2", "-l", "ERROR",
        ],
    }  # fmt: skip


def _asked(port: int, path: str = "/") -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as reply:
        return str(reply.read().decode())


def _all_are_up(port: int) -> None:
    """Wait until each worker has answered: what is asked before then, the first of them may have for itself."""
    up, until = set[str](), time.monotonic() + PATIENCE
    while len(up) < WORKERS:
        try:
            up.add(_asked(port, READY))
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _asked_by_web(port: int, env: dict[str, str], folder: Path) -> set[str]:
    _all_are_up(port)
    with ThreadPoolExecutor(8) as threads:
        return set(threads.map(lambda _: _asked(port), range(CALLS)))


def _asked_by_queue(port: int, env: dict[str, str], folder: Path) -> set[str]:
    code = (
        f"from tests.prefork import task\nprint(*[r.get({PATIENCE}) for r in [task.delay() for _ in range({CALLS})]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return set(done.stdout.split())


def _drive(name: str, command: list[str], port: int, env: dict[str, str], folder: Path) -> tuple[set[str], int]:
    """The processes that answered, and the server's status after SIGTERM."""
    server = subprocess.Popen(command, env=env, cwd=folder, start_new_session=True)
    try:
        pids = (_asked_by_queue if name == "celery" else _asked_by_web)(port, env, folder)
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)
    except BaseException:  # where it hangs is told by faulthandler
        os.killpg(server.pid, signal.SIGABRT)
        raise
    return pids, server.returncode


def _found(url: str, pids: set[str], status: int) -> tuple[bool, dict[str, object]]:
    """Whether each call was counted once and nothing is held any more, and what was found."""
    usd, calls = open_store(url).read(["all|usd", "all|model_calls"], now=time.time())
    fine = (usd.spent, usd.held, calls.spent, calls.held) == (CALLS * 20_000, 0, CALLS, 0)
    facts = {"processes": len(pids), "calls": calls.spent, "usd": usd.spent / 1e9, "held": usd.held, "status": status}
    return fine and len(pids) == WORKERS and status in (0, -signal.SIGTERM), facts


def main() -> int:
    bad = 0
    with redis_server() as redis:
        for kind in ("sqlite", "redis"):
            for number, name in enumerate(_servers(0)):
                with tempfile.TemporaryDirectory() as text:
                    folder, port = Path(text), _free_port()
                    for each in ("queue", "results"):
                        (folder / each).mkdir()
                    url = f"sqlite:{folder}/b.db" if kind == "sqlite" else f"{redis.url}/{number}"
                    env = {**os.environ, "PREFORK_STORE": url, "PYTHONPATH": os.getcwd(), "PYTHONFAULTHANDLER": "1"}
                    pids, status = _drive(name, _servers(port)[name], port, env, folder)
                    fine, facts = _found(url, pids, status)
                    bad += not fine
                    print(f"{kind:7}{name:20}{'ok ' if fine else 'BAD'} {json.dumps(facts)}", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
