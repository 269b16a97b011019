"""A router among any number of models: the cheapest of those that are expected to be about as good as the best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_costguard.routing.calibration import half_width
from langchain_costguard.routing.features import Linear, look
from langchain_costguard.routing.route import Route, RouteRequest
from langchain_costguard.routing.training import Record, Table, check, crossfit, fit

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_VERSION = 1
MARGINS = (*(i / 100 for i in range(10)), *(i / 50 for i in range(5, 30)), 0.6, 0.8, 2.0)
SINGLE = -1.0
"""The margin that stands for no choice at all: the model that was best on the whole, always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """What a margin came to on the records, as shares of the best single model: quality with its interval, and cost."""

    margin: float
    quality: float
    low: float
    high: float
    spend: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRouter:
    """Chooses the cheapest model whose expected quality is within a margin of the best expected.

    The score of a route is that expected quality, from 0 to 1. Made by ``train`` or ``load``. ``costs`` are each
    model's mean dollars for an answer; ``best`` is the number of the model that was best on the whole.
    """

    models: tuple[str | BaseChatModel, ...]
    names: tuple[str, ...]
    linears: tuple[Linear, ...]
    costs: tuple[float, ...]
    best: int
    margins: tuple[Margin, ...]
    margin: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, request: RouteRequest) -> Route:
        """Choose."""
        dearest = self.models[max(range(len(self.costs)), key=self.costs.__getitem__)]
        if self.margin == SINGLE:
            return Route(self.models[self.best], "no other model is as good for less, whatever is asked", None, dearest)
        seen = look(request.prompt, request.tools)
        expected = [linear.score(seen) for linear in self.linears]
        pick = choose(expected, self.costs, self.margin)
        limit = f"within {self.margin:.2f} of the best" if self.margin < 1 else "which is all that counts"
        why = f"the cheapest of {len(self.names)} models whose expected quality, {expected[pick]:.2f}, is {limit}"
        return Route(
            self.models[pick], why if self.margin < 1 else "the cheapest model will do", expected[pick], dearest
        )

    def calibrate(self, *, target_quality: float) -> ChoiceRouter:
        """A router with the margin that costs least and, with 95 % confidence, keeps that share of the best's quality.

        Where none does it is the best single model, which is never worse than itself.

        Raises:
            ValueError: the target is no share above 0, at most 1.
        """
        target = target_quality
        if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
            raise ValueError(f"target_quality: {target!r} must be a share above 0, at most 1, of the best model's")
        kept = [m for m in self.margins if m.low >= target]
        return replace(self, margin=min(kept, key=lambda m: (m.spend, -m.quality, m.margin)).margin)

    @classmethod
    def train(
        cls,
        records: Sequence[Record],
        *,
        costs: Mapping[str, float] | None = None,
        target_quality: float = 0.98,
        seed: int = 0,
    ) -> ChoiceRouter:
        """Learn from records of the same models; ``costs`` are dollars for an answer, where the records say none.

        Raises:
            ValueError: there are too few records, they have no two models in common, or a cost is not known.
            ImportError: numpy is not installed.
        """
        check(records)
        names = tuple(sorted(set.intersection(*(set(record.quality) for record in records))))
        if len(names) < 2:
            raise ValueError(f"quality: the records have {len(names)} models in common; a choice takes two or more")
        prices = tuple(_cost(name, records, costs or {}) for name in names)
        quality = [[record.quality[name] for record in records] for name in names]
        means = [sum(values) for values in quality]
        if not any(means):
            raise ValueError("quality: no model was good at anything")
        if all(min(column) == max(column) for column in zip(*quality, strict=True)):
            raise ValueError("quality: in every record all models are equally good; there is nothing to learn")
        best = max(range(len(names)), key=lambda i: (means[i], -prices[i]))
        table = Table.of(records)
        expected = list(zip(*crossfit(table, quality, seed=seed), strict=True))
        made = cls(
            models=names,
            names=names,
            linears=tuple(fit(table, quality)),
            costs=prices,
            best=best,
            margins=tuple(
                _came_to(margin, expected, list(zip(*quality, strict=True)), prices, best)
                for margin in (SINGLE, *MARGINS)
            ),
            margin=SINGLE,
            facts={
                "records": len(records),
                "quality": dict(zip(names, (m / len(records) for m in means), strict=True)),
            },
        )
        return made.calibrate(target_quality=target_quality)

    def save(self, path: str | Path) -> None:
        """Write it as JSON; nothing of any prompt."""
        told = {
            "costguard choice": _VERSION,
            "models": self.names,
            "costs": self.costs,
            "best": self.best,
            "margin": self.margin,
            "margins": [asdict(margin) for margin in self.margins],
            "facts": self.facts,
            "linears": [linear.packed() for linear in self.linears],
        }
        Path(path).write_text(json.dumps(told) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path, *, models: Mapping[str, str | BaseChatModel] | None = None) -> ChoiceRouter:
        """Read a file of ``save``; ``models`` are what to call for each name, if not as in the records.

        Raises:
            ValueError: it is no such file, or names another model.
        """
        try:
            told = json.loads(Path(path).read_text("utf-8"))
            if told["costguard choice"] != _VERSION:
                raise ValueError(f"version {told['costguard choice']!r} is not {_VERSION}; train again")
            names = tuple(map(str, told["models"]))
            linears = tuple(Linear.unpacked(packed) for packed in told["linears"])
            costs = tuple(map(float, told["costs"]))
            margins = tuple(Margin(**margin) for margin in told["margins"])
            if not len(names) == len(linears) == len(costs) or not 0 <= told["best"] < len(names):
                raise ValueError("models, costs and linears are not as many")
            facts, best, margin = dict(told["facts"]), int(told["best"]), float(told["margin"])
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: no router that can be read ({type(error).__name__}: {error})") from None
        given = dict(models or {})
        for name in given:
            if name not in names:
                raise ValueError(f"models: {name!r} is none of {', '.join(names)}")
        return cls(
            models=tuple(given.get(name, name) for name in names),
            names=names,
            linears=linears,
            costs=costs,
            best=best,
            margins=margins,
            margin=margin,
            facts=facts,
        )


