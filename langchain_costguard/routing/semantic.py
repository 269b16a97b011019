"""Routing by likeness: each route is a few utterances, and a prompt like none of them goes to the default.

A prompt goes to the route whose mean utterance is nearest, if it is near enough: ``likeness.py`` has the measure, and
how the thresholds are learnt.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings

from langchain_costguard.observe.files import written
from langchain_costguard.routing.likeness import fit, scores, squares, unit
from langchain_costguard.routing.route import Route, RouteRequest
from langchain_costguard.routing.tiers import Spec, checked_model, dearest, distinct

_FORMAT = 1
_MARK = {"costguard": "semantic router"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """A route: the model, and utterances that should go to it; ten tell well, two are the least.

    Raises:
        ValueError: names the field and the value.
    """

    model: Spec
    utterances: Sequence[str]

    def __post_init__(self) -> None:
        checked_model("model", self.model)
        said = self.utterances
        if isinstance(said, str) or not isinstance(said, Sequence):
            raise ValueError(f"utterances: {said!r} must be a list of texts")
        for each in said:
            if not isinstance(each, str) or not each.strip():
                raise ValueError(f"utterances: {each!r} must be a text, and not empty")
        if len({each.strip().lower() for each in said}) < 2:
            raise ValueError(f"utterances: {said!r} are too few: give two different ones at least, better ten")


class SemanticRouter:
    """The model of the route whose utterances the user's last message is like, or the default.

    Embeds all utterances when constructed; ``save`` and ``load`` spare that. Embedding errors are raised.

    Args:
        routes: ``{"billing": Examples(model="openai:gpt-5-mini", utterances=["Where is my invoice?", ...])}``.
        embeddings: Embeds the utterances, and each prompt.
        default: The model of what is like no route.
        reject: The share of a route's own kind of prompts that may go to the default; less of it rejects less of
            what belongs to no route.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        routes: Mapping[str, Examples],
        *,
        embeddings: Embeddings,
        default: Spec,
        reject: float = 0.05,
    ) -> None:
        if not isinstance(routes, Mapping) or not routes:
            raise ValueError(f"routes: {routes!r} must map names to Examples")
        for name, examples in routes.items():
            if not isinstance(name, str) or not name.strip() or not isinstance(examples, Examples):
                raise ValueError(f"routes[{name!r}]: {examples!r} must be Examples, under a name")
        if isinstance(reject, bool) or not isinstance(reject, (int, float)) or not 0 < reject <= 0.5:
            raise ValueError(f"reject: {reject!r} must be a share above 0, at most 0.5")
        _check_apart(routes)
        self._set({name: examples.model for name, examples in routes.items()}, embeddings, default)
        texts = [text for examples in routes.values() for text in examples.utterances]
        owners = [index for index, examples in enumerate(routes.values()) for _ in examples.utterances]
        self._index = fit(unit(embeddings.embed_documents(texts), texts), owners, float(reject))

    def __call__(self, request: RouteRequest) -> Route:
        """The model for the user's last message."""
        prompt = request.prompt
        return self.choose(self.embeddings.embed_query(prompt)) if prompt.strip() else self._silent()

    async def aroute(self, request: RouteRequest) -> Route:
        """The same, by the embeddings' asynchronous side."""
        prompt = request.prompt
        return self.choose(await self.embeddings.aembed_query(prompt)) if prompt.strip() else self._silent()

    def choose(self, vector: Sequence[float]) -> Route:
        """The model for a prompt by its embedding. Its score is how far above the route's threshold it is.

        Raises:
            ValueError: the embedding is of another size than those of the utterances, or no direction.
        """
        index = self._index
        x = unit([vector], ["the prompt"])[0]
        if x.size != index["means"].shape[1]:
            raise ValueError(f"vector: {x.size} numbers, but the utterances' embeddings have {index['means'].shape[1]}")
        distances = squares(index, x)
        nearest = int(distances.argmin())
        score = float(scores(distances[None, :], [nearest])[0] - index["thresholds"][nearest])
        score /= float(index["spread"])
        name = self._names[nearest]
        if score < 0:
            why = f"the prompt is like no route's utterances; {name} is the nearest"
            return Route(self.default, why, score, self._dearest)
        return Route(self.routes[name], f"the prompt is like the utterances of {name}", score, self._dearest)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the index to a file (numpy's ``.npz``): no utterance, but the names of models given by name.

        Raises:
            ValueError: a file is in the place that ``save`` did not write (unless ``force``), or a link is.
        """
        import numpy as np

        models = {name: model if isinstance(model, str) else None for name, model in self.routes.items()}
        default = self.default if isinstance(self.default, str) else None
        told = json.dumps({**_MARK, "format": _FORMAT, "routes": models, "default": default})
        file = io.BytesIO()
        np.savez(file, told=np.array(told.encode("ascii")), **self._index)
        written(path, file.getvalue(), mark=json.dumps(_MARK)[1:-1], force=force)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        embeddings: Embeddings,
        models: Mapping[str, Spec] | None = None,
        default: Spec | None = None,
    ) -> SemanticRouter:
        """A router from a saved index. The embeddings must be those of the index: nobody can check that they are.

        Args:
            path: What ``save`` wrote.
            embeddings: Embeds each prompt.
            models: Models by route, where they were instances or should be others.
            default: The default model, likewise.

        Raises:
            ValueError: the file is no index, or a route has no model.
        """
        told, index = _read(path)
        unknown = (models or {}).keys() - told["routes"].keys()
        if unknown:
            raise ValueError(f"models: the index has no route {min(unknown)!r}")
        router = cls.__new__(cls)
        chosen = {**told["routes"], **(models or {})}
        router._set(chosen, embeddings, told["default"] if default is None else default)
        router._index = index
        return router

    @cached_property
    def models(self) -> tuple[Spec, ...]:
        """All that may be chosen."""
        return distinct([*self.routes.values(), self.default])

    @cached_property
    def _dearest(self) -> Spec | None:
        return dearest(self.models)

    def _set(self, routes: Mapping[str, Any], embeddings: Embeddings, default: Any) -> None:
        if not hasattr(embeddings, "embed_query"):
            raise ValueError(f"embeddings: {embeddings!r} must be LangChain embeddings")
        self.routes: dict[str, Spec] = {n: checked_model(f"models[{n!r}]", model) for n, model in routes.items()}
        self.default: Spec = checked_model("default", default)
        self.embeddings = embeddings
        self._names = tuple(routes)

    def _silent(self) -> Route:
        return Route(self.default, "the prompt has no text to be judged by", None, self._dearest)


def _check_apart(routes: Mapping[str, Examples]) -> None:
    owner: dict[str, str] = {}
    for name, examples in routes.items():
        for text in examples.utterances:
            other = owner.setdefault(text.strip().lower(), name)
            if other != name:
                raise ValueError(f"routes: {text!r} is an utterance of {other!r} and of {name!r}")


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import numpy as np

    try:
        with np.load(Path(path), allow_pickle=False) as file:
            index = {name: file[name] for name in file.files}
        told = json.loads(index.pop("told").item())
        shape = index["means"].shape
        fits = len(told["routes"]) == shape[0] == index["thresholds"].size == index["offsets"].size
        if told["format"] != _FORMAT or not fits or index["damped"].shape[1] != shape[1] or "floor" not in index:
            raise ValueError("of another version, or cut short")
        told["default"], float(index["spread"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"path: {str(path)!r} is no index of a SemanticRouter: {error}") from None
    return told, index
