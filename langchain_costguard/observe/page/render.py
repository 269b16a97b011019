"""Puts a page together: its data, its scripts and its charts' library in one text."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

from langchain_costguard.observe.page.facts import facts
from langchain_costguard.observe.spend import Spend

TITLE = "What was spent"
MARK = '<meta name="generator" content="costguard'
"""By which a page is known."""


def page(spend: Spend, *, title: str = TITLE) -> str:
    """One HTML file: a person may send it to another, and it asks nobody for anything."""
    return render(facts(spend), title=title)


def render(shown: dict[str, Any], *, title: str, controls: str = "", script: str = "") -> str:
    """The page of these facts; with ``controls`` (HTML) and a ``script`` of its own where it is served."""
    # Inside a script, "<" may end it or begin a comment.
    data = json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(title),
        "css": _read("page.css"),
        "chart": _read("chart.umd.min.js"),
        "js": _read("page.js"),
        "facts": data,
        "connect": "'self'" if script else "'none'",
        "controls": controls,
        "live": f"<script>{script}</script>" if script else "",
    }
    pieces = _read("page.html").split("{{")
    text = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        text += [parts[name], rest]
    return "".join(text)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
