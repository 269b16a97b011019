"""``costguard export``: a spend log in the shapes that finance and platforms take."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator

import rich_click as click

from langchain_costguard.cli import logs
from langchain_costguard.observe.exports.finance import FOCUS, INVOICE, Charged, focus_rows, invoice_lines
from langchain_costguard.observe.exports.openmeter import METERS
from langchain_costguard.observe.spend import Spend


@click.command()
@logs.place
@logs.period
@logs.filters
@click.option("--focus", "form", flag_value="focus", help="FOCUS 1.0 rows, as CSV (https://focus.finops.org)")
@click.option("--invoice", "form", flag_value="invoice", help="lines of invoices, a customer a user, as CSV")
@click.option(
    "--jsonl", "form", flag_value="jsonl", default=True, help="a line of JSON a day, model and owner (default)"
)
@click.option("--meters", "form", flag_value="meters", help="print the meters that OpenMeter is to be configured with")
def command(
    log: str | None, since: str | None, until: str | None, tz: str, form: str, **given: tuple[str, ...]
) -> None:
    """A spend log in the shapes that finance and platforms take; amounts add up to the nano-dollar."""
    if form == "meters":
        print(json.dumps({"meters": METERS}, indent=2))
        return
    spend = logs.spend_of(log, since, until, tz, given)
    charges = logs.asking(lambda: list(charged(spend)))
    if form == "jsonl":
        for charge in charges:
            print(json.dumps(charge._asdict()))
        return
    names, rows = (FOCUS, focus_rows(charges)) if form == "focus" else (INVOICE, invoice_lines(charges))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _safe(value) for name, value in row.items()})


def charged(spend: Spend) -> Iterator[Charged]:
    """The log's sums by day and owner."""
    for key, tally in spend.by("day", "provider", "model", "feature", "agent", "user").rows:
        if tally.spent or tally.calls:
            tokens = tally.input_tokens + tally.output_tokens
            day, provider, model, feature, agent, user = key
            yield Charged(
                day, provider, model, feature, agent, user, tally.calls + tally.tool_calls, tokens, tally.spent
            )


def _safe(value: object) -> object:
    """A cell that no spreadsheet takes for a formula. https://owasp.org/www-community/attacks/CSV_Injection"""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
