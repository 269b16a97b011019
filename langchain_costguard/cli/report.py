"""``costguard report``: who spent what, out of a spend log."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import rich_click as click

from langchain_costguard.cli import logs, options
from langchain_costguard.observe.files import may_write, written
from langchain_costguard.observe.page.render import MARK, page
from langchain_costguard.observe.report import Report, Tally
from langchain_costguard.observe.spend import Spend
from langchain_costguard.observe.statement import statement
from langchain_costguard.vocabulary.urls import reason

_FORMATS = ("table", "csv", "json", "markdown")


@click.command()
@logs.place
@logs.period
@click.option("--by", metavar="NAMES", default="agent,model", help="feature,day and the like (default: agent,model)")
@logs.filters
@click.option("--format", "form", type=click.Choice(_FORMATS), default="table", help="how to print it (default: table)")
@click.option("--html", metavar="FILE", help="write a page instead: one file, to be sent to others")
@options.force
@click.option("--title", metavar="TEXT", default="What was spent", help="of the page")
@click.option("--statement", "whose", metavar="user=NAME", help="a statement for a customer instead, of --month")
@click.option("--month", metavar="YYYY-MM", help="of the statement")
def command(
    log: str | None,
    since: str | None,
    until: str | None,
    tz: str,
    by: str,
    form: str,
    html: str | None,
    force: bool,
    title: str,
    whose: str | None,
    month: str | None,
    **given: tuple[str, ...],
) -> None:
    """Who spent what, out of a spend log.

    LOG is a path, sqlite:PATH, redis://… or postgresql://… (default: $COSTGUARD_LOG). With --since, a table also says
    what the time before, as long as this one, came to.
    """
    if html is not None:
        may_write("--html", html, MARK, force=force)
    spend = logs.spend_of(log, since, until, tz, given)
    if whose is not None:
        _statement(spend, whose, month, form)
    elif html is not None:
        _page(spend, html, title, force=force)
    else:
        names = [name.strip() for name in by.split(",") if name.strip()]
        report = logs.asking(lambda: spend.by(*names))
        _print(report, spend, form)


def _statement(spend: Spend, whose: str, month: str | None, form: str) -> None:
    if month is None:
        raise ValueError("--statement: of which --month? Give one such as 2026-11")
    if form not in ("table", "csv"):
        raise ValueError(f"--format: a statement is a table or csv, not {form}")
    made = logs.asking(lambda: statement(spend, month, **logs.whose(whose, "--statement")))
    print(made.to_csv() if form == "csv" else made, end="" if form == "csv" else "\n")


def _page(spend: Spend, file: str, title: str, *, force: bool) -> None:
    text = logs.asking(lambda: page(spend, title=title))
    try:
        written(file, text, mark=MARK, field="--html", force=force)
    except OSError as error:
        raise ValueError(f"--html: {file!r} cannot be written: {reason(error)}") from None
    print(f"{file}: {len(text) / 1000:,.0f} kB, with all that it needs in it.")


def _print(report: Report, spend: Spend, form: str) -> None:
    if form == "table":
        print(report)
        if spend.wanted.since is not None and report.rows:
            print(f"\n{_before(report, spend)}")
        return
    rows = [{name: _plain(value) for name, value in row.items()} for row in report.to_dicts()]
    if form == "json":
        print(json.dumps({"rows": rows, "actions": [_all(row) for row in report.actions.to_dicts()]}, indent=2))
    elif form == "csv":
        print(_csv(rows, report), end="")
    else:
        print(_markdown(rows, report))


def _before(report: Report, spend: Spend) -> str:
    from langchain_costguard.vocabulary.money import show as money

    before, total = logs.asking(lambda: spend.before().total), report.total
    change = f", {(total.spent - before.spent) / before.spent:+.0%}" if before.spent else ""
    now, then = (f"{money(each.spent)} in {each.calls:,} calls" for each in (total, before))
    return f"{now}; the time before: {then}{change}."


def _csv(rows: list[dict[str, Any]], report: Report) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _columns(rows, report), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _markdown(rows: list[dict[str, Any]], report: Report) -> str:
    kept = (*report.dimensions, "calls", "usd")
    names = [name for name in _columns(rows, report) if name in kept or any(_counts(row[name]) for row in rows)]
    lines = ["| " + " | ".join(names) + " |"]
    lines.append("|" + "|".join(" --- " if name in report.dimensions else " ---: " for name in names) + "|")
    lines += ["| " + " | ".join(str(row[name]).replace("|", "\\|") or "-" for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _counts(value: Any) -> bool:
    return str(value) not in ("0", "0E-9")


def _columns(rows: list[dict[str, Any]], report: Report) -> list[str]:
    return list((rows or Report([(report.dimensions, Tally())], report.dimensions).to_dicts())[0])


def _all(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Money as text, so that no reader rounds it."""
    return value if isinstance(value, (str, int)) or value is None else str(value)
