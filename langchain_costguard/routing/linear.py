"""Linear models of what a prompt looks like: one, and many at once."""

from __future__ import annotations

import math
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

from langchain_costguard.routing.features import BUCKETS, SHAPES, Look, spelt

_SHAPE_WEIGHT = 0.5 / math.sqrt(len(SHAPES))
_SIGN = 0x8000
_FIELD = 4
"""Bytes of a model's field in a row: the sum of some thousand weights of 16 bits fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear model of the features. ``weights`` are of the buckets, in steps of ``step``.

    ``shape`` are weights of the shape's figures, less ``mean`` and in units of ``spread``; ``dense`` are weights of an
    embedding, empty where it was trained without one.
    """

    weights: array[int]
    step: float
    shape: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[float]
    bias: float
    dense: Sequence[float] = ()

    def score(self, seen: Look, vector: Sequence[float] = ()) -> float:
        """The prediction."""
        weights = self.weights
        total: float = self.bias + sum(map(mul, self.shape, standard(seen.shape, self.mean, self.spread)))
        if seen.buckets:
            total += sum(map(weights.__getitem__, seen.buckets)) * self.step / math.sqrt(len(seen.buckets))
        if seen.offered:
            total += sum(map(weights.__getitem__, seen.offered.values())) * self.step / math.sqrt(len(seen.offered))
        if self.dense:
            total += sum(map(mul, self.dense, _sized(vector, self.dense)))
        return total

    def parts(self, seen: Look, vector: Sequence[float] = ()) -> dict[str, float]:
        """What each word, pair of words and figure of the shape adds; their sum is the score.

        "(any prompt)" is what there is before a prompt is looked at. Words of one bucket count once, as the first.
        """
        shape = zip(SHAPES, self.shape, standard(seen.shape, self.mean, self.spread), strict=True)
        told = {"(any prompt)": self.bias, **{f"({name})": weight * value for name, weight, value in shape}}
        unit = self.step / math.sqrt(len(seen.buckets) or 1)
        names: dict[int, str] = {}
        for name, bucket in spelt(seen.words):
            names.setdefault(bucket, name)
        for bucket, name in names.items():
            told[name] = told.get(name, 0.0) + self.weights[bucket] * unit
        each = self.step / math.sqrt(len(seen.offered) or 1)
        told |= {f"({name})": self.weights[bucket] * each for name, bucket in seen.offered.items()}
        if self.dense:
            told["(embedding)"] = sum(map(mul, self.dense, _sized(vector, self.dense)))
        return told

    def packed(self) -> dict[str, Any]:
        """As JSON."""
        words = {"step": self.step, "weights": b64encode(_little(self.weights).tobytes()).decode()}
        other = {
            name: [float(f"{v:.6g}") for v in getattr(self, name)] for name in ("shape", "mean", "spread", "dense")
        }
        return {**words, **other, "bias": self.bias}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> Linear:
        """From JSON; ValueError where it is none of ours."""
        try:
            weights = array("h", b64decode(packed["weights"], validate=True))
            lists = {name: tuple(map(float, packed[name])) for name in ("shape", "mean", "spread", "dense")}
            made = cls(weights=_little(weights), step=float(packed["step"]), bias=float(packed["bias"]), **lists)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"weights: unreadable ({type(error).__name__}: {error})") from None
        figures = (made.step, made.bias, *made.shape, *made.mean, *made.spread, *made.dense)
        if len(weights) != BUCKETS or any(len(lists[n]) != len(SHAPES) for n in ("shape", "mean", "spread")):
            raise ValueError("weights: they are of other features than this version reads; train again")
        if not all(map(math.isfinite, figures)) or not all(made.spread):
            raise ValueError("weights: not all of them are numbers")
        return made


class Stack:
    """Linear models that were trained together, scored at once: of thirty, in the time that three take one by one.

    A bucket's weights in all models are one large integer, a field for each, so that adding two integers adds all.
    """

    def __init__(self, linears: Sequence[Linear]) -> None:
        self.linears = tuple(linears)
        count = len(linears)
        if len({(tuple(one.mean), tuple(one.spread), len(one.dense)) for one in linears}) != 1:
            raise ValueError("linears: they were not trained together")
        cells = array("I", bytes(_FIELD * count * BUCKETS))
        lift = int.from_bytes(_SIGN.to_bytes(2, sys.byteorder) * BUCKETS, sys.byteorder)
        for number, one in enumerate(linears):
            # A weight of 16 bits with its sign turned is the weight plus 32,768: none is below zero.
            lifted = int.from_bytes(one.weights.tobytes(), sys.byteorder) ^ lift
            cells[number::count] = array("I", array("H", lifted.to_bytes(2 * BUCKETS, sys.byteorder)))
        raw, size = cells.tobytes(), _FIELD * count
        self._rows = [int.from_bytes(raw[at : at + size], sys.byteorder) for at in range(0, len(raw), size)]

    def scores(self, seen: Look, vector: Sequence[float] = ()) -> list[float]:
        """Each model's prediction."""
        first = self.linears[0]
        shape = standard(seen.shape, first.mean, first.spread)
        totals = [one.bias + sum(map(mul, one.shape, shape)) for one in self.linears]
        for buckets in (seen.buckets, seen.offered.values()):
            if buckets:
                scale, lift = 1 / math.sqrt(len(buckets)), _SIGN * len(buckets)
                sums = self._sums(buckets)
                totals = [
                    total + (many - lift) * one.step * scale
                    for total, many, one in zip(totals, sums, self.linears, strict=True)
                ]
        if first.dense:
            sized = _sized(vector, first.dense)
            totals = [total + sum(map(mul, one.dense, sized)) for total, one in zip(totals, self.linears, strict=True)]
        return totals

    def _sums(self, buckets: Any) -> array[int]:
        whole = sum(map(self._rows.__getitem__, buckets))
        return array("I", whole.to_bytes(_FIELD * len(self.linears), sys.byteorder))


def standard(shape: Sequence[float], mean: Sequence[float], spread: Sequence[float]) -> list[float]:
    """A shape less the mean, in spreads, cut at three of them, as heavy as the model takes it."""
    return [
        _SHAPE_WEIGHT * (3.0 if z > 3 else -3.0 if z < -3 else z)
        for z in [(v - m) / s for v, m, s in zip(shape, mean, spread, strict=True)]
    ]


def _sized(vector: Sequence[float], weights: Sequence[float]) -> Sequence[float]:
    if len(vector) != len(weights):
        raise ValueError(f"embeddings: {len(vector)} numbers, but it was trained with {len(weights)}")
    return vector


def _little(values: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return values
    turned = values[:]
    turned.byteswap()
    return turned
