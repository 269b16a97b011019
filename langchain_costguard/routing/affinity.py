"""Routing among equal workers (vLLM and the like) by the prompt's beginning, which one of them has in its cache.

A prompt is cut into blocks, each hashed together with all before it. The router remembers the blocks it sent to each
worker, as the worker's own cache would, and sends a prompt to the worker that knows most of it; among equals, and
where nobody knows a tenth of it, by rendezvous hashing of the first block that is new. So a worker that leaves takes
only its own prompts with it, and one that joins gets prompts from all.

Load is tokens sent, halved every ``half_life``; one that the worker has in its cache counts a quarter. Nobody gets a
prompt that would take it above ``load_factor`` times the mean, and no new conversation above the mean, so that the
old ones have room to grow. Where no choice keeps the bound (a few conversations on many workers, one prompt larger than
the mean) there is none: a prompt stays where it is cached until another worker has room for it, and a new one goes
where the load is least.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from langchain_costguard.observe.forks import held_over_forks
from langchain_costguard.routing.route import Route, RouteRequest
from langchain_costguard.routing.tiers import Spec, checked_model, distinct
from langchain_costguard.vocabulary.checks import timed

_CACHED = 0.25
"""What a token in the worker's cache counts of one that is not: it is not computed, but attended to and held."""

_FEW = 0.1
"""The share of a prompt that must be known for it to be worth following: a system prompt alone is everywhere soon."""

_CHARS_PER_TOKEN = 4


@dataclass(slots=True, eq=False)
class _Worker:
    name: str
    model: Spec
    load: float = 0.0
    blocks: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)

    def known(self, prefixes: Sequence[Hashable]) -> int:
        """How many of the first blocks it has. Whoever has one has those before it, so halving finds it."""
        low, high = 0, len(prefixes)
        while low < high:
            middle = (low + high + 1) // 2
            if prefixes[middle - 1] in self.blocks:
                low = middle
            else:
                high = middle - 1
        return low

    def take(self, prefixes: Sequence[Hashable], most: int) -> None:
        """Remember the blocks, the first ones longest."""
        blocks = self.blocks
        for prefix in reversed(prefixes):
            blocks[prefix] = None
            blocks.move_to_end(prefix)
        while len(blocks) > most:
            blocks.popitem(last=False)


