"""What every scene plays on: a console of which sixty columns are used, and the bill at its end."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from langchain_costguard.cli.words import count
from langchain_costguard.guard import CostGuard
from langchain_costguard.testing import FakeProvider
from langchain_costguard.vocabulary.money import usd
from langchain_costguard.vocabulary.usage import ModelRef

Part = str | tuple[str, str]
"""A piece of a line; with a style, or without."""

_ON_SCREEN = 0.25
_BAR = 20
_COLOURS = ((0.5, "green"), (0.2, "yellow"), (0.0, "red"))
"""What is left of a budget is green above half of it, then yellow, and red at last."""


class Stage:
    """Prints a scene. On a terminal replies take their time, and the call under way is seen; elsewhere it is a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.moves = console.is_terminal and not console.record
        """Whether lines come and go."""
        self.delay = _ON_SCREEN if self.moves else 0.0
        """Seconds that a reply of the scene's provider takes."""
        self._live: Live | None = None

    def say(self, *parts: Part) -> None:
        """Print a line for good, in the place of what was shown ``now``."""
        self.now()
        self.console.print(Text.assemble(*parts))

    def now(self, *parts: Part) -> None:
        """Show a line until the next one; nothing where there is no terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if parts and self.moves:
            self._live = Live(Text.assemble(*parts), console=self.console, transient=True, auto_refresh=False)
            self._live.start(refresh=True)

    def bar(self, left: int, held: int, cap: int) -> list[Part]:
        """What is left of a budget, what is held of it, and what is gone: ``━━━━━━━┅┅────``."""
        whole, hold, gone = ("#", "?", "-") if self.console.options.ascii_only else ("━", "┅", "─")
        free = max(0, round(_BAR * left / cap))
        taken = min(_BAR, max(free, round(_BAR * (left + held) / cap)))
        colour = next((colour for share, colour in _COLOURS if left > share * cap), "red")
        return [
            (whole * free, colour),
            (hold * (taken - free), "blue"),
            (gone * (_BAR - taken), "bright_black"),
        ]

    def bill(self, guard: CostGuard, provider: FakeProvider) -> bool:
        """The provider's bill beside the ledger's; whether they are the same."""
        billed, spent = _billed(guard, provider), guard.report().total.spent
        served, counted = provider.usage().calls, guard.report().total.calls
        same = (served, billed) == (counted, spent)
        verdict = ("the same", "bold green") if same else ("NOT the same", "bold red")
        self.say("")
        self.say(f"provider billed {count(served, 'call'):>9}   ", (exact(billed), "bold"))
        self.say(f"ledger counted  {count(counted, 'call'):>9}   ", (exact(spent), "bold"), "   ", verdict)
        return same


def agent(provider: FakeProvider, name: str, tools: Any, model: str = "gpt-4o", **kwargs: Any) -> Any:
    """A real agent, with a real client that asks the fake provider."""
    from langchain.agents import create_agent

    return create_agent(provider.openai(model, max_tokens=300), tools, name=name, **kwargs)


def asked(question: str) -> Any:
    """A user's question, as agents take it."""
    return {"messages": [("user", question)]}


def money(nano: int) -> str:
    """To a thousandth of a cent, as these scenes have it."""
    return f"${usd(nano):.5f}"


def exact(nano: int) -> str:
    """To the nano-dollar."""
    return f"${usd(nano):.9f}"


def _billed(guard: CostGuard, provider: FakeProvider) -> int:
    """What the server's own count of tokens costs, in nano-USD."""
    now = guard.now()
    return sum(
        guard.meter.book.quote(ModelRef("openai", request.model), now).charge(request.usage)
        for request in provider.requests
        if request.usage is not None
    )
