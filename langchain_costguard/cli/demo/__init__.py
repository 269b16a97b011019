"""``costguard demo``: a stuck agent is stopped at its budget; and short scenes of what else there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import rich_click as click

from langchain_costguard.cli.demo.picture import MARK, draw, recorder
from langchain_costguard.cli.screen import console
from langchain_costguard.metering.seams.quiet import quiet_refusals
from langchain_costguard.observe.files import may_write, written

if TYPE_CHECKING:
    from langchain_costguard.cli.demo.stage import Stage

SCENES = {
    "budget": "a stuck agent, and a budget that refuses its twelfth call",
    "loop": "the same agent, steered: told that it repeats itself, then ended",
    "team": "three agents with a budget each: one meets its own, the others go on",
    "cache": "the same question twenty times at once: asked once",
    "brake": "one of three running agents is stopped",
    "context": "a long thread with and without a context budget",
}
"""Each scene, in a module of its name, and what is seen in it."""


@click.command()
@click.option(
    "--scene",
    type=click.Choice(list(SCENES)),
    default="budget",
    show_default=True,
    help="; ".join(f"{name}: {what}" for name, what in SCENES.items()),
)
@click.option("--svg", metavar="FILE", type=click.Path(dir_okay=False), help="save what is seen as a picture, too")
@click.option("--force", is_flag=True, help="replace a file that costguard has not written")
def command(scene: str, svg: str | None, force: bool) -> int:
    """Watch a stuck agent being stopped: no key, no network.

    Agents and clients are the real ones, the provider is a fake on this machine. The exit status is 1 where what the
    provider billed is not what the guard counted.
    """
    for package in ("langchain", "langchain_openai"):
        if find_spec(package) is None:
            raise ValueError(f"the demo needs {package}: pip install 'langchain-costguard[agents,openai]'")
    if svg is not None:
        may_write("--svg", svg, MARK, force=force)
    _stay_home()
    play = import_module(f"{__name__}.{scene}").play
    title = "costguard demo" if scene == "budget" else f"costguard demo --scene {scene}"
    return 0 if _shown(play, title, svg, force) else 1


def _shown(play: Callable[[Stage], bool], title: str, svg: str | None, force: bool) -> bool:
    from langchain_costguard.cli.demo.stage import Stage

    if svg is None:
        return play(Stage(console()))
    recorded = recorder(title)
    good = play(Stage(recorded))
    written(svg, draw(recorded, title), mark=MARK, field="--svg", force=force)
    return good


def _stay_home() -> None:
    """Nothing may leave the machine: no tracing, no vocabulary, and no proxy between us and the loopback."""
    os.environ.update(
        LANGSMITH_TRACING="false",
        LANGCHAIN_TRACING_V2="false",
        COSTGUARD_TIKTOKEN_DOWNLOAD="0",
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
    )
    quiet_refusals()
