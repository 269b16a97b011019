"""A router among any number of models: a cheap one that is expected to do, or the best where it is worth its price."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_costguard.observe.files import written
from langchain_costguard.routing.calibration import ALWAYS, Point, chosen, curve, read_point
from langchain_costguard.routing.explanation import Explanation
from langchain_costguard.routing.features import look
from langchain_costguard.routing.files import saved
from langchain_costguard.routing.linear import Linear, Stack
from langchain_costguard.routing.records import Record
from langchain_costguard.routing.route import Route, RouteRequest
from langchain_costguard.routing.training import Table, check, fit, vectors_of, worth

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

_VERSION = 2
ALIKE = 0.07
"""Expected qualities that differ by less tell nothing: about the error of one. From 0.05 to 0.08 little changes."""
_SELDOM = 0.01
"""The share of prompts for which a model is picked, or seems the best cheap one, below which it is not worth having."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRouter:
    """Chooses a cheap model that is expected to do, or the best one where that is better by ``threshold`` or more.

    Of the models that cost less than the best, the cheapest is taken whose expected quality is about that of the best
    among them. The score is what the best model is expected to be better by than that one, from -1 to 1. Made by
    ``train`` or ``load``. The best model is the last one of ``names``; ``costs`` are each model's mean dollars for an
    answer; ``points`` are what each threshold came to on records that the scores had not been learnt from.
    """

    models: tuple[str | BaseChatModel, ...]
    names: tuple[str, ...]
    costs: tuple[float, ...]
    stack: Stack
    points: tuple[Point, ...]
    point: Point
    facts: Mapping[str, Any] = field(default_factory=dict)
    embeddings: Embeddings | None = None

    @property
    def quick(self) -> bool:
        """Whether a choice is not worth a thread: an embedding would be."""
        return self.embeddings is None

    @property
    def threshold(self) -> float:
        """The score from which on a prompt goes to the best model."""
        return self.point.threshold

    def __call__(self, request: RouteRequest) -> Route:
        """Choose."""
        best = self.models[-1]
        if self.threshold == ALWAYS or len(self.models) == 1:
            return Route(best, "no other model is as good for less, whatever is asked", None, best)
        pick, score = self._weigh(self._expected(request.prompt, request.tools))
        dear = score >= self.threshold
        limit = max(-1.0, min(1.0, self.threshold))
        why = (
            f"of {len(self.names)} models, the best is expected to be {score:+.2f} better than the cheapest that will "
            f"do, {'at least' if dear else 'less than'} the {limit:+.2f} asked for"
        )
        return Route(best if dear else self.models[pick], why, score, best)

    def explain(self, prompt: str, tools: Sequence[Any] = ()) -> Explanation:
        """What in the prompt speaks for the best model (above zero), and what for the cheap one picked."""
        if len(self.models) == 1:
            return Explanation(self.names[-1], 0.0, ALWAYS, {})
        pick, score = self._weigh(self._expected(prompt, tools))
        seen, vector = look(prompt, tools), self._vector(prompt)
        cheap = self.stack.linears[pick].parts(seen, vector)
        parts = {name: value - cheap[name] for name, value in self.stack.linears[-1].parts(seen, vector).items()}
        name = self.names[-1 if score >= self.threshold else pick]
        return Explanation(name, sum(parts.values()), self.threshold, parts)

    def calibrate(self, *, target_quality: float | None = None, target_spend: float | None = None) -> ChoiceRouter:
        """A router with the threshold that keeps a promise: a share of what the best model alone comes to.

        ``target_quality=0.98`` is the least spend at which, with 95 % confidence, the mean quality is that share of
        the best model's; where none is known to be, that is the best model alone. ``target_spend=0.25`` is the best
        quality of those that cost no more than that share.

        Raises:
            ValueError: names what is wrong with the targets.
        """
        return replace(self, point=chosen(self.points, target_quality=target_quality, target_spend=target_spend))

    def _vector(self, prompt: str) -> Sequence[float]:
        dense = self.embeddings is not None and self.stack.linears[0].dense
        return self.embeddings.embed_query(prompt) if self.embeddings is not None and dense else ()

    def _expected(self, prompt: str, tools: Sequence[Any]) -> list[float]:
        return self.stack.scores(look(prompt, tools), self._vector(prompt))

    def _weigh(self, expected: Sequence[float]) -> tuple[int, float]:
        """The cheap model that would be taken, and what the best one is expected to be better by."""
        pick = choose(expected[:-1], self.costs)
        return pick, max(-1.0, min(1.0, expected[-1] - expected[pick]))

    @classmethod
    def train(
        cls,
        records: Sequence[Record],
        *,
        costs: Mapping[str, float] | None = None,
        target_quality: float = 0.98,
        embeddings: Embeddings | None = None,
        seed: int = 0,
    ) -> ChoiceRouter:
        """Learn from records of the same models; ``costs`` are dollars for an answer, where the records say none.

        Embeddings are used where that is found to be worth it on records not trained on, by more than a standard error.

        Raises:
            ValueError: there are too few records, they have no two models in common, or a cost is not known.
            ImportError: numpy is not installed.
        """
        check(records)
        common = _common(records, costs or {})
        names, prices, quality = common
        means = [sum(values) / len(records) for values in quality]
        best = max(range(len(names)), key=lambda i: (means[i], -prices[i]))
        table = Table.of(records, vectors_of([record.prompt for record in records], embeddings))
        cheaper = [i for i in range(len(names)) if prices[i] < prices[best]]
        table, (*expected, top) = worth(table, [quality[i] for i in (*cheaper, best)], seed=seed, apart=True)
        kept = _worth_having([prices[i] for i in cheaper], expected)
        order = [*(cheaper[i] for i in kept), best]
        points = _points(records, common, order, [expected[i] for i in kept], top)
        return cls(
            models=tuple(names[i] for i in order),
            names=tuple(names[i] for i in order),
            costs=tuple(prices[i] for i in order),
            stack=Stack(fit(table, [quality[i] for i in order])),
            points=points,
            point=chosen(points, target_quality=target_quality),
            facts={"records": len(records), "quality": dict(zip(names, means, strict=True))},
            embeddings=embeddings if len(table.vectors) else None,
        )

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write it as JSON; nothing of any prompt.

        Raises:
            ValueError: a file is in the place that ``save`` did not write (unless ``force``), or a link is.
        """
        told = {
            "costguard choice": _VERSION,
            "models": self.names,
            "costs": self.costs,
            "facts": self.facts,
            "point": asdict(self.point),
            "points": [[float(f"{value:.6g}") for value in asdict(point).values()] for point in self.points],
            "linears": [linear.packed() for linear in self.stack.linears],
        }
        written(path, json.dumps(told) + "\n", mark='"costguard choice"', force=force)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        models: Mapping[str, str | BaseChatModel] | None = None,
        embeddings: Embeddings | None = None,
    ) -> ChoiceRouter:
        """Read a file of ``save``; ``models`` are what to call for each name, if not as in the records.

        Raises:
            ValueError: it is no such file, names another model, or was trained with embeddings and none are given.
        """
        with saved(path, "costguard choice", _VERSION) as told:
            names, costs = tuple(map(str, told["models"])), tuple(map(float, told["costs"]))
            stack = Stack([Linear.unpacked(packed) for packed in told["linears"]])
            if not len(names) == len(stack.linears) == len(costs):
                raise ValueError("models, costs and linears are not as many")
            points, point = tuple(map(read_point, told["points"])), Point(**told["point"])
            facts = dict(told["facts"])
        if stack.linears[0].dense and embeddings is None:
            raise ValueError(f"{path}: it was trained with embeddings; give the same to load(embeddings=...)")
        given = dict(models or {})
        for name in given:
            if name not in names:
                raise ValueError(f"models: {name!r} is none of {', '.join(names)}")
        called = tuple(given.get(name, name) for name in names)
        return cls(models=called, names=names, costs=costs, stack=stack, points=points, point=point, facts=facts,
                   embeddings=embeddings)  # fmt: skip


def choose(expected: Sequence[float], costs: Sequence[float]) -> int:
    """The number of the cheapest model expected to be about as good as any; of equally cheap ones the better."""
    least = max(expected) - ALIKE
    within = (i for i, quality in enumerate(expected) if quality >= least)
    return min(within, key=lambda i: (costs[i], -expected[i]))


def _worth_having(prices: Sequence[float], expected: Sequence[Sequence[float]]) -> list[int]:
    """The models that are picked, or expected to be the best of these, more than seldom."""
    rows = list(zip(*expected, strict=True))
    taken = Counter(choose(row, prices) for row in rows) + Counter(
        max(range(len(row)), key=row.__getitem__) for row in rows
    )
    return [i for i in range(len(prices)) if taken[i] >= max(1, _SELDOM * len(rows))]


class _Common(NamedTuple):
    """The models that all records name, what they cost, and how good they were in each record."""

    names: tuple[str, ...]
    prices: tuple[float, ...]
    quality: list[list[float]]


def _points(
    records: Sequence[Record],
    common: _Common,
    order: Sequence[int],
    expected: Sequence[Sequence[float]],
    top: Sequence[float],
) -> tuple[Point, ...]:
    """What each threshold comes to among the models of ``order``, the best one last, by what was expected of them."""
    names, prices, quality = common
    best, costs, every = order[-1], [prices[i] for i in order], range(len(records))
    rows = list(zip(*expected, strict=True)) or [(most,) for most in top]
    picks = [choose(row, costs) for row in rows]
    gaps = [max(-1.0, min(1.0, top[n] - rows[n][picks[n]])) for n in every]
    weak = [quality[order[picks[n]]][n] for n in every]
    spent = [
        (record.cost.get(names[order[pick]], costs[pick]), record.cost.get(names[best], prices[best]))
        for record, pick in zip(records, picks, strict=True)
    ]
    return curve(gaps, weak, quality[best], spent if prices[best] else [])


def _common(records: Sequence[Record], costs: Mapping[str, float]) -> _Common:
    names = tuple(sorted(set.intersection(*(set(record.quality) for record in records))))
    if len(names) < 2:
        raise ValueError(f"quality: the records have {len(names)} models in common; a choice takes two or more")
    prices = tuple(_cost(name, records, costs) for name in names)
    quality = [[record.quality[name] for record in records] for name in names]
    if not any(map(any, quality)):
        raise ValueError("quality: no model was good at anything")
    if all(min(column) == max(column) for column in zip(*quality, strict=True)):
        raise ValueError("quality: in every record all models are equally good; there is nothing to learn")
    return _Common(names, prices, quality)


def _cost(name: str, records: Sequence[Record], costs: Mapping[str, float]) -> float:
    known = [record.cost[name] for record in records if name in record.cost]
    if name not in costs and not known:
        raise ValueError(f"cost: not known of {name!r}; record it, or give costs={{{name!r}: dollars}}")
    cost = costs[name] if name in costs else sum(known) / len(known)
    if not isinstance(cost, (int, float)) or not 0 <= cost < float("inf"):
        raise ValueError(f"costs.{name}: {cost!r} must be dollars, 0 or more")
    return float(cost)
