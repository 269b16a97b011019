"""A spend log, the store of balances and the provider's bill say the same of a fleet's calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from langchain_costguard import CostGuard, ModelRef, Spend, SQLiteStore
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.testing import FakeProvider
from tests.conftest import PRICES
from tests.observe.fleet import BUDGETS, answer

PROCESSES = 4
CALLS = int(os.environ.get("COSTGUARD_TEST_FLEET_CALLS", "100"))
ROOT = Path(__file__).parents[2]


def test_log_store_and_bill_of_four_processes_agree_to_the_nano_dollar(tmp_path: Path) -> None:
    with FakeProvider(answer) as provider:
        members = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.observe.fleet",
                    provider.url,
                    str(tmp_path),
                    str(n),
                    str(CALLS // PROCESSES),
                ],
                cwd=ROOT,
                env={**os.environ, "COSTGUARD_TIKTOKEN_DOWNLOAD": "0"},
            )
            for n in range(PROCESSES)
        ]
        assert [member.wait() for member in members] == [0] * PROCESSES
        rates = PriceBook(PRICES).quote(ModelRef("openai", "gpt-4o"), 0)
        whole = [r for r in provider.requests if "whole" in str(r.messages) and r.usage is not None]
        bill = sum(rates.charge(r.usage) for r in whole if r.usage is not None)
    spend = Spend(tmp_path / "spend.db")
    store = SQLiteStore(tmp_path / "budgets.db")
    guard = CostGuard(*BUDGETS, store=store)
    headroom = {(row.budget, row.measure): row for row in guard.headroom().rows}
    total = spend.total
    assert total.spent == headroom["all", "usd"].spent
    assert total.calls == headroom["all", "model_calls"].spent
    models = spend.rows("model")
    exact = [row for row in models if row.counts[10] == 0 and row.names[10] == "ok"]
    assert (len(exact), sum(row.counts[8] for row in exact)) == (len(whole), bill)
    tools = spend.rows("tool")
    assert sum(row.counts[8] for row in tools) == len(tools) * 1_500_000
    assert sum(row.counts[8] for row in models + tools) == total.spent
    assert total.refused == len(spend.rows("refused")) > 0
    assert spend.rows("voided")
    store.close()
