"""Real servers that show traces: what a guard's telemetry tells them, read back through their APIs.

See ``.ci/extended phoenix`` and ``.ci/extended mlflow``; the one that is not installed is left out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain.agents import create_agent

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider
from tests.conftest import PRICES
from tests.observe.test_metrics import free_port
from tests.observe.test_spans import searching

PHOENIX = """
import grpc.aio._server as server, sys
listen = server.Server.add_insecure_port  # Phoenix' gRPC takes every interface, whatever PHOENIX_HOST says
server.Server.add_insecure_port = lambda self, address: listen(self, address.replace("[::]", "127.0.0.1"))
sys.argv = ["phoenix", "serve"]
from phoenix.server.main import main
main()
"""


def until(check: Callable[[], Any], seconds: float = 120.0) -> Any:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if found := check():
                return found
        except (httpx.HTTPError, KeyError, IndexError, FileNotFoundError):
            pass
        time.sleep(0.3)
    raise AssertionError("nothing came")


@contextmanager
def running(words: list[str], where: Path, up: str, **env: str) -> Iterator[None]:
    with (where / "log").open("wb") as log:
        server = subprocess.Popen(
            words, cwd=where, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True
        )

        def ready() -> bool:
            assert server.poll() is None, (where / "log").read_text("utf-8")
            return httpx.get(up).is_success

        try:
            until(ready, 300)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # it has workers of its own, and what it keeps is thrown away
            server.wait(60)


def worked(telemetry: Telemetry) -> tuple[int, int]:
    """An agent looked something up and answered, and was refused the next time; the tokens, and nano-USD, it took."""

    def look_up(query: str) -> str:
        """Look it up."""
        return query

    guard = CostGuard(Budget(per="session", model_calls=2), prices=PRICES, telemetry=telemetry)
    with FakeProvider(searching) as provider, guard.scope(user="u1", session="s1", feature="minutes"):
        middleware = steer(guard, on_exceeded="raise")
        agent = create_agent(provider.openai(), [look_up], name="helper", middleware=middleware)
        agent.invoke({"messages": [("user", "What was decided?")]}, {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            agent.invoke({"messages": [("user", "And then?")]}, {"callbacks": [guard]})
    telemetry.close()
    return provider.usage().input_tokens + provider.usage().output_tokens, guard.report().total.spent


@pytest.mark.skipif(find_spec("phoenix") is None, reason="needs Phoenix: .ci/extended phoenix")
def test_phoenix_shows_spans_cost_tokens_and_the_session(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    base = f"http://127.0.0.1:{port}"
    env = {"PHOENIX_WORKING_DIR": str(tmp_path), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port)}
    env |= {"PHOENIX_GRPC_PORT": str(other), "PHOENIX_TELEMETRY_ENABLED": "false"}
    with running([sys.executable, "-c", PHOENIX], tmp_path, f"{base}/healthz", **env):
        tokens, spent = worked(Telemetry(otlp=f"{base}/v1/traces", preset="phoenix", annotate=False))

        def spans() -> Any:
            told = httpx.get(f"{base}/v1/projects/default/spans", params={"limit": 50}).json()["data"]
            return told if len(told) == 6 else None  # two agents' runs, two calls, a tool, and a refusal

        told = {f"{span['span_kind']} {span['name']}": span for span in until(spans)}
        assert {"AGENT invoke_agent helper", "LLM chat gpt-4o", "TOOL execute_tool look_up"} <= set(told)
        asked = "{projects{edges{node{sessions(first:5){edges{node{sessionId tokenUsage{total} "
        asked += "costSummary{total{cost}}}}}}}}}"
        answer = httpx.post(f"{base}/graphql", json={"query": asked}).json()["data"]
    assert {span["attributes"]["session.id"] for span in told.values()} == {"s1"}
    assert {span["attributes"]["user.id"] for span in told.values()} == {"u1"}
    (refused,) = (span for name, span in told.items() if "refused model" in name)
    assert refused["status_code"] == "ERROR"
    assert refused["attributes"]["costguard.refusal.budget"] == "session"
    assert refused["attributes"]["costguard.refusal.left"] == 0
    (project,) = answer["projects"]["edges"]
    (session,) = (edge["node"] for edge in project["node"]["sessions"]["edges"])
    # Its own table of prices agrees about this model: it reads no cost.
    assert (session["sessionId"], session["tokenUsage"]["total"]) == ("s1", tokens)
    assert round(session["costSummary"]["total"]["cost"] * 1e9) == spent


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs MLflow: .ci/extended mlflow")
def test_mlflow_shows_the_traces_cost_tokens_session_and_user(tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with running([*words, "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"], tmp_path, f"{base}/health"):
        made = httpx.post(f"{base}/api/2.0/mlflow/experiments/create", json={"name": "shop"}, timeout=60).json()
        number = made["experiment_id"]
        headers = {"x-mlflow-experiment-id": number}
        tokens, spent = worked(Telemetry(otlp=f"{base}/v1/traces", preset="mlflow", headers=headers, annotate=False))
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": number}}

        def traces() -> Any:
            asked = {"locations": [place]}
            told = httpx.post(f"{base}/api/3.0/mlflow/traces/search", json=asked, timeout=60).json()["traces"]
            return told if len(told) == 2 else None

        told = {bool(trace["trace_metadata"].get("mlflow.trace.cost")): trace for trace in until(traces)}
    paid, refused = (told[True]["trace_metadata"], told[False])
    assert (paid["mlflow.trace.session"], paid["mlflow.trace.user"]) == ("s1", "u1")
    assert f'"total_tokens": {tokens}' in paid["mlflow.trace.tokenUsage"]
    assert f'"total_cost": {spent / 1e9}' in paid["mlflow.trace.cost"]
    assert refused["trace_metadata"]["mlflow.trace.session"] == "s1"
