"""A router of two tiers that has learnt from records when the weak model will do."""

from __future__ import annotations

import json
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_costguard.observe.files import written
from langchain_costguard.routing.calibration import Point, chosen, curve, read_point
from langchain_costguard.routing.explanation import Explanation
from langchain_costguard.routing.features import look
from langchain_costguard.routing.files import saved
from langchain_costguard.routing.linear import Linear
from langchain_costguard.routing.records import Record
from langchain_costguard.routing.route import Route, RouteRequest
from langchain_costguard.routing.training import Table, check, fit, vectors_of, worth

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

_VERSION = 2
_KNOWN = 2000
"""Prompts it was trained on whose checksums are kept, to tell records it has not seen from those it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierRouter:
    """Sends a prompt to the strong model where that is expected to be better by ``threshold`` or more.

    The score is the expected gain: the strong model's quality less the weak one's, from -1 to 1. Made by ``train`` or
    ``load``. ``points`` are what each threshold came to on records that the scores had not been learnt from.
    """

    weak: str | BaseChatModel
    strong: str | BaseChatModel
    names: tuple[str, str]
    linear: Linear
    points: tuple[Point, ...]
    point: Point
    facts: Mapping[str, Any] = field(default_factory=dict)
    known: frozenset[int] = frozenset()
    embeddings: Embeddings | None = None

    @property
    def models(self) -> tuple[str | BaseChatModel, str | BaseChatModel]:
        """All that it may choose."""
        return self.weak, self.strong

    @property
    def quick(self) -> bool:
        """Whether a choice is not worth a thread: an embedding would be."""
        return self.embeddings is None

    @property
    def threshold(self) -> float:
        """The score from which on a prompt goes to the strong model."""
        return self.point.threshold

    def __call__(self, request: RouteRequest) -> Route:
        """Choose."""
        score = self.score(request.prompt, request.tools)
        dear = score >= self.point.threshold
        model, side = (self.strong, "at least") if dear else (self.weak, "less than")
        limit = max(-1.0, min(1.0, self.point.threshold))
        why = (
            f"the strong model is expected to be {score:+.2f} better on such prompts, {side} the {limit:+.2f} asked for"
        )
        return Route(model, why, score, self.strong)

    def score(self, prompt: str, tools: Sequence[Any] = ()) -> float:
        """How much better the strong model is expected to be, from -1 to 1."""
        return max(-1.0, min(1.0, self.linear.score(look(prompt, tools), self._vector(prompt))))

    def explain(self, prompt: str, tools: Sequence[Any] = ()) -> Explanation:
        """What in the prompt speaks for the strong model (above zero), and what for the weak one."""
        parts = self.linear.parts(look(prompt, tools), self._vector(prompt))
        whole = sum(parts.values())
        score = max(-1.0, min(1.0, whole))
        if score != whole:
            parts["(no more than 1 is possible)"] = score - whole
        return Explanation(self.names[score >= self.threshold], score, self.threshold, parts)

    def calibrate(
        self,
        records: Sequence[Record] | None = None,
        *,
        target_quality: float | None = None,
        target_spend: float | None = None,
    ) -> ClassifierRouter:
        """A router with the threshold that keeps a promise: a share of what the strong model alone comes to.

        ``target_quality=0.95`` is the least spend at which, with 95 % confidence, the mean quality is that share of
        the strong model's; ``target_spend=0.4`` is the best quality of those that cost no more than that share. Without
        ``records`` it is measured on those of the training, by scores of models that had not seen them.

        Raises:
            ValueError: names what is wrong with the targets or the records, such as being those it was trained on.
        """
        points = self.points
        if records is not None:
            check(records)
            seen = sum(_sum(record.prompt) in self.known for record in records)
            if seen > min(len(records), len(self.known)) // 10:
                among = "" if self.facts.get("records", 0) <= _KNOWN else " or more"
                raise ValueError(
                    f"records: the router was trained on {seen}{among} of these {len(records)}; leave those out, or "
                    "calibrate(...) without records, which measures those of the training fairly"
                )
            prompts = [record.prompt for record in records]
            table = Table.of(records, vectors_of(prompts, self.embeddings) if self.linear.dense else ())
            points = _curve(table.scores(self.linear), records, self.names)
        point = chosen(points, target_quality=target_quality, target_spend=target_spend)
        return replace(self, points=points, point=point)

    def _vector(self, prompt: str) -> Sequence[float]:
        return self.embeddings.embed_query(prompt) if self.embeddings is not None and self.linear.dense else ()

    # Making

    @classmethod
    def train(
        cls,
        records: Sequence[Record],
        *,
        weak: str | None = None,
        strong: str | None = None,
        embeddings: Embeddings | None = None,
        seed: int = 0,
    ) -> ClassifierRouter:
        """Learn from records, and calibrate to 95 % of the strong model's quality.

        ``weak`` and ``strong`` name models of the records: where there are two, the cheaper one by the costs on record
        is the weak one, or without costs the one that is good less often. ``embeddings`` add what a prompt means, where
        that is found to be worth it on records not trained on, by more than a standard error; else they are left out.

        Raises:
            ValueError: there are too few records, they do not name the two models, or their qualities never differ.
            ImportError: numpy is not installed.
        """
        check(records)
        names = _tiers(records, weak, strong)
        kept = [record for record in records if names[0] in record.quality and names[1] in record.quality]
        check(kept)
        gains = [record.quality[names[1]] - record.quality[names[0]] for record in kept]
        if min(gains) == max(gains):
            raise ValueError(f"quality: {names[1]} is {gains[0]:+g} better in every record; there is nothing to learn")
        prompts = [record.prompt for record in kept]
        table, scores = worth(Table.of(kept, vectors_of(prompts, embeddings)), [gains], seed=seed)
        points = _curve(scores[0], kept, names)
        facts = {
            "records": len(kept),
            "left out": len(records) - len(kept),
            "quality": {n: sum(r.quality[n] for r in kept) / len(kept) for n in names},
            "costs known": all(n in r.cost for r in kept for n in names),
        }
        return cls(
            weak=names[0],
            strong=names[1],
            names=names,
            linear=fit(table, [gains])[0],
            points=points,
            point=chosen(points, target_quality=0.95),
            facts=facts,
            known=_known(prompts),
            embeddings=embeddings if len(table.vectors) else None,
        )

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write it as JSON: weights, curve and facts; nothing of any prompt but some checksums.

        Raises:
            ValueError: a file is in the place that ``save`` did not write (unless ``force``), or a link is.
        """
        known = b64encode(b"".join(n.to_bytes(4, "little") for n in sorted(self.known))).decode()
        told = {
            "costguard router": _VERSION,
            "models": {"weak": self.names[0], "strong": self.names[1]},
            "facts": self.facts,
            "point": asdict(self.point),
            "points": [[float(f"{value:.6g}") for value in asdict(point).values()] for point in self.points],
            "known": known,
            "linear": self.linear.packed(),
        }
        written(path, json.dumps(told) + "\n", mark='"costguard router"', force=force)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        models: Mapping[str, str | BaseChatModel] | None = None,
        embeddings: Embeddings | None = None,
    ) -> ClassifierRouter:
        """Read a file of ``save``; ``models`` says what "weak" and "strong" are, if not what the records called them.

        Raises:
            ValueError: it is no such file, or was trained with embeddings and none are given.
        """
        given = dict(models or {})
        if set(given) - {"weak", "strong"}:
            raise ValueError(f"models: {', '.join(map(repr, given))}: the tiers are 'weak' and 'strong'")
        with saved(path, "costguard router", _VERSION) as told:
            names = (str(told["models"]["weak"]), str(told["models"]["strong"]))
            linear = Linear.unpacked(told["linear"])
            points = tuple(read_point(row) for row in told["points"])
            point, facts = Point(**told["point"]), dict(told["facts"])
            known = array("B", b64decode(told["known"], validate=True)).tobytes()
        if linear.dense and embeddings is None:
            raise ValueError(f"{path}: it was trained with embeddings; give the same to load(embeddings=...)")
        return cls(
            weak=given.get("weak", names[0]),
            strong=given.get("strong", names[1]),
            names=names,
            linear=linear,
            points=points,
            point=point,
            facts=facts,
            known=frozenset(int.from_bytes(known[i : i + 4], "little") for i in range(0, len(known), 4)),
            embeddings=embeddings,
        )


