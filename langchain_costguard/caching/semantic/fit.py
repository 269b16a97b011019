"""What a semantic cache has learnt from labelled pairs, how well it does, and its file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from langchain_costguard.caching.semantic.conflicts import VETOES, checked_vetoes
from langchain_costguard.caching.semantic.likeness import FEATURES, Likeness, Rarity
from langchain_costguard.observe.files import written

_FORMAT = 1
_FIGURES = ("precision", "low", "high", "recall", "threshold", "target", "pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What was learnt from pairs, and how well it does on pairs that it was not learnt from.

    Attributes:
        precision: The share of pairs at or above the threshold that ask the same.
        low, high: Its 95 % interval (Wilson's).
        recall: The share of the pairs that ask the same which are found.
        threshold: The least score of a hit, from 0 to 1.
        target: The precision that was asked for.
        pairs: How many pairs were used.
        likeness: The model of the score.
        vetoes: The checks that were on: what they veto counted as no hit.
    """

    precision: float
    low: float
    high: float
    recall: float
    threshold: float
    target: float
    pairs: int
    likeness: Likeness = field(repr=False)
    vetoes: tuple[str, ...] = field(default=tuple(VETOES), repr=False)

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.3f} ({self.low:.3f} to {self.high:.3f}) and recall {self.recall:.3f} "
            f"at a score of {self.threshold:.3f}, on {self.pairs} pairs, none scored by a model that had seen it"
        )

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write it as JSON: figures and checksums of words; no text of any prompt.

        Raises:
            ValueError: a file is in the place that ``save`` did not write (unless ``force``), or a link is.
        """
        one = self.likeness
        told = {
            "costguard semantic fit": _FORMAT,
            **{name: getattr(self, name) for name in _FIGURES},
            "vetoes": self.vetoes,
            "features": {
                name: [float(f"{value:.8g}") for value in row]
                for name, *row in zip(FEATURES, one.weights, one.mean, one.spread, strict=True)
            },
            "bias": one.bias,
            "rarity": {"total": one.rarity.total, "counts": sorted(one.rarity.counts.items())},
        }
        written(path, json.dumps(told) + "\n", mark='"costguard semantic fit"', force=force)

    @classmethod
    def load(cls, path: str | Path) -> Fit:
        """Read a file of ``save``.

        Raises:
            ValueError: it is no such file, or of another version.
        """
        try:
            told = json.loads(Path(path).read_text("utf-8"))
            if told["costguard semantic fit"] != _FORMAT or tuple(told["features"]) != FEATURES:
                raise ValueError("it is of another version; fit again")
            weights, mean, spread = (tuple(map(float, row)) for row in zip(*told["features"].values(), strict=True))
            counts = {int(key): int(count) for key, count in told["rarity"]["counts"]}
            likeness = Likeness(
                weights=weights,
                bias=float(told["bias"]),
                mean=mean,
                spread=spread,
                rarity=Rarity(int(told["rarity"]["total"]), counts),
            )
            if not all(map(math.isfinite, (*weights, *mean, likeness.bias))) or min(spread) <= 0:
                raise ValueError("not all of its figures are numbers")
            figures = {name: float(told[name]) for name in _FIGURES if name != "pairs"}
            return cls(**figures, pairs=int(told["pairs"]), likeness=likeness, vetoes=checked_vetoes(told["vetoes"]))
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"path: {str(path)!r} is no fit of a SemanticCache: {error}") from None
