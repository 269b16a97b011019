"""Vertex AI: its client speaks REST where it waits, and gRPC alone on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from tests.clients.case import Case
from tests.clients.own import GEMINI_BILL, THOUGHT, gemini


def vertexai(url: str) -> Any:
    """The client with its own REST transport; on a loop with that for gRPC, to a server that speaks it."""
    vertex, auth = pytest.importorskip("langchain_google_vertexai"), pytest.importorskip("google.auth.credentials")
    return vertex.ChatVertexAI(
        model="gemini-2.5-flash", project="p", location="us-central1", api_transport="rest", api_endpoint=url,
        credentials=auth.AnonymousCredentials(), max_retries=1, **_on_a_loop(),
    )  # fmt: skip


def _on_a_loop() -> dict[str, Any]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return {}
    import grpc
    from google.cloud.aiplatform_v1beta1.services.prediction_service import PredictionServiceAsyncClient as Client

    transport = Client.get_transport_class("grpc_asyncio")
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{_speaking_grpc()}")
    return {"async_client": Client(transport=transport(channel=channel))}


@cache
def _speaking_grpc() -> int:
    """The port of a server that answers Vertex's two calls as its protocol buffers say; it lives as long as this
    process."""
    import grpc
    from google.cloud.aiplatform_v1beta1.types import GenerateContentRequest, GenerateContentResponse

    answer = GenerateContentResponse.from_json(gemini()({})[1], ignore_unknown_fields=True)

    def streamed(request: Any, context: Any) -> Iterator[Any]:
        yield answer

    words = {
        "request_deserializer": GenerateContentRequest.deserialize,
        "response_serializer": GenerateContentResponse.serialize,
    }
    methods = {
        "GenerateContent": grpc.unary_unary_rpc_method_handler(lambda request, context: answer, **words),
        "StreamGenerateContent": grpc.unary_stream_rpc_method_handler(streamed, **words),
    }
    service = "google.cloud.aiplatform.v1beta1.PredictionService"
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _servers.append(server)
    return port


_servers: list[Any] = []
"""Kept: a server that nobody holds stops."""

CASES = {"google_vertexai": Case(vertexai, gemini(listed=True), THOUGHT, GEMINI_BILL)}
