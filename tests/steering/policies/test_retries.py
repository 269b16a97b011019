"""What class an error is of, and whether and when its call is made again: errors of real clients wherever possible."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any

import anthropic
import botocore.exceptions
import botocore.session
import httpx
import openai
import pydantic
import pytest
import requests
from botocore.config import Config
from google import genai
from google.api_core import exceptions as google_exceptions
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from langchain.agents.structured_output import MultipleStructuredOutputsError, StructuredOutputValidationError
from langchain_anthropic import ChatAnthropic
from langchain_core import exceptions as core
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphInterrupt, NodeTimeoutError
from langgraph.prebuilt.tool_node import ToolInvocationError

from langchain_costguard.steering.policies.retries import (
    DAY,
    ErrorKind,
    Retry,
    advice,
    classify,
    retry_after,
    sdk_retries,
)
from langchain_costguard.vocabulary.errors import AgentHaltedError, CircuitOpenError
from tests.loopback import Answering, Listener

RATE_LIMIT, TIMEOUT, SERVER, VALIDATION, AUTH, QUOTA, CONTEXT, REFUSAL, UNKNOWN = ErrorKind
NOW = 1_735_689_600.0  # Wed, 01 Jan 2025 00:00:00 GMT

Answer = tuple[int, Any, Mapping[str, str]]


class Service(Listener):
    """A service on loopback that gives every request the same answer."""

    def __init__(self) -> None:
        self.answer: Answer = (500, {}, {})
        self.delay = 0.0
        service = self

        class Handler(Answering):
            def do_POST(self) -> None:
                self.body()
                time.sleep(service.delay)
                status, body, headers = service.answer
                self.answer(body, status, headers)

            do_GET = do_POST

        super().__init__(Handler)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    running.delay = 0.0
    return running


def caught(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


MESSAGES: Any = [{"role": "user", "content": "hi"}]


def by_openai(url: str, **options: Any) -> Any:
    client = openai.OpenAI(base_url=url, api_key="k", max_retries=0, **options)
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


def by_anthropic(url: str, **options: Any) -> Any:
    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, **options)
    return client.messages.create(model="claude-test", max_tokens=9, messages=MESSAGES)


def by_chat_openai(url: str) -> Any:
    return ChatOpenAI(model="gpt-4o", base_url=url, api_key="k", max_retries=0).invoke("hi")  # type: ignore[arg-type]


def by_chat_anthropic(url: str) -> Any:
    return ChatAnthropic(model="claude-test", base_url=url, api_key="k", max_retries=0).invoke("hi")  # type: ignore[call-arg,arg-type]


def by_httpx(url: str) -> Any:
    return httpx.get(url).raise_for_status()


def by_requests(url: str) -> Any:
    return requests.get(url, timeout=5).raise_for_status()


SESSION = botocore.session.get_session()
"""One for all: reading what a service is like takes it a while."""


def bedrock(url: str, **retries: Any) -> Any:
    config = Config(retries=retries or {"total_max_attempts": 1}, read_timeout=5, connect_timeout=5)
    return SESSION.create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=config,
    )


def by_botocore(url: str) -> Any:
    return bedrock(url).invoke_model(modelId="anthropic.claude-3", body=b"{}")


def by_google(url: str) -> Any:
    client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url))
    return client.models.generate_content(model="gemini-2.5-flash", contents="hi")


def said(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's words."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def claude(kind: str, message: str = "no") -> dict[str, Any]:
    """An error in Anthropic's words."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def gemini(code: int, status: str, message: str = "no", *details: Any) -> dict[str, Any]:
    """An error in Google's words."""
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def violated(quota: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}


CURRENT_QUOTA = "You exceeded your current quota, please check your plan and billing details."

