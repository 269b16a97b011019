"""The real OpenAIEmbeddings against the fake provider."""

import asyncio
import math

import openai
import pytest

from langchain_costguard.testing import FakeProvider, Reply


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_documents_and_queries_are_embedded_sync_and_async():
    texts = ["the cat sat on the mat", "quarterly revenue grew"]
    with FakeProvider() as provider:
        embeddings = provider.embeddings()
        vectors = embeddings.embed_documents(texts)

        assert asyncio.run(embeddings.aembed_documents(texts)) == vectors
        assert embeddings.embed_query(texts[0]) == asyncio.run(embeddings.aembed_query(texts[0])) == vectors[0]
        assert provider.usage().input_tokens == 2 * (6 + 3) + 2 * 6
        assert provider.usage().output_tokens == 0


def test_texts_that_share_words_are_close_and_vectors_have_length_one():
    with FakeProvider() as provider:
        near, close, far = provider.embeddings().embed_documents(
            ["what is the refund policy", "what is your refund policy", "books about sailing"]
        )

        assert _dot(near, close) > 0.7 > 0.2 > _dot(near, far)
        assert math.isclose(_dot(near, near), 1, rel_tol=1e-5)


def test_dimensions_and_the_model_are_as_asked():
    with FakeProvider() as provider:
        vector = provider.embeddings(model="text-embedding-3-large", dimensions=32).embed_query("hi")

        assert len(vector) == 32
        assert provider.requests[0].model == "text-embedding-3-large"


def test_embeddings_leave_the_script_of_the_chat_model_alone():
    with FakeProvider(["first", "second"], embedding=Reply(input_tokens=77)) as provider:
        model, embeddings = provider.openai(), provider.embeddings()

        assert model.invoke("hi").content == "first"
        embeddings.embed_query("hi")
        assert model.invoke("hi").content == "second"
        assert provider.requests[1].usage.input_tokens == 77


def test_embeddings_can_be_told_to_fail():
    with FakeProvider(embedding=Reply(status=429)) as provider, pytest.raises(openai.RateLimitError):
        provider.embeddings().embed_query("hi")
