"""The models that a router or a cascade may choose, resolved once, and what each costs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel

from langchain_costguard.steering.requests import used_in
from langchain_costguard.vocabulary.usage import ModelRef, Usage

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_costguard.guard import CostGuard
    from langchain_costguard.metering.pricing.rates import Rates
    from langchain_costguard.steering.policies.retries import Retry

ASSUMED_OUTPUT = 256
"""Output tokens by which models are compared before the call."""

_VERSION = re.compile(r"[-@](20\d\d-?\d\d-?\d\d|\d{3,4}|latest)(-v\d+)?(:\d+)?")
"""What providers add to a model's name in their replies: ``gpt-4o`` answers as ``gpt-4o-2024-08-06``."""


class Fleet:
    """The models a router may choose: instances, or names that ``init_chat_model`` resolves, once each.

    Where steering tries failed calls again, by ``retry``, the models made from names do not do so themselves.

    Raises:
        ValueError: names the model that cannot be had.
    """

    def __init__(self, specs: Iterable[Any], guard: CostGuard, retry: Retry | None = None) -> None:
        self.guard = guard
        self.specs = tuple(specs)
        self._retried = retry is not None and retry.attempts > 1
        self._known: dict[str, BaseChatModel] = {}
        for spec in self.specs:
            self.model(spec)

    def model(self, spec: Any, field: str = "router") -> BaseChatModel:
        """The model a router means; an error names the ``field``."""
        if isinstance(spec, BaseChatModel):
            return spec
        if not isinstance(spec, str) or not spec:
            raise ValueError(f"{field}: {spec!r} is no model; give a name such as 'openai:gpt-5-mini', or a chat model")
        if spec not in self._known:
            self._known[spec] = _resolved(spec, field, retried=self._retried)
        return self._known[spec]

    def label(self, model: Any) -> str:
        """What a model is called by whoever gave it; by its own name where nobody did."""
        ref = ref_of(model)
        same = [spec for spec in self.specs if ref_of(self.model(spec)) == ref]
        named = [spec for spec in same if self.model(spec).name == model.name]
        return next(map(label, named or same), ref.name)

    def rates(self, model: Any) -> Rates:
        """What a model costs now, to compare it with others: by estimate where nobody knows, whatever the guard makes
        of calls to such a model."""
        book, ref, now = self.guard.meter.book, ref_of(model), self.guard.now()
        try:
            return book.quote(ref, now)
        except LookupError:
            return book.fallback(ref, now)

    def cost(self, model: Any, tokens: int, output: int = ASSUMED_OUTPUT) -> int:
        """Nano-USD that a call of so many tokens costs."""
        return self.rates(model).charge(Usage(input_tokens=tokens, output_tokens=output))

    def charge(self, model: Any, message: AIMessage | None) -> int:
        """Nano-USD that a model takes, or would have taken, for a reply; 0 where nobody knows what was used."""
        usage = used_in(message)
        return 0 if usage is None else self.rates(model).charge(usage)


def fleet_of(router: Any, guard: CostGuard, retry: Retry | None = None) -> Fleet:
    """The models of a router.

    Raises:
        ValueError: it is none, or names the model that cannot be had.
    """
    if not callable(router):
        raise ValueError(f"router: {router!r} must be callable: it takes a RouteRequest and returns a Route")
    return Fleet(getattr(router, "models", ()), guard, retry)


def ref_of(model: Any) -> ModelRef:
    """A model by its provider and name, as its own calls will report them."""
    params = model._get_ls_params()
    return ModelRef(params.get("ls_provider") or "", params.get("ls_model_name") or type(model).__name__)


def label(spec: Any) -> str:
    """What a model is called: the name it was given by, or one it was given itself, or the provider's."""
    return spec if isinstance(spec, str) else spec.name or ref_of(spec).name


def answers_as(model: Any, name: str) -> bool:
    """Whether replies of the model are by this name: its own, or its own with a version behind it."""
    own = ref_of(model).name
    return name.startswith(own) and (len(name) == len(own) or bool(_VERSION.fullmatch(name, len(own))))


def _resolved(spec: str, field: str, *, retried: bool) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError:
        raise ValueError(f"{field}: {spec!r} needs langchain to be resolved: pass a chat model instead") from None
    try:
        model = init_chat_model(spec)
        if retried and "max_retries" in type(model).model_fields:
            model = init_chat_model(spec, max_retries=0)
        return model
    except Exception as error:
        raise ValueError(f"{field}: {spec!r} cannot be had: {error}") from None
