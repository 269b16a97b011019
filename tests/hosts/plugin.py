"""For pytest in the host's own tests (``.ci/extended host-suite``): with a guard, by the variable ``GUARD``.

``watch`` watches all that they do; ``steer`` adds ``steer(guard)`` to the middleware of every agent that they make, and
``steer-once`` the same without retries and repairs; ``off`` leaves them alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import langchain.agents
import langchain.agents.factory as factory
import pytest

from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import steer

MODE = os.environ.get("GUARD", "off")
PLENTY = Budget(usd="1000000", tokens=10**12, model_calls=10**9, tool_calls=10**9, steps=10**9)
guard = CostGuard(PLENTY, Budget(per="step", usd="100000"))


@pytest.fixture(autouse=MODE == "watch")
def watched() -> Iterator[None]:
    with guard.watch():
        yield


if MODE.startswith("steer"):
    policies: dict[str, Any] = {"retry": None} if MODE == "steer-once" else {}
    plain = factory.create_agent

    def create_agent(*args: Any, middleware: Any = (), **kwargs: Any) -> Any:
        return plain(*args, middleware=[*middleware, *steer(guard, **policies)], **kwargs)

    factory.create_agent = create_agent
    langchain.agents.create_agent = create_agent
