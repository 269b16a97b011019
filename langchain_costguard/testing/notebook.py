"""What a notebook needs besides its subject: no network, no noise, and figures that can be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from langchain_costguard.events import CallSettled
from langchain_costguard.testing.provider import FakeProvider
from langchain_costguard.testing.recorder import Recorder
from langchain_costguard.testing.replies import Reply
from langchain_costguard.testing.requests import Request

_providers: list[FakeProvider] = []
_STYLE: dict[Any, Any] = {
    "figure.figsize": (7.5, 3.0),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.bbox": "tight",
}


def begin() -> None:
    """Nothing is downloaded, refusals are not logged beside being raised, and figures have twice the pixels."""
    import matplotlib
    from matplotlib_inline import backend_inline

    os.environ["COSTGUARD_TIKTOKEN_DOWNLOAD"] = "0"
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.ERROR + 1)
    inline: Any = backend_inline
    inline.set_matplotlib_formats("retina")
    matplotlib.rcParams.update(_STYLE)


def serve(script: Callable[[Request], Reply | str] | list[Reply] | str) -> FakeProvider:
    """A provider on this machine that answers as the script says, until the notebook's end."""
    _providers.append(FakeProvider(script).start())
    return _providers[-1]


def end() -> None:
    """Stop what was started."""
    while _providers:
        _providers.pop().stop()


def ask(agent: Any, question: str, thread: str, **config: Any) -> Any:
    """Ask an agent in a thread of this name; what it returns."""
    return agent.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": thread}, **config})


def show(state: Mapping[str, Any], width: int = 96) -> None:
    """Print a conversation, a line a message."""
    for message in state["messages"]:
        calls = [f"{call['name']}{tuple(call['args'].values())}" for call in getattr(message, "tool_calls", ())]
        said = " ".join((", ".join(calls) or message.text).split()).replace(",)", ")")
        print(f"{message.type:>5} │ {said if len(said) <= width else said[: width - 1] + '…'}")


def spending(recorder: Recorder) -> list[float]:
    """What was spent in all (USD) after each model call."""
    total, found = 0, []
    for event in recorder.of(CallSettled):
        total += event.charge
        found.append(total / 1e9)
    return found


def draw_spending(runs: Mapping[str, Recorder]) -> None:
    """Draw what each run had spent after each of its model calls; the end of each is marked."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots()
    for name, recorder in runs.items():
        spent = spending(recorder)
        (line,) = axes.plot(range(1, len(spent) + 1), spent, label=f"{name}: ${spent[-1]:.4f}")
        axes.plot(len(spent), spent[-1], "o", color=line.get_color())
    axes.set(xlabel="model calls", ylabel="spent (USD)")
    axes.yaxis.set_major_formatter("${x:.3f}")
    axes.legend()
    plt.show()
