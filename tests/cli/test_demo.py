"""``costguard demo``: what a newcomer sees, in a plain log."""

from __future__ import annotations

import re
from decimal import Decimal

from tests.cli.conftest import Shell


def test_the_demo_shows_a_stuck_agent_stopped_at_its_budget(shell: Shell) -> None:
    done = shell.run("demo", HTTP_PROXY="http://127.0.0.1:9", LANGSMITH_TRACING="true")
    assert (done.returncode, done.stderr) == (0, "")
    calls = re.findall(r"^  call +(\d+) .* \$(\d\.\d{9}) ", done.stdout, re.M)
    assert [int(number) for number, _ in calls] == list(range(1, len(calls) + 1))
    assert 8 <= len(calls) <= 15
    spent = sum(Decimal(charge) for _, charge in calls)
    assert spent <= Decimal("0.05")
    assert f"bills ${spent}" in done.stdout.replace("billed", "bills")
    assert f"the guard's ledger says ${spent}: the same to the nano-USD." in done.stdout
    assert re.search(rf"^total +{len(calls)} +{len(calls)} .* 1$", done.stdout, re.M)
    assert done.stdout.count("Budget 'demo' refused a call to gpt-4o") == 1
    assert f"So call {len(calls) + 1} never left: {len(calls)} requests reached the server" in done.stdout
