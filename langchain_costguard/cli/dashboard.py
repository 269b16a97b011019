"""``costguard dashboard``: what shows the metrics."""

from __future__ import annotations

import json

import rich_click as click

from langchain_costguard.observe.boards.grafana import dashboard


@click.command()
@click.argument("kind", type=click.Choice(["grafana"]))
def command(kind: str) -> None:
    """Print a dashboard to import into Grafana, over the metrics that a guard with telemetry brings."""
    print(json.dumps(dashboard(), indent=2))