class PrefixRouter:
    """The worker that has most of the prompt in its cache, if it is not too busy. Any thread may ask.

    Args:
        workers: ``{"gpu-0": ChatOpenAI(base_url="http://gpu-0:8000/v1", ...), ...}``. Routers in several processes
            send a prompt to the same worker where they have the same names, and have seen the same prompts.
        block_tokens: Tokens (of four characters) compared at once; a shorter prompt is one block.
        load_factor: The most that a worker may have of the mean load.
        half_life: Seconds after which load counts half.
        worker_blocks: Blocks remembered of each worker; about its cache's size, as far as it is known.
        clock: Seconds, from any beginning.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        workers: Mapping[str, Spec],
        *,
        block_tokens: int = 256,
        load_factor: float = 1.25,
        half_life: float = 60.0,
        worker_blocks: int = 16_384,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(workers, Mapping) or not workers:
            raise ValueError(f"workers: {workers!r} must map names to models")
        for name, value in (("block_tokens", block_tokens), ("worker_blocks", worker_blocks)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000_000:
                raise ValueError(f"{name}: {value!r} must be a whole number from 1 to 10,000,000")
        for name, number, least in (("load_factor", load_factor, 1.0), ("half_life", half_life, 0.001)):
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= 1e6:
                raise ValueError(f"{name}: {number!r} must be a number from {least} to 1e6")
        timed("clock", clock)
        self.block_tokens, self.worker_blocks = block_tokens, worker_blocks
        self.load_factor, self.half_life = float(load_factor), float(half_life)
        self._clock = clock
        self._since = clock()
        self._lock = held_over_forks(threading.Lock())
        self._workers: dict[str, _Worker] = {}
        for name, model in workers.items():
            self.add(name, model)

    def __call__(self, request: RouteRequest) -> Route:
        """The worker for the request's prompt; its score is the share of the prompt that the worker knows."""
        prefixes, chars = self._prefixes(request)
        worker, known = self._place(prefixes, max(1, chars // _CHARS_PER_TOKEN))
        share = known / len(prefixes)
        why = f"{worker.name} has {share:.0%} of the prompt in its cache" if known else f"{worker.name} has room"
        return Route(worker.model, why, share)

    def place(self, prefixes: Sequence[Hashable], tokens: int) -> str:
        """The worker (by name) for a prompt of so many tokens, and count it as its load.

        ``prefixes`` name the prompt's blocks, from the first; each names all before it, too.

        Raises:
            ValueError: there are none.
        """
        if not prefixes:
            raise ValueError(f"prefixes: {prefixes!r} must name one block at least")
        return self._place(prefixes, tokens)[0].name

    def add(self, name: str, model: Spec) -> None:
        """A worker joins, as busy as the others are on average.

        Raises:
            ValueError: it has no name, or one that is taken, or no model.
        """
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"workers: {name!r} is not the name of a worker")
        worker = _Worker(name, checked_model(f"workers[{name!r}]", model))
        with self._lock:
            if name in self._workers:
                raise ValueError(f"workers: there is a worker {name!r} already")
            workers = self._workers.values()
            # As if it were idle, it would get every new conversation at once.
            worker.load = sum(each.load for each in workers) / max(1, len(workers))
            self._workers = {**self._workers, name: worker}

    def remove(self, name: str) -> None:
        """A worker leaves.

        Raises:
            ValueError: there is none of that name, or it is the last one.
        """
        with self._lock:
            if name not in self._workers or len(self._workers) == 1:
                what = "is the last worker" if name in self._workers else f"is not one of {', '.join(self._workers)}"
                raise ValueError(f"workers: {name!r} {what}")
            self._workers = {each: worker for each, worker in self._workers.items() if each != name}

    @property
    def models(self) -> tuple[Spec, ...]:
        """The workers' models."""
        return distinct(worker.model for worker in self._workers.values())

    @property
    def loads(self) -> dict[str, float]:
        """Each worker's load in tokens, as it is now."""
        with self._lock:
            self._decay()
            return {name: worker.load for name, worker in self._workers.items()}

    def _place(self, prefixes: Sequence[Hashable], tokens: int) -> tuple[_Worker, int]:
        with self._lock:
            self._decay()
            workers = list(self._workers.values())
            known = {worker: worker.known(prefixes) for worker in workers}
            cost = {w: tokens * (1 - (1 - _CACHED) * known[w] / len(prefixes)) for w in workers}
            worker = self._choose(prefixes, known, cost)
            worker.load += cost[worker]
            worker.take(prefixes, self.worker_blocks)
            return worker, known[worker]

    def _choose(
        self, prefixes: Sequence[Hashable], known: Mapping[_Worker, int], cost: Mapping[_Worker, float]
    ) -> _Worker:
        mean = (sum(worker.load for worker in known) + min(cost.values())) / len(known)
        fit = [worker for worker in known if worker.load + cost[worker] <= self.load_factor * mean]
        fit = fit or list(known)
        most = max(known[worker] for worker in fit)
        if most > _FEW * len(prefixes):
            equal = [worker for worker in fit if known[worker] == most]
        else:
            equal = [worker for worker in fit if worker.load + cost[worker] <= mean]
            equal = equal or [min(fit, key=lambda worker: worker.load)]
        if len(equal) == 1:
            return equal[0]
        first_new = prefixes[min(max(known.values()), len(prefixes) - 1)]
        return max(equal, key=lambda worker: _weight(first_new, worker.name))

    def _decay(self) -> None:
        now = self._clock()
        share = 0.5 ** (max(0.0, now - self._since) / self.half_life)
        self._since = now
        for worker in self._workers.values():
            worker.load *= share

    def _prefixes(self, request: RouteRequest) -> tuple[list[bytes], int]:
        """The prompt's whole blocks by their hashes (a part of one where there is no whole one), and its length."""
        text = "\x1e".join(_parts(request))
        raw = text.encode("utf-8", "surrogatepass")
        size = self.block_tokens * _CHARS_PER_TOKEN
        chain = sha256()  # the fastest here: processors have instructions for it
        prefixes = []
        for start in range(0, max(size, len(raw) - size + 1), size):
            chain.update(raw[start : start + size])
            prefixes.append(chain.digest()[:8])
        return prefixes, len(raw)


def _parts(request: RouteRequest) -> Iterator[str]:
    """What makes up the prompt, in the order in which workers read it: tools, then messages."""
    for tool in request.tools:
        yield str(getattr(tool, "name", None) or _text(tool))
    for said in map(vars, request.messages):  # attributes of a pydantic model that it lacks take 5 us each
        content, calls = said["content"], said.get("tool_calls")
        yield said["type"]
        yield content if isinstance(content, str) else _text(content)
        if calls:
            yield _text([(call.get("name"), call.get("args")) for call in calls])


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _weight(prefix: Hashable, name: str) -> bytes:
    """Rendezvous hashing: the same in every process."""
    key = prefix if isinstance(prefix, bytes) else repr(prefix).encode()
    return sha256(key + b"|" + name.encode("utf-8", "surrogatepass")).digest()
