"""Training a router: ridge regression of the features of records. It needs numpy."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_costguard.routing.features import BUCKETS, Look, look
from langchain_costguard.routing.linear import Linear, standard
from langchain_costguard.routing.records import Record

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST = 50
"""Records below which nothing is learnt."""
FOLDS = 5
_SHRINK = 10.0
"""The ridge. A record's words weigh 1 together, so this is in records; from 5 to 30 little changes."""
_EXACT = 2000
"""Rows up to which the equations are solved in one go."""


def check(records: Sequence[Record]) -> None:
    """Raise ValueError where there are too few records to learn from."""
    if not records:
        raise ValueError("records: there are none")
    if len(records) < LEAST:
        raise ValueError(f"records: {len(records)} are too few to learn from; {LEAST} or more are needed")


def vectors_of(prompts: Sequence[str], embeddings: Embeddings | None) -> list[list[float]]:
    """The prompts' embeddings; nothing where there is no model for them."""
    return embeddings.embed_documents(list(prompts)) if embeddings is not None else []


@dataclass(frozen=True, slots=True)
class Table:
    """Records as numbers: a row of each, with its words, its shape and its embedding."""

    looks: list[Look]
    vectors: Sequence[Sequence[float]] = ()

    @classmethod
    def of(cls, records: Iterable[Record], vectors: Sequence[Sequence[float]] = ()) -> Table:
        """Look at every record."""
        return cls([look(record.prompt, record.tools) for record in records], vectors)

    def take(self, rows: Sequence[int]) -> Table:
        """Some of its rows."""
        return Table([self.looks[i] for i in rows], [self.vectors[i] for i in rows] if len(self.vectors) else ())

    def scores(self, model: Linear) -> list[float]:
        """What a model predicts for each row."""
        vectors = self.vectors if len(self.vectors) else [()] * len(self.looks)
        return [model.score(seen, vector) for seen, vector in zip(self.looks, vectors, strict=True)]


def fit(table: Table, targets: Sequence[Sequence[float]]) -> list[Linear]:
    """A model of each list of targets, by ridge regression.

    Raises:
        ImportError: numpy is not installed.
    """
    np = _numpy()
    shapes = np.array([seen.shape for seen in table.looks])
    mean, spread = shapes.mean(0), np.maximum(shapes.std(0), 1e-6)
    shape = np.array([standard(one, mean.tolist(), spread.tolist()) for one in shapes.tolist()])
    dense = np.hstack([shape, np.array(table.vectors, dtype=float)]) if len(table.vectors) else shape
    middle = dense.mean(0)
    words = _Words(table.looks)
    wanted = np.array(targets, dtype=float)
    means = wanted.mean(1)
    solve = _exact if len(table.looks) <= _EXACT else _iterated
    found = solve(words, dense - middle, wanted - means[:, None])
    made = []
    for w, level in zip(found, means, strict=True):
        bias = float(level - words.forward(w).mean() - middle @ w[BUCKETS:])
        made.append(_linear(w, bias, mean.tolist(), spread.tolist()))
    return made


def worth(
    table: Table, targets: Sequence[Sequence[float]], *, seed: int = 0, apart: bool = False
) -> tuple[Table, list[list[float]]]:
    """The table without its embeddings, unless with them the error on rows not trained on is less by more than chance
    (its standard error); and what was predicted so. The simpler of two models that do not differ is the better one.

    ``apart`` counts the errors of what the last target is more than each other one, which is what a choice between them
    goes by: that a prompt is hard for all alike tells it nothing.
    """
    plain = Table(table.looks)
    without = crossfit(plain, targets, seed=seed)
    if not len(table.vectors):
        return plain, without
    given = crossfit(table, targets, seed=seed)
    wrong = [_errors(predicted, targets, apart=apart) for predicted in (without, given)]
    saved = [one - other for one, other in zip(*wrong, strict=True)]
    mean = sum(saved) / len(saved)
    error = math.sqrt(sum((value - mean) ** 2 for value in saved)) / len(saved)
    return (table, given) if mean > error else (plain, without)


def _errors(predicted: Sequence[Sequence[float]], targets: Sequence[Sequence[float]], *, apart: bool) -> list[float]:
    """The squared error of each row, all targets together."""
    off = [[p - t for p, t in zip(*pair, strict=True)] for pair in zip(predicted, targets, strict=True)]
    if apart and len(off) > 1:
        off = [[last - one for last, one in zip(off[-1], each, strict=True)] for each in off[:-1]]
    return [sum(value * value for value in row) for row in zip(*off, strict=True)]


