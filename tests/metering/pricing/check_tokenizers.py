"""Tokenizers of other families, with vocabularies made here or shipped: run by ``.ci/extended tokenizers``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from google.genai import _local_tokenizer_loader as loader
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from langchain_costguard import CostGuard, ModelRef
from langchain_costguard.cli import main
from langchain_costguard.metering.pricing.families import family_of
from langchain_costguard.metering.pricing.tokenizers import gemini_counter, huggingface_counter, mistral_counter
from tests.loopback import Listener

TEXT = "Which berth is free for my boat today, and which one tomorrow?"
WORDS = 14
CHAT: list[BaseMessage] = [
    HumanMessage(TEXT),
    AIMessage("", tool_calls=[{"name": "look", "args": {"page": "free berth"}, "id": "c1"}]),
    ToolMessage(TEXT, tool_call_id="c1"),
]


@pytest.fixture
def tokenizer_json(tmp_path: Path) -> str:
    """A tokenizer of whole words."""
    made = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def around(model: str, calls: int = 0) -> float:
    """What a chat of one message adds to its text."""
    family = family_of(model)
    return family.base + family.per_message + calls * family.per_call


def test_a_tokenizer_file_counts_the_words_and_the_family_the_rest(tokenizer_json: str) -> None:
    count = huggingface_counter(tokenizer_json, "llama-3.3-70b")
    assert count([HumanMessage(TEXT)]) == round(WORDS + around("llama-3.3-70b"))
    assert count(CHAT) > 2 * WORDS + 4
    guard = CostGuard(counters={"llama-*": count})
    assert guard.estimator.estimate(ModelRef("groq", "llama-3.3-70b"), CHAT).tokens == count(CHAT)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", "utf-8")
    for name in ("broken.json", "none.json"):
        with pytest.raises(ValueError, match=rf"^tokenizer: .*{name}"):
            huggingface_counter(str(tmp_path / name))


@pytest.mark.parametrize("model", ["open-mistral-7b", "mistral-large-latest"])
def test_mistral_s_own_vocabulary_is_the_one_that_counts(model: str) -> None:
    made: Any = MistralTokenizer.v1() if "7b" in model else MistralTokenizer.v3(is_tekken=True)
    own = made.instruct_tokenizer.tokenizer.encode(TEXT, bos=False, eos=False)
    assert mistral_counter(model)([HumanMessage(TEXT)]) == round(len(own) + around(model))


@pytest.fixture
def gemma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], sentencepiece.SentencePieceProcessor]:
    """A small vocabulary where google-genai looks for Gemma's: on a server here, or one that is gone."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where it keeps what it has fetched

    def serve(there: bool) -> sentencepiece.SentencePieceProcessor:
        (tmp_path / "text").write_text("\n".join(f"{TEXT} {n}" for n in range(50)), "utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "text"), model_prefix=str(tmp_path / "m"), vocab_size=40, minloglevel=2
        )
        made = (tmp_path / "m.model").read_bytes()
        handler: Any = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        server = Listener(handler)
        config = loader._TokenizerConfig(model_url=f"{server.url}/m.model", model_hash=hashlib.sha256(made).hexdigest())
        monkeypatch.setitem(loader._TOKENIZERS, "gemma3", config)
        loader.get_sentencepiece.cache_clear()
        loader.load_model_proto.cache_clear()
        if not there:
            server.close()
        return sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))

    return serve


def test_gemini_is_counted_by_google_s_local_tokenizer(gemma: Any) -> None:
    own = gemma(True)
    count = gemini_counter("gemini-2.5-flash")
    assert count([HumanMessage(TEXT)]) == pytest.approx(len(own.encode(TEXT)) + around("gemini-2.5-flash"), abs=1)


def test_a_vocabulary_that_cannot_be_fetched_is_told_beside_the_other_counters(
    gemma: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gemma(False)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "prompt.txt").write_text(TEXT, "utf-8")
    assert main(["tokens", str(tmp_path / "prompt.txt"), "--model", "gemini-2.5-flash", "--online"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "google-genai" in line]
    assert rows[0][2] == "-"
    assert "ConnectionError" in rows[0][3]


def test_each_counter_at_hand_is_a_row(
    tokenizer_json: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "prompt.txt").write_text(TEXT, "utf-8")
    words = ["--model", "mistral-large-latest", "--tokenizer", tokenizer_json]
    assert main(["tokens", str(tmp_path / "prompt.txt"), *words]) == 0
    shown = capsys.readouterr().out
    for name in ("estimate (mistral", "tokenizers", "mistral-common", "LangChain, approximately"):
        assert name in shown
