"""What in a request keeps it from sharing more with the one before: each change that has shared text behind it.

A change with nothing shared behind it costs nothing: the user's question, the growing end of a conversation, another
prompt altogether.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from langchain_costguard.caching.prompt.differences import Stretch, stretches
from langchain_costguard.caching.prompt.kinds import TEXT, looks
from langchain_costguard.caching.prompt.records import Part, Record

_RUN = 200
"""Characters in a row that count as shared; what is shorter is in any two texts."""
LEAST_BEHIND = 512
"""Characters behind a change below which it is not worth a word: some 128 tokens, the steps OpenAI keeps prompts in.
https://platform.openai.com/docs/guides/prompt-caching"""
_SPEAKING = ("user", "assistant", "tool")
_LOCAL = (TEXT, "number", "name")
"""Changes that, in a message of a conversation, make it another conversation: only the rest of the message is lost."""
_SHOWN = 60
_JSON = json.JSONDecoder()
_IN_VAIN = 20
"""How many times its own length of a text is read for objects that are none: Python 3.14 nests as deep as they go."""


class Break(NamedTuple):
    """A change: in which message, which characters of it, of what kind, and the characters of shared text behind it."""

    where: str
    kind: str
    start: int
    end: int
    excerpt: str
    before: str
    behind: int
    at: int
    """Where it is in the whole prompt."""


class Compared(NamedTuple):
    """Two prompts side by side."""

    breaks: list[Break]
    shared: int
    """Characters that both have, whether or not they can be found in the cache."""


class _Change(NamedTuple):
    at: int
    end: int
    other: str
    kind: str = ""


def flat(tools: Sequence[Part], messages: Sequence[Part]) -> tuple[str, list[tuple[int, Part]]]:
    """The prompt as one text, and where in it each part begins."""
    texts, places, at = [], [], 0
    for part in (*tools, *messages):
        head = f"\x1e{part.role}\n"
        texts.append(f"{head}{part.text}\n")
        places.append((at + len(head), part))
        at += len(texts[-1])
    return "".join(texts), places


def compare(before: Record, now: Record) -> Compared:
    """What changed from one request to the next, in the order of the prompt."""
    text, places = flat(now.tools, now.messages)
    tools, changes = _settled_tools(before.tools, now.tools, places)
    messages = [part._replace(text=_settled(part, places, changes, len(now.tools) + i)) for i, part in
                enumerate(before.messages)]  # fmt: skip
    other, _ = flat(tools, messages)
    found = stretches(other, text)
    changes += [_Change(each.start, each.end, other[each.start_a : each.end_a]) for each in found if not each.same]
    runs = [each for each in found if each.same and (each.end - each.start >= _RUN or not each.start)]
    breaks = _joined([_break(change, text, places, runs) for change in sorted(changes)])
    return Compared([b for b in breaks if b.behind >= LEAST_BEHIND], sum(run.end - run.start for run in runs))


def _break(change: _Change, text: str, places: Sequence[tuple[int, Part]], runs: Sequence[Stretch]) -> Break:
    start, part = next(((s, p) for s, p in reversed(places) if s <= change.at), places[0])
    low = max(0, min(change.at - start, len(part.text)))
    high = max(low, min(change.end - start, len(part.text)))
    kind = change.kind
    if not kind and change.at == change.end and "\x1e" in change.other:
        kind = "shortened history" if part.role != "tool schema" else "other tools"
    elif not kind:
        kind, low, high = looks(part.text, low, high, change.other)
    until = len(text)
    if part.role in _SPEAKING and kind in _LOCAL:
        until = start + len(part.text)
    where, excerpt = part.where, _excerpt(part.text, low, high)
    if kind == "tool order":
        names = [tool.where.partition("(")[2].rstrip(")") for _, tool in places if tool.role == part.role]
        where, excerpt = "tools", _excerpt(", ".join(names), 0, _SHOWN)
    behind = sum(max(0, min(run.end, until) - max(run.start, start + high)) for run in runs)
    return Break(where, kind, low, high, excerpt, part.text[:low][-12:], behind, start + low)


def _excerpt(text: str, start: int, end: int) -> str:
    """The characters with a little of what is around them, on one line."""
    room = max(0, _SHOWN - (end - start)) // 2
    low, high = max(0, start - room), min(len(text), max(end, start) + room)
    shown = " ".join(text[low : min(high, low + _SHOWN)].split())
    return f"{'…' if low else ''}{shown}{'…' if min(high, low + _SHOWN) < len(text) else ''}"


def _joined(breaks: Sequence[Break]) -> list[Break]:
    """Without what is one change: characters of one timestamp, words of one paragraph."""
    joined: list[Break] = []
    for each in breaks:
        last = joined[-1] if joined else None
        if last is not None and last.where == each.where:
            words = TEXT in (last.kind, each.kind) and {last.kind, each.kind} <= set(_LOCAL)
            if (words or last.kind == each.kind) and each.start - last.end < (_RUN if words else 1):
                end, behind = max(last.end, each.end), min(last.behind, each.behind)
                joined[-1] = last._replace(kind=TEXT if words else last.kind, end=end, behind=behind)
                continue
        joined.append(each)
    return joined


def _settled_tools(
    before: Sequence[Part], now: Sequence[Part], places: Sequence[tuple[int, Part]]
) -> tuple[Sequence[Part], list[_Change]]:
    """The former tools in the order and spelling of those now, where that is all that differs, and what it was."""
    if [part.text for part in before] == [part.text for part in now]:
        return before, []
    changes: list[_Change] = []
    spelt = {_same(part.text): part for part in before}
    if len(spelt) != len(now) or any(_same(part.text) not in spelt for part in now):
        return before, []
    for (at, part), old in zip(places, (spelt[_same(part.text)] for part in now), strict=False):
        if part.text != old.text:
            changes.append(_Change(at, at + len(part.text), old.text, "key order"))
    order = [_same(part.text) for part in before]
    moved = next((i for i, part in enumerate(now) if _same(part.text) != order[i]), None)
    if moved is not None:
        at, part = places[moved]
        changes.append(_Change(at, at + len(part.text), "", "tool order"))
    return now, changes


def _settled(part: Part, places: Sequence[tuple[int, Part]], changes: list[_Change], index: int) -> str:
    """The former message in the spelling of the one now, where JSON in it says the same in another order."""
    if index >= len(places) or places[index][1].text == part.text:
        return part.text
    at, now = places[index]
    old, new = list(_objects(part.text)), list(_objects(now.text))
    if len(old) != len(new):
        return part.text
    text = part.text
    for (start, end, value), (low, high, other) in reversed(list(zip(old, new, strict=True))):
        if value == other and part.text[start:end] != now.text[low:high]:
            text = text[:start] + now.text[low:high] + text[end:]
            changes.append(_Change(at + low, at + high, part.text[start:end], "key order"))
    return text


def _objects(text: str) -> Iterator[tuple[int, int, Any]]:
    """The JSON objects and lists in a text: where each is, and what it says."""
    at, vain = text.find("{"), 0
    while at >= 0:
        try:
            value, end = _JSON.raw_decode(text, at)
        except ValueError as error:
            end = at + 1
            vain += getattr(error, "pos", at) - at
            if vain > _IN_VAIN * len(text):  # what is left open is read to the end from each inner one on
                return
        except RecursionError:  # and so it would be a thousand times
            return
        else:
            yield at, end, value
        at = text.find("{", end)


def _same(text: str) -> str:
    """JSON text by what it says."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return text
