"""``costguard context``: what each context policy would have come to on recorded conversations."""

from __future__ import annotations

from datetime import UTC, datetime

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.recordings import read
from langchain_costguard.cli.screen import show, table
from langchain_costguard.context.plan import HEADER, advice, cells, compare
from langchain_costguard.context.replay import Measure
from langchain_costguard.context.timing import Prices
from langchain_costguard.metering.pricing.estimate import Estimator
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.vocabulary.usage import ModelRef

_LEAST_TRIGGER = 2_000
_SHOWN = {name: name for name in ("policy", "money", "tokens", "breaks", "dearer", "ids", "words")} | {
    "no task": "lost"
}
"""The columns that 80 characters have room for, and their heads; ``--json`` has all."""


@click.group()
def command() -> None:
    """Plan what goes into the window."""


@command.command()
@click.argument("file", metavar="FILE")
@click.option("--agent", metavar="NAME", help="of whom (default: of all)")
@click.option("--model", default="anthropic:claude-sonnet-4-6", show_default=True, help="whose prices and tokens")
@click.option(
    "--trigger", type=int, metavar="N", help="tokens at which LangChain's policies set in (default: half of the median)"
)
@options.json
def plan(file: str, agent: str | None, model: str, trigger: int | None, as_json: bool) -> None:
    """Replay conversations under each policy, and say what to choose.

    FILE has JSON lines of messages, or is a checkpointer's SQLite file. No model is called.
    """
    conversations = [each.messages for each in read(file, agent)]
    provider, _, name = model.rpartition(":")
    ref, estimator = ModelRef(provider, name), Estimator()
    rates = PriceBook().rates(ref, datetime.now(UTC).timestamp())
    if rates is None:
        raise ValueError(f"--model: no price is known of {model!r}; name it like anthropic:claude-sonnet-4-6")
    empty = estimator.estimate(ref, []).tokens
    measure = Measure(conversations, lambda message: max(1, estimator.estimate(ref, [message]).tokens - empty))
    lengths = sorted(sum(map(measure.size, each)) for each in conversations)
    start = trigger or max(_LEAST_TRIGGER, lengths[len(lengths) // 2] // 2)
    found = compare(measure, Prices(rates.cache_write, rates.cache_read, rates.output), trigger=start)
    if as_json:
        import json

        print(json.dumps({"rows": [row._asdict() for row in found], "advice": advice(found)}))
        return
    columns, heads = [HEADER.index(name) for name in _SHOWN], [head or name for name, head in _SHOWN.items()]
    show(
        table(heads, [[row[at] for at in columns] for row in cells(found)], left=1),
        f"\n{len(conversations)} conversations, {found[0].calls:,} calls to {model}, {lengths[len(lengths) // 2]:,} "
        f"tokens at the end of the median one; LangChain's policies set in at {start:,}.\n{advice(found)}\n"
        "Money includes what would be fetched again, in a cache that is always warm within a conversation; breaks are "
        "calls whose old part had changed, dearer the share of conversations that were; ids and words, what later "
        "replies used of old results and still found; lost, calls without the user's task. Whether a model would have "
        "answered otherwise, a replay cannot say.",
    )