OPENAI: dict[str, tuple[int, Any, ErrorKind]] = {
    "a rate limit": (429, said("Rate limit reached for gpt-4o", "requests", "rate_limit_exceeded"), RATE_LIMIT),
    "a quota, sent as a 429": (429, said(CURRENT_QUOTA, "insufficient_quota", "insufficient_quota"), QUOTA),
    "a request above the limit of a minute": (
        429,
        said("Request too large for gpt-4o on tokens per min (TPM)", "tokens", "rate_limit_exceeded"),
        CONTEXT,
    ),
    "a server error": (500, said("The server had an error", "server_error"), SERVER),
    "an overload": (503, said("That model is overloaded", "server_error"), SERVER),
    "an error page of a gateway": (502, b"<html>Bad Gateway</html>", SERVER),
    "a gateway's time-out": (504, b"<html>Gateway Time-out</html>", TIMEOUT),
    "a wrong key": (401, said("Incorrect API key", code="invalid_api_key"), AUTH),
    "no permission": (403, said("Country not supported", "request_forbidden"), AUTH),
    "too long a context": (400, said("too long", code="context_length_exceeded"), CONTEXT),
    "too long a context in words": (400, said("This model's maximum context length is 8192 tokens."), CONTEXT),
    "a malformed request": (400, said("Unknown parameter: 'x'"), UNKNOWN),
    "a tool call the model got wrong (groq)": (
        400,
        said("Failed to call a function.", code="tool_use_failed"),
        VALIDATION,
    ),
    "an unknown model": (404, said("The model does not exist", code="model_not_found"), UNKNOWN),
    "a time-out at the server": (408, said("timed out"), TIMEOUT),
    "a lock": (409, said("locked"), TIMEOUT),
    "too large a body": (413, said("too large"), CONTEXT),
    "too early": (425, said("too early"), SERVER),
    "no more money": (402, said("Insufficient Balance", "unknown_error"), QUOTA),
    "what the server has not got": (501, said("not implemented", "server_error"), UNKNOWN),
    "a status nobody knows": (599, b"", SERVER),
    "a request that makes no sense": (422, said("unprocessable"), UNKNOWN),
}
ANTHROPIC: dict[str, tuple[int, Any, ErrorKind]] = {
    "a rate limit": (429, claude("rate_limit_error"), RATE_LIMIT),
    "an overload": (529, claude("overloaded_error"), SERVER),
    "a server error": (500, claude("api_error"), SERVER),
    "credit that is used up": (400, claude("invalid_request_error", "Your credit balance is too low to access"), QUOTA),
    "a limit of spending": (
        400,
        claude("invalid_request_error", "You have reached your specified API usage limits."),
        QUOTA,
    ),
    "billing": (403, claude("billing_error"), QUOTA),
    "too long a prompt": (400, claude("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), CONTEXT),
    "input and output too long together": (
        400,
        claude("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 9 > 8"),
        CONTEXT,
    ),
    "too large a body": (413, claude("request_too_large"), CONTEXT),
    "a wrong key": (401, claude("authentication_error"), AUTH),
    "no permission": (403, claude("permission_error"), AUTH),
    "a malformed request": (400, claude("invalid_request_error", "messages: field required"), UNKNOWN),
    "an unknown model": (404, claude("not_found_error"), UNKNOWN),
    "a time-out": (504, claude("timeout_error"), TIMEOUT),
}
GOOGLE: dict[str, tuple[int, Any, ErrorKind]] = {
    "a limit of a minute": (
        429,
        gemini(
            429, "RESOURCE_EXHAUSTED", CURRENT_QUOTA, violated("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
        ),
        RATE_LIMIT,
    ),
    "a limit of a day": (
        429,
        gemini(429, "RESOURCE_EXHAUSTED", CURRENT_QUOTA, violated("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
        QUOTA,
    ),
    "tokens of a day": (
        429,
        gemini(429, "RESOURCE_EXHAUSTED", CURRENT_QUOTA, violated("GenerateContentInputTokensPerModelPerDay-FreeTier")),
        QUOTA,
    ),
    "too long a context": (
        400,
        gemini(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        CONTEXT,
    ),
    "a wrong key": (
        400,
        gemini(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
        AUTH,
    ),
    "no permission": (403, gemini(403, "PERMISSION_DENIED"), AUTH),
    "a malformed request": (400, gemini(400, "INVALID_ARGUMENT"), UNKNOWN),
    "an overload": (503, gemini(503, "UNAVAILABLE", "The model is overloaded."), SERVER),
    "a server error": (500, gemini(500, "INTERNAL"), SERVER),
    "a deadline": (504, gemini(504, "DEADLINE_EXCEEDED"), TIMEOUT),
}
BEDROCK: dict[str, tuple[int, str, str, ErrorKind]] = {
    "throttling": (429, "ThrottlingException", "Too many requests", RATE_LIMIT),
    "throttling, as other services send it": (400, "ThrottlingException", "Rate exceeded", RATE_LIMIT),
    "tokens of a day": (429, "ThrottlingException", "Too many tokens per day, please wait before trying again.", QUOTA),
    "the quota of the account": (400, "ServiceQuotaExceededException", "no", QUOTA),
    "too long an input": (400, "ValidationException", "Input is too long for requested model.", CONTEXT),
    "a malformed request": (400, "ValidationException", "Malformed input request", UNKNOWN),
    "no access": (403, "AccessDeniedException", "no", AUTH),
    "a token that has expired": (403, "ExpiredTokenException", "no", AUTH),
    "a token that has expired, as others send it": (400, "ExpiredTokenException", "no", AUTH),
    "a model's time-out": (408, "ModelTimeoutException", "no", TIMEOUT),
    "a model's error": (424, "ModelErrorException", "no", SERVER),
    "a model that is not ready": (429, "ModelNotReadyException", "no", SERVER),
    "a server error": (500, "InternalServerException", "no", SERVER),
    "an outage": (503, "ServiceUnavailableException", "no", SERVER),
    "an unknown model": (404, "ResourceNotFoundException", "no", UNKNOWN),
}


@pytest.mark.parametrize("ask", [by_openai, by_chat_openai], ids=["openai", "ChatOpenAI"])
@pytest.mark.parametrize("what", OPENAI)
def test_errors_of_openais_client(service: Service, what: str, ask: Any) -> None:
    status, body, kind = OPENAI[what]
    service.answer = (status, body, {})
    assert classify(caught(lambda: ask(service.url))) is kind


@pytest.mark.parametrize("ask", [by_anthropic, by_chat_anthropic], ids=["anthropic", "ChatAnthropic"])
@pytest.mark.parametrize("what", ANTHROPIC)
def test_errors_of_anthropics_client(service: Service, what: str, ask: Any) -> None:
    status, body, kind = ANTHROPIC[what]
    service.answer = (status, body, {})
    assert classify(caught(lambda: ask(service.url))) is kind


@pytest.mark.parametrize("what", GOOGLE)
def test_errors_of_googles_client(service: Service, what: str) -> None:
    status, body, kind = GOOGLE[what]
    service.answer = (status, body, {})
    error = caught(lambda: by_google(service.url))
    assert isinstance(error, genai.errors.APIError)
    assert classify(error) is kind


@pytest.mark.parametrize("what", BEDROCK)
def test_errors_of_botocore(service: Service, what: str) -> None:
    status, code, message, kind = BEDROCK[what]
    service.answer = (status, {"message": message}, {"x-amzn-ErrorType": code})
    error = caught(lambda: by_botocore(service.url))
    assert isinstance(error, botocore.exceptions.ClientError)
    assert classify(error) is kind


@pytest.mark.parametrize("ask", [by_httpx, by_requests], ids=["httpx", "requests"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RATE_LIMIT), (500, SERVER), (504, TIMEOUT), (401, AUTH), (403, AUTH), (404, UNKNOWN), (400, UNKNOWN)],
)
def test_errors_of_plain_http_clients(service: Service, ask: Any, status: int, kind: ErrorKind) -> None:
    service.answer = (status, {}, {})
    assert classify(caught(lambda: ask(service.url))) is kind


def nobody() -> str:
    """A URL at which nobody listens."""
    with Listener(Answering) as gone:
        return gone.url


CLIENTS = {
    "openai": by_openai,
    "ChatOpenAI": by_chat_openai,
    "anthropic": by_anthropic,
    "ChatAnthropic": by_chat_anthropic,
    "httpx": by_httpx,
    "requests": by_requests,
    "botocore": by_botocore,
    "google": by_google,
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_service_that_is_not_there_may_come_back(name: str) -> None:
    assert classify(caught(lambda: CLIENTS[name](nobody()))) is SERVER


def test_a_service_that_is_silent_is_a_time_out(service: Service) -> None:
    service.answer, service.delay = (200, {}, {}), 0.4
    asks: list[Callable[[], Any]] = [
        lambda: by_openai(service.url, timeout=0.1),
        lambda: by_anthropic(service.url, timeout=0.1),
        lambda: httpx.get(service.url, timeout=0.1),
        lambda: requests.get(service.url, timeout=0.1),
    ]
    assert [classify(caught(ask)) for ask in asks] == [TIMEOUT] * 4


@pytest.mark.parametrize("url", ["htp://127.0.0.1", "nowhere"])
def test_a_broken_url_never_works_though_the_client_calls_it_a_connection_error(url: str) -> None:
    error = caught(lambda: by_openai(url))
    assert isinstance(error, openai.APIConnectionError)
    assert classify(error) is UNKNOWN


def test_errors_in_the_middle_of_a_stream_come_with_status_200(service: Service) -> None:
    sse = {"content-type": "text/event-stream"}
    told = {"overloaded_error": SERVER, "rate_limit_error": RATE_LIMIT, "api_error": SERVER, "billing_error": QUOTA}
    for kind, expected in told.items():
        service.answer = (200, b"event: error\ndata: " + json.dumps(claude(kind)).encode() + b"\n\n", sse)
        error = caught(
            lambda: list(ChatAnthropic(model="c", base_url=service.url, api_key="k", max_retries=0).stream("hi"))
        )  # type: ignore[call-arg,arg-type]
        assert classify(error) is expected
    for code, expected in {
        "rate_limit_exceeded": RATE_LIMIT,
        "server_error": SERVER,
        "insufficient_quota": QUOTA,
    }.items():
        service.answer = (200, b"data: " + json.dumps(said("no", code, None)).encode() + b"\n\n", sse)
        error = caught(
            lambda: list(ChatOpenAI(model="g", base_url=service.url, api_key="k", max_retries=0).stream("hi"))
        )  # type: ignore[arg-type]
        assert classify(error) is expected


@pytest.mark.parametrize(("status", "kind"), [(429, QUOTA), (500, UNKNOWN)])
def test_a_provider_that_says_not_to_retry_is_believed(service: Service, status: int, kind: ErrorKind) -> None:
    service.answer = (status, claude("rate_limit_error" if status == 429 else "api_error"), {"x-should-retry": "false"})
    assert classify(caught(lambda: by_anthropic(service.url))) is kind


# Errors that need no service


class Address(pydantic.BaseModel):
    city: str


def chained(outer: BaseException, cause: BaseException | None = None, context: BaseException | None = None) -> Any:
    outer.__cause__, outer.__context__, outer.__suppress_context__ = cause, context, cause is not None
    return outer


def invalid() -> pydantic.ValidationError:
    error = caught(lambda: Address.model_validate({}))
    assert isinstance(error, pydantic.ValidationError)
    return error


class LaterError(core.ModelError):
    is_retryable = True


REQUEST = httpx.Request("POST", "http://x")
HALTED = AgentHaltedError("halt", reason="r", agent="")
RATE = google_exceptions.ResourceExhausted("no")
G = google_exceptions

LOCAL: dict[str, tuple[BaseException, ErrorKind]] = {
    "a time-out": (TimeoutError(), TIMEOUT),
    "a node's time-out": (NodeTimeoutError("n", 2.0, kind="run", run_timeout=1.0), TIMEOUT),
    "httpx: pool": (httpx.PoolTimeout("no"), TIMEOUT),
    "httpx: broken off": (httpx.RemoteProtocolError("peer closed connection"), SERVER),
    "httpx: read": (httpx.ReadError("no"), SERVER),
    "httpx: an illegal header": (httpx.LocalProtocolError("Illegal header value"), UNKNOWN),
    "requests: connect": (requests.ConnectTimeout(), TIMEOUT),
    "requests: broken off": (requests.exceptions.ChunkedEncodingError(), SERVER),
    "requests: no JSON from the service": (requests.JSONDecodeError("no", "", 0), UNKNOWN),
    "a reset connection": (ConnectionResetError(), SERVER),
    "botocore: read": (botocore.exceptions.ReadTimeoutError(endpoint_url="u"), TIMEOUT),
    "botocore: connect": (botocore.exceptions.ConnectTimeoutError(endpoint_url="u"), TIMEOUT),
    "botocore: no service": (botocore.exceptions.EndpointConnectionError(endpoint_url="u"), SERVER),
    "botocore: no credentials": (botocore.exceptions.NoCredentialsError(), AUTH),
    "botocore: our own mistake": (botocore.exceptions.ParamValidationError(report="r"), UNKNOWN),
    "botocore: a wrong value": (botocore.exceptions.UnknownKeyError(value="v", param="p", choices="c"), UNKNOWN),
    "botocore: in a stream": (
        botocore.exceptions.EventStreamError({"Error": {"Code": "throttlingException", "Message": "no"}}, "op"),
        RATE_LIMIT,
    ),
    "google: rate": (RATE, RATE_LIMIT),
    "google: a day": (
        G.ResourceExhausted(
            "no",
            details=[
                error_details_pb2.QuotaFailure(
                    violations=[error_details_pb2.QuotaFailure.Violation(quota_id="GenerateRequestsPerDayPerProject")]
                )
            ],
        ),
        QUOTA,
    ),
    "google: unavailable": (G.ServiceUnavailable("no"), SERVER),
    "google: deadline": (G.DeadlineExceeded("no"), TIMEOUT),
    "google: key": (G.Unauthenticated("no"), AUTH),
    "google: permission": (G.PermissionDenied("no"), AUTH),
    "google: argument": (G.InvalidArgument("no"), UNKNOWN),
    "google: retries of its own": (chained(G.RetryError("late", cause=RATE), RATE), RATE_LIMIT),
    "langchain: rate": (core.ModelRateLimitError(), RATE_LIMIT),
    "langchain: time-out": (core.ModelTimeoutError(), TIMEOUT),
    "langchain: server": (core.ModelAPIError(), SERVER),
    "langchain: connection": (core.ModelConnectionError(), SERVER),
    "langchain: key": (core.ModelAuthenticationError(), AUTH),
    "langchain: permission": (core.ModelPermissionDeniedError(), AUTH),
    "langchain: request": (core.ModelInvalidRequestError(), UNKNOWN),
    "langchain: context": (core.ContextOverflowError(), CONTEXT),
    "langchain: some later class": (LaterError(), SERVER),
    "langchain: the root": (core.ModelError(), UNKNOWN),
    "pydantic": (invalid(), VALIDATION),
    "a parser": (caught(lambda: JsonOutputParser().parse("no JSON")), VALIDATION),
    "JSON": (caught(lambda: json.loads("{")), VALIDATION),
    "tool arguments": (ToolInvocationError("t", invalid(), {}), VALIDATION),
    "structured output": (StructuredOutputValidationError("t", ValueError(), AIMessage("")), VALIDATION),
    "two structured outputs": (MultipleStructuredOutputsError(["a", "b"], AIMessage("")), VALIDATION),
    "a tool's own error": (ToolException("no such city"), UNKNOWN),
    "a refusal of the guard": (HALTED, REFUSAL),
    "a circuit of steering's that is open": (CircuitOpenError("x", name="x", seconds=1), REFUSAL),
    "an interrupt": (GraphInterrupt(), REFUSAL),
    "a person's answer that does not fit": (invalid(), REFUSAL),
    "cancelled": (asyncio.CancelledError(), UNKNOWN),
    "the end": (KeyboardInterrupt(), UNKNOWN),
    "a bug": (ValueError("429 Too Many Requests"), UNKNOWN),
    # Chains
    "wrapped by hand": (chained(RuntimeError("search failed"), TimeoutError()), TIMEOUT),
    "wrapped twice": (chained(ToolException("x"), chained(RuntimeError("y"), RATE)), RATE_LIMIT),
    "raised while another was handled": (chained(RuntimeError("x"), context=TimeoutError()), TIMEOUT),
    "the outermost that says something": (chained(core.ModelAuthenticationError(), RATE), AUTH),
    "a malformed request after a rate limit": (chained(G.InvalidArgument("no"), context=RATE), UNKNOWN),
    "a refusal that a client took for a connection error": (
        chained(openai.APIConnectionError(request=REQUEST), HALTED),  # type: ignore[arg-type]
        REFUSAL,
    ),
    "a failure while a refusal was handled": (chained(TimeoutError(), context=HALTED), TIMEOUT),
    "a certificate nobody trusts": (
        chained(
            openai.APIConnectionError(request=REQUEST), chained(httpx.ConnectError("x"), ssl.SSLCertVerificationError())
        ),  # type: ignore[arg-type]
        UNKNOWN,
    ),
    "a time-out that cancelled": (chained(TimeoutError(), asyncio.CancelledError()), TIMEOUT),
    # Groups
    "a group that may be retried": (ExceptionGroup("g", [TimeoutError(), core.ModelAPIError()]), TIMEOUT),
    "a group with one that may not": (ExceptionGroup("g", [TimeoutError(), ValueError()]), UNKNOWN),
    "a group with a refusal": (ExceptionGroup("g", [TimeoutError(), ExceptionGroup("h", [HALTED])]), REFUSAL),
    "a group that was interrupted": (BaseExceptionGroup("g", [TimeoutError(), KeyboardInterrupt()]), UNKNOWN),
}
LOCAL["a person's answer that does not fit"][0]._langgraph_invalid_resume = True  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", LOCAL)
def test_errors_without_a_service(what: str) -> None:
    error, kind = LOCAL[what]
    assert classify(error) is kind


def test_a_tools_wrong_arguments_are_the_models_to_repair() -> None:
    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    assert classify(caught(lambda: weather.invoke({"town": "Bonn"}))) is VALIDATION


def test_the_suppressed_context_of_an_error_says_nothing() -> None:
    def act() -> None:
        try:
            raise TimeoutError
        except TimeoutError:
            raise RuntimeError("our own") from None

    assert classify(caught(act)) is UNKNOWN


def test_a_chain_that_bites_its_tail_has_an_end() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) is UNKNOWN
    assert retry_after(first, now=NOW) is None
    long: BaseException = TimeoutError()
    for _ in range(10_000):
        long = chained(RuntimeError("x"), long)
    assert classify(long) is UNKNOWN


def test_an_error_that_fails_when_it_is_looked_at_is_unknown() -> None:
    class Awkward(Exception):
        response = property(lambda self: 1 / 0)
        status_code = 418

        def __str__(self) -> str:
            raise ValueError

    assert classify(Awkward()) is UNKNOWN
    assert retry_after(Awkward(), now=NOW) is None


def test_what_each_class_does() -> None:
    assert [kind for kind in ErrorKind if kind.backs_off] == [RATE_LIMIT, TIMEOUT, SERVER]
    assert [kind for kind in ErrorKind if kind.repairs] == [VALIDATION]
    assert [kind for kind in ErrorKind if advice(kind)] == [AUTH, QUOTA, CONTEXT, UNKNOWN]


# Retry-After

ASKED: dict[str, tuple[dict[str, str], float | None]] = {
    "seconds": ({"Retry-After": "7"}, 7),
    "a part of a second": ({"retry-after": "0.25"}, 0.25),
    "none": ({}, None),
    "milliseconds come first": ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    "Azure's milliseconds": ({"x-ms-retry-after-ms": "1500"}, 1.5),
    "a date": ({"Retry-After": formatdate(NOW + 12, usegmt=True)}, 12),
    "a date that has passed": ({"Retry-After": formatdate(NOW - 12, usegmt=True)}, 0),
    "three days": ({"Retry-After": "259200"}, DAY),
    "more than a float": ({"Retry-After": "9" * 300}, DAY),
    "below zero": ({"Retry-After": "-5"}, None),
    "no number": ({"Retry-After": "nan"}, None),
    "for ever": ({"Retry-After": "inf"}, None),
    "a word": ({"Retry-After": "soon"}, None),
    "nothing": ({"Retry-After": ""}, None),
    "openai's reset of a limit used up": (
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "9",
            "x-ratelimit-reset-tokens": "9h",
        },
        360,
    ),
    "openai's reset in milliseconds": (
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"},
        0.12,
    ),
    "openai's reset with a part": ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m1.5s"}, 61.5),
    "a reset of a limit that is not used up": (
        {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1s"},
        None,
    ),
    "a reset in epoch seconds": ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 30:.0f}"}, 30),
    "a reset that makes no sense": ({"x-ratelimit-reset": "later"}, None),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_a_provider_asks_for_in_headers(service: Service, what: str) -> None:
    headers, seconds = ASKED[what]
    service.answer = (429, said("slow down"), headers)
    expected = None if seconds is None else pytest.approx(seconds)
    for ask in (by_openai, by_chat_openai, by_httpx, by_requests):
        error = caught(lambda ask=ask: ask(service.url))  # type: ignore[misc]
        assert retry_after(error, now=NOW) == expected
        assert retry_after(chained(RuntimeError("wrapped"), error), now=NOW) == expected


def test_botocores_headers_are_read_too(service: Service) -> None:
    service.answer = (429, {"message": "no"}, {"x-amzn-ErrorType": "ThrottlingException", "Retry-After": "3"})
    assert retry_after(caught(lambda: by_botocore(service.url)), now=NOW) == 3


def test_googles_retry_info_is_read(service: Service) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "26.5s"}
    service.answer = (429, gemini(429, "RESOURCE_EXHAUSTED", "no", violated("x"), info), {})
    assert retry_after(caught(lambda: by_google(service.url)), now=NOW) == 26.5
    delay = Duration(seconds=3, nanos=500_000_000)
    error = G.ResourceExhausted(
        "no", details=[error_details_pb2.Help(), error_details_pb2.RetryInfo(retry_delay=delay)]
    )
    assert retry_after(error, now=NOW) == 3.5


def test_of_a_group_the_longest_counts(service: Service) -> None:
    errors = []
    for seconds in ("2", "9", "4"):
        service.answer = (429, {}, {"Retry-After": seconds})
        errors.append(caught(lambda: by_httpx(service.url)))
    assert retry_after(ExceptionGroup("g", errors), now=NOW) == 9  # type: ignore[type-var]


def test_most_errors_ask_for_nothing() -> None:
    assert [retry_after(error, now=NOW) for error in (ValueError(), TimeoutError(), invalid())] == [None] * 3


# Retry


@pytest.mark.parametrize("kind", [RATE_LIMIT, TIMEOUT, SERVER])
def test_the_backoff_doubles_up_to_the_most(kind: ErrorKind) -> None:
    retry = Retry(attempts=10, base=0.5, most=6)
    waits = [retry.wait(kind, attempt, after=None, jitter=1.0) for attempt in range(1, 10)]
    assert waits == [0.5, 1, 2, 4, 6, 6, 6, 6, 6]


def test_the_jitter_is_full() -> None:
    assert [Retry().wait(SERVER, 3, after=None, jitter=jitter) for jitter in (0.0, 0.5, 1.0)] == [0, 1, 2]


def test_the_attempts_count_the_first_call() -> None:
    retry = Retry(attempts=3)
    assert [retry.wait(SERVER, attempt, after=None, jitter=1.0) is None for attempt in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert Retry(attempts=1).wait(SERVER, 1, after=1.0, jitter=1.0) is None


@pytest.mark.parametrize("kind", [VALIDATION, AUTH, QUOTA, CONTEXT, REFUSAL, UNKNOWN])
def test_no_other_class_is_waited_for(kind: ErrorKind) -> None:
    assert Retry().wait(kind, 1, after=1.0, jitter=1.0) is None


def test_no_wait_is_shorter_than_what_the_provider_asks_for() -> None:
    retry = Retry(base=0.5, most=30)
    assert retry.wait(RATE_LIMIT, 1, after=7.0, jitter=0.0) == 7
    assert retry.wait(RATE_LIMIT, 1, after=7.0, jitter=1.0) == 7.5
    assert retry.wait(RATE_LIMIT, 1, after=30.0, jitter=0.0) == 30


def test_a_provider_that_asks_for_too_much_is_not_waited_for() -> None:
    assert Retry(most=30).wait(RATE_LIMIT, 1, after=30.1, jitter=0.0) is None


def test_only_named_tools_are_called_again() -> None:
    assert not Retry().retries_tool("search")
    retry = Retry(tools=["search_*", "weather"])
    assert [retry.retries_tool(name) for name in ("search_web", "weather", "weathers", "Weather", "send_mail")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_classes_can_be_told_by_others() -> None:
    retry = Retry(classify=lambda error: SERVER)
    assert retry.classify(ValueError()) is SERVER
    assert Retry().classify(ValueError()) is UNKNOWN


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 2.0},
        {"attempts": True},
        {"base": 0},
        {"base": float("nan")},
        {"base": 31},
        {"most": -1},
        {"most": float("inf")},
        {"repairs": 3},
        {"repairs": -1},
        {"tools": "search"},
        {"tools": [""]},
        {"tools": [1]},
        {"tools": None},
        {"classify": "no"},
    ],
)
def test_a_value_that_makes_no_sense_is_named(wrong: dict[str, Any]) -> None:
    ((field, value),) = wrong.items()
    with pytest.raises(ValueError, match=field) as raised:
        Retry(**wrong)
    assert repr(value) in str(raised.value)


# The clients' own retries


class Own:
    """Some model of others."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def of_openai(**options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o", api_key="k", **options)  # type: ignore[arg-type]


def of_anthropic(**options: Any) -> ChatAnthropic:
    return ChatAnthropic(model="claude-test", api_key="k", **options)  # type: ignore[call-arg]


RETRIES: dict[str, tuple[Callable[[], Any], int]] = {
    "ChatOpenAI, as it comes": (of_openai, 2),
    "ChatOpenAI, told not to": (lambda: of_openai(max_retries=0), 0),
    "ChatOpenAI, told to": (lambda: of_openai(max_retries=6), 6),
    "ChatAnthropic, as it comes": (of_anthropic, 2),
    "ChatAnthropic, told not to": (lambda: of_anthropic(max_retries=0), 0),
    "with tools": (lambda: of_openai().bind_tools([]), 2),
    "with a configuration": (lambda: of_openai().with_config(tags=["a"]).bind(stop=["x"]), 2),
    "with structured output": (lambda: of_openai().with_structured_output(Address), 2),
    "with_retry, which multiplies": (lambda: of_openai().with_retry(stop_after_attempt=3), 8),
    "with_retry alone": (lambda: of_openai(max_retries=0).with_retry(stop_after_attempt=3), 2),
    "a client": (lambda: openai.OpenAI(api_key="k"), 2),
    "botocore, as it comes": (lambda: Own(client=bedrock("http://x", mode="standard")), 2),
    "botocore, as it came for years": (lambda: Own(client=bedrock("http://x", mode="legacy")), 4),
    "botocore, told to": (lambda: Own(client=bedrock("http://x", max_attempts=7)), 7),
    "botocore, told not to": (lambda: Own(client=bedrock("http://x", total_max_attempts=1)), 0),
    "a model nobody knows": (Own, 0),
    "nonsense": (lambda: Own(max_retries=-3), 0),
    "a lambda": (lambda: RunnableLambda(str), 0),
    "nothing": (lambda: None, 0),
}


@pytest.mark.parametrize("what", RETRIES)
def test_how_often_the_clients_retry_by_themselves(what: str) -> None:
    make, retries = RETRIES[what]
    assert sdk_retries(make()) == retries


def test_a_runnable_within_itself_has_an_end() -> None:
    model = Own(max_retries=1)
    model.bound = model
    assert sdk_retries(model) == 1