def choose(expected: Sequence[float], costs: Sequence[float], margin: float) -> int:
    """The number of the cheapest model within the margin; of equally cheap ones the better."""
    least = max(expected) - margin
    within = (i for i, quality in enumerate(expected) if quality >= least)
    return min(within, key=lambda i: (costs[i], -expected[i]))


def _came_to(
    margin: float,
    expected: Sequence[Sequence[float]],
    quality: Sequence[Sequence[float]],
    costs: Sequence[float],
    best: int,
) -> Margin:
    picks = [best if margin == SINGLE else choose(row, costs, margin) for row in expected]
    got, reference = [row[i] for row, i in zip(quality, picks, strict=True)], [row[best] for row in quality]
    n, total = len(got), sum(reference)
    share = sum(got) / total
    variance = sum((g - share * r) ** 2 for g, r in zip(got, reference, strict=True)) / n
    half = half_width(variance, n) * n / total if any(i != best for i in picks) else 0.0
    spend = sum(costs[i] for i in picks) / (n * costs[best]) if costs[best] else 1.0
    return Margin(margin=margin, quality=share, low=share - half, high=share + half, spend=spend)


def _cost(name: str, records: Sequence[Record], costs: Mapping[str, float]) -> float:
    known = [record.cost[name] for record in records if name in record.cost]
    if name not in costs and not known:
        raise ValueError(f"cost: not known of {name!r}; record it, or give costs={{{name!r}: dollars}}")
    cost = costs[name] if name in costs else sum(known) / len(known)
    if not isinstance(cost, (int, float)) or not 0 <= cost < float("inf"):
        raise ValueError(f"costs.{name}: {cost!r} must be dollars, 0 or more")
    return float(cost)