def _sum(prompt: str) -> int:
    return zlib.crc32(prompt.encode("utf-8", "surrogatepass"))


def _known(prompts: Sequence[str]) -> frozenset[int]:
    sums = sorted(set(map(_sum, prompts)))
    return frozenset(sums[:: len(sums) // _KNOWN + 1])


def _curve(scores: Sequence[float], records: Sequence[Record], names: tuple[str, str]) -> tuple[Point, ...]:
    weak, strong = names
    for record in records:
        missing = [name for name in names if name not in record.quality]
        if missing:
            raise ValueError(f"quality: a record does not say it of {missing[0]!r}")
    known = all(name in record.cost for record in records for name in names)
    costs = [(record.cost[weak], record.cost[strong]) for record in records] if known else []
    within = [max(-1.0, min(1.0, score)) for score in scores]
    return curve(within, [r.quality[weak] for r in records], [r.quality[strong] for r in records], costs)


def _tiers(records: Sequence[Record], weak: str | None, strong: str | None) -> tuple[str, str]:
    """Which model is the weak one, and which the strong one."""
    seen = sorted({name for record in records for name in record.quality})
    for tier, name in (("weak", weak), ("strong", strong)):
        if name is not None and name not in seen:
            raise ValueError(f"{tier}: {name!r} is in no record; known: {', '.join(seen)}")
    if weak is not None and weak == strong:
        raise ValueError(f"weak, strong: {weak!r} cannot be both")
    left = [name for name in seen if name not in (weak, strong)]
    if len(left) + (weak is not None) + (strong is not None) > 2 and (weak is None or strong is None):
        raise ValueError(f"weak, strong: which two of {', '.join(seen)}?")
    if weak is not None and strong is not None:
        return weak, strong
    if weak is not None:
        return weak, left[0]
    if strong is not None:
        return left[0], strong

    def level(name: str, what: str) -> float:
        values = [getattr(r, what)[name] for r in records if name in getattr(r, what)]
        return sum(values) / len(values) if values else 0.0

    costs = {name: level(name, "cost") for name in seen}
    one, two = sorted(seen, key=lambda name: (costs[name], level(name, "quality")))
    return one, two
