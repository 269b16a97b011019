"""Counters of input tokens by the tokenizers themselves, where a family's can be had: for ``CostGuard(counters=...)``.

| family | tokenizer | what it needs |
|---|---|---|
| OpenAI | tiktoken, used without being asked | its vocabulary, once (``TIKTOKEN_CACHE_DIR``) |
| Anthropic | the ``count_tokens`` endpoint: ``AnthropicCounter`` | the network; nothing is published |
| Gemini | ``gemini_counter``: google-genai's ``LocalTokenizer`` | google-genai, sentencepiece, a download |
| Mistral | ``mistral_counter``: mistral-common | mistral-common, which ships the vocabularies |
| Llama, Qwen and others | ``huggingface_counter``: a ``tokenizer.json`` | tokenizers, and that file |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from langchain_costguard.metering.pricing.blocks import as_json, count_blocks
from langchain_costguard.metering.pricing.families import Family, family_of

if TYPE_CHECKING:
    from langchain_costguard.metering.pricing.estimate import TokenCounter

_REMEMBERED = 2_000


class TextTokenizer:
    """A counter by a tokenizer of texts. What a chat adds to each message and call (ChatML's marks and the like) is
    that of the model's family.

    Attributes:
        error: The stated error: a share of the count. The text is exact; the marks around it are the family's.
    """

    error = 0.03

    def __init__(self, name: str, count: Callable[[str], int], model: str) -> None:
        self.name = name
        self._count = count
        self._family: Family = family_of(model)
        self._known: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __call__(self, messages: Sequence[BaseMessage]) -> int:
        """The tokens of a chat with these messages."""
        family, total = self._family, float(self._family.base)
        for message in messages:
            total += family.per_message
            content, calls = message.content, getattr(message, "tool_calls", None) or ()
            if isinstance(content, str):
                total += self._of(content)
            else:
                words, other = count_blocks(content, self._of, family.image, calls_counted=bool(calls))
                total += words + other
            for call in calls:
                total += family.per_call + self._of(str(call["name"])) + self._of(as_json(call["args"]))
        return round(total)

    def _of(self, text: str) -> int:
        tokens = self._known.get(text)
        if tokens is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            tokens = self._known[text] = self._count(text)
        return tokens


def huggingface_counter(tokenizer: str, model: str = "llama") -> TextTokenizer:
    """A counter by a ``tokenizer.json``, as models on the Hugging Face hub have it.

    Args:
        tokenizer: The path of the file.
        model: The model's name, for what a chat adds to its texts.

    Raises:
        ImportError: ``tokenizers`` is not installed.
        ValueError: the file cannot be read as one.
    """
    from tokenizers import Tokenizer

    try:
        read = Tokenizer.from_file(tokenizer)
    except Exception as error:  # its own errors are plain ones
        raise ValueError(f"tokenizer: {tokenizer!r} cannot be read: {error}") from None
    return TextTokenizer("tokenizers", lambda text: len(read.encode(text, add_special_tokens=False).ids), model)


def mistral_counter(model: str = "mistral-large-latest") -> TextTokenizer:
    """A counter by the vocabulary that mistral-common ships for the model (of the newest models, tekken: 4 s to load).

    Raises:
        ImportError: ``mistral-common`` is not installed.
    """
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    old = any(each in model for each in ("mistral-7b", "mixtral", "open-mistral-7b"))
    made: Any = MistralTokenizer.v1() if old else MistralTokenizer.v3(is_tekken=True)
    inner = made.instruct_tokenizer.tokenizer
    return TextTokenizer("mistral-common", lambda text: len(inner.encode(text, bos=False, eos=False)), model)


def gemini_counter(model: str = "gemini-2.5-flash") -> TextTokenizer:
    """A counter by google-genai's local tokenizer, which fetches its vocabulary once.

    Raises:
        ImportError: google-genai or sentencepiece is not installed.
    """
    from google.genai.local_tokenizer import LocalTokenizer

    made: Any = LocalTokenizer(model_name=model)
    return TextTokenizer("google-genai", lambda text: int(made.count_tokens(text).total_tokens), model)


class AnthropicCounter:
    """A counter by Anthropic's ``count_tokens`` endpoint: ``counters={"claude-*": AnthropicCounter(model)}``.

    A call never waits for it: a prompt that was not counted yet is estimated, and counted in the background for the
    next time. The endpoint is free, has a rate limit of its own, and counts neither what the provider adds in secret
    nor the tools, which are estimated. https://docs.anthropic.com/en/docs/build-with-claude/token-counting

    Args:
        model: A ``ChatAnthropic``: its key and address are used.
        timeout: Seconds that a count in the background may take.
        estimate: Counts until the endpoint has. Default: the family's estimate.
    """

    error = 0.01
    name = "count_tokens"

    def __init__(self, model: Any, *, timeout: float = 5.0, estimate: TokenCounter | None = None) -> None:
        from langchain_costguard.metering.pricing.estimate import Estimator
        from langchain_costguard.vocabulary.usage import ModelRef

        if not callable(getattr(model, "get_num_tokens_from_messages", None)):
            raise ValueError(f"model: {model!r} is no ChatAnthropic")
        ref, own = ModelRef("anthropic", str(getattr(model, "model", ""))), Estimator()
        self._estimate = estimate or (lambda messages: own.estimate(ref, messages).tokens)
        limited = {"default_request_timeout": timeout, "max_retries": 0}
        known = set(getattr(type(model), "model_fields", ()))
        self._model = model.model_copy(update={k: v for k, v in limited.items() if k in known})
        for cached in ("_client_params", "_client", "_async_client"):  # made once, with the old timeout in them
            self._model.__dict__.pop(cached, None)
        self._known: dict[tuple[int, ...], tuple[tuple[str, ...], int]] = {}
        self._asked: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()

    def __call__(self, messages: Sequence[BaseMessage]) -> int:
        """The tokens of a chat with these messages, as far as they are known."""
        texts = tuple(f"{m.type}\0{m.content}\0{getattr(m, 'tool_calls', '')}" for m in messages)
        key = tuple(map(hash, texts))
        known = self._known.get(key)
        if known is not None and known[0] == texts:
            return known[1]
        with self._lock:
            begin = key not in self._asked and bool(messages)
            self._asked.add(key)
        if begin:
            ask = (key, texts, list(messages))
            count = threading.Thread(target=self._ask, args=ask, name="costguard-count", daemon=True)
            try:
                count.start()
            except RuntimeError:  # no thread to be had, or the interpreter is ending
                with self._lock:
                    self._asked.discard(key)
        return self._estimate(messages)

    def count(self, messages: Sequence[BaseMessage]) -> int:
        """Ask the endpoint now, and wait for it. Raises what the client raises."""
        return int(self._model.get_num_tokens_from_messages(list(messages)))

    def _ask(self, key: tuple[int, ...], texts: tuple[str, ...], messages: list[BaseMessage]) -> None:
        try:
            tokens = self.count(messages)
        except Exception:  # the estimate stays; the next prompt asks again
            with self._lock:
                self._asked.discard(key)
            return
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
                self._asked.clear()
            self._known[key] = texts, tokens