def _linear(w: Floats, bias: float, mean: Sequence[float], spread: Sequence[float]) -> Linear:
    np = _numpy()
    step = float(np.abs(w[:BUCKETS]).max()) / 32767 or 1e-9
    cut = BUCKETS + len(mean)
    return Linear(
        weights=array("h", np.rint(w[:BUCKETS] / step).astype(np.int16).tobytes()),
        step=step,
        shape=tuple(w[BUCKETS:cut].tolist()),
        mean=tuple(mean),
        spread=tuple(spread),
        bias=bias,
        dense=tuple(w[cut:].tolist()),
    )


class _Words:
    """The words of all rows, as the matrix of which few cells are not 0. A row's words weigh 1 together."""

    def __init__(self, looks: Sequence[Look]) -> None:
        np = _numpy()
        self.rows = np.array([i for i, seen in enumerate(looks) for _ in (*seen.buckets, *seen.offered)], dtype=int)
        self.columns = np.array([b for seen in looks for b in (*seen.buckets, *seen.offered.values())], dtype=int)
        weights = [1 / math.sqrt(len(part)) for seen in looks for part in (seen.buckets, seen.offered) for _ in part]
        self.values = np.array(weights, dtype=float)
        self.count = len(looks)

    def forward(self, w: Floats) -> Floats:
        found: Floats = _numpy().bincount(self.rows, self.values * w[self.columns], minlength=self.count)
        return found

    def back(self, u: Floats) -> Floats:
        found: Floats = _numpy().bincount(self.columns, self.values * u[self.rows], minlength=BUCKETS)
        return found


def _exact(words: _Words, dense: Floats, targets: Floats) -> Floats:
    """Solved in the space of the rows, at once for all targets."""
    np = _numpy()
    used, places = np.unique(words.columns, return_inverse=True)
    cells = np.zeros((words.count, len(used)), dtype=np.float32)
    np.add.at(cells, (words.rows, places), words.values)
    kernel = (cells @ cells.T).astype(float) + dense @ dense.T
    rows = np.linalg.solve(kernel + _SHRINK * np.eye(words.count), targets.T).T
    found: Floats = np.array([np.concatenate([words.back(u), dense.T @ u]) for u in rows])
    return found


def _iterated(words: _Words, dense: Floats, targets: Floats) -> Floats:
    """By conjugate gradients: no matrix is built, so that many rows fit."""
    np = _numpy()

    def matrix(w: Floats) -> Floats:
        u = words.forward(w) + dense @ w[BUCKETS:]
        image: Floats = np.concatenate([words.back(u), dense.T @ u]) + _SHRINK * w
        return image

    found: Floats = np.array([_solve(matrix, np.concatenate([words.back(y), dense.T @ y])) for y in targets])
    return found


def crossfit(table: Table, targets: Sequence[Sequence[float]], *, seed: int = 0) -> list[list[float]]:
    """What models of each list of targets predict for rows that they were not trained on."""
    import random

    order = list(range(len(table.looks)))
    random.Random(seed).shuffle(order)
    found = [[0.0] * len(order) for _ in targets]
    for fold in range(FOLDS):
        kept, tested = [row for i, row in enumerate(order) if i % FOLDS != fold], order[fold::FOLDS]
        part = table.take(tested)
        for scores, model in zip(found, fit(table.take(kept), [[t[i] for i in kept] for t in targets]), strict=True):
            for row, score in zip(tested, part.scores(model), strict=True):
                scores[row] = score
    return found


def _solve(matrix: Callable[[Floats], Floats], right: Floats) -> Floats:
    """Conjugate gradients: the matrix is never built."""
    np = _numpy()
    x: Floats = np.zeros_like(right)
    residue = right.copy()
    way, size = residue.copy(), float(right @ right)
    least = size * 1e-8
    for _ in range(100):
        if size <= least:
            break
        image = matrix(way)
        pace = size / float(way @ image)
        x += pace * way
        residue -= pace * image
        size, before = float(residue @ residue), size
        way = residue + size / before * way
    return x


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise ImportError("training a router needs numpy: pip install numpy") from None
    return numpy
