"""What class an error is of, and so whether waiting cures it, the model can, or nobody.

Classes are told by the names of their types, by HTTP status and by the provider's own code, so that no provider's
client has to be imported. The words are those of openai, anthropic, httpx, requests, botocore, google-genai,
google-api-core and of LangChain's ``ModelError`` taxonomy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    """The class of an error.

    ========== ============================================================= ==========================================
    class      examples                                                      what is done
    ========== ============================================================= ==========================================
    rate_limit HTTP 429, ``ThrottlingException``, ``RESOURCE_EXHAUSTED``     back off, no shorter than ``Retry-After``
    timeout    ``TimeoutError``, ``APITimeoutError``, HTTP 408, 409, 504     back off
    server     HTTP 5xx, 529 overloaded, a connection that fails or breaks   back off
    validation tool arguments, output parser, ``pydantic.ValidationError``   repair: the model is told, and asked again
    auth       HTTP 401 and 403, ``AccessDeniedException``, no credentials   fail at once
    quota      ``insufficient_quota`` (a 429!), credit used up, HTTP 402     fail at once
    context    ``context_length_exceeded``, "prompt is too long", HTTP 413   fail at once, with advice
    refusal    the guard's and steering's own errors, LangGraph's interrupts passes through untouched
    unknown    everything else, such as HTTP 400, 404 and a bug of a tool's  fail at once
    ========== ============================================================= ==========================================
    """

    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    SERVER = "server"
    VALIDATION = "validation"
    AUTH = "auth"
    QUOTA = "quota"
    CONTEXT = "context"
    REFUSAL = "refusal"
    UNKNOWN = "unknown"

    @property
    def backs_off(self) -> bool:
        """Whether the same request may succeed after a while."""
        return self in (ErrorKind.RATE_LIMIT, ErrorKind.TIMEOUT, ErrorKind.SERVER)

    @property
    def repairs(self) -> bool:
        """Whether the model can correct itself once it is told of the error."""
        return self is ErrorKind.VALIDATION


RATE_LIMIT, TIMEOUT, SERVER, VALIDATION, AUTH, QUOTA, CONTEXT, REFUSAL, UNKNOWN = ErrorKind
_LINKS = 24
"""Errors of one chain, groups included, that are looked at."""
_TEXT = 20_000


def classify(error: BaseException) -> ErrorKind:
    """The class of an error: that of the outermost link of its chain that says anything.

    The chain is ``__cause__``, else ``__context__`` unless suppressed. A refusal, and what can never work (a broken
    URL, a certificate that is not trusted), counts wherever it is among the causes, for clients wrap whatever fails
    in them as a connection error. Of a group, the member that is least worth another attempt counts.
    """
    return _classify(error, set())


def _classify(error: BaseException, seen: set[int]) -> ErrorKind:
    kind: ErrorKind | None = None
    link: BaseException | None = error
    caused = True
    while link is not None and id(link) not in seen and len(seen) < _LINKS:
        seen.add(id(link))
        names = _names(link)
        if caused and (final := _first(names, _FINAL)):
            return final
        if kind is None:
            kind = _judge(link, names, seen)
        if link.__cause__ is not None:
            link = link.__cause__
        elif kind is None and not link.__suppress_context__:
            link, caused = link.__context__, False
        else:
            break
    return kind or UNKNOWN


def _judge(error: BaseException, names: list[str], seen: set[int]) -> ErrorKind | None:
    """What one link says by itself; None where it says nothing."""
    if isinstance(error, BaseExceptionGroup):
        return _worst([_classify(member, seen) for member in error.exceptions[:_LINKS]])
    if not isinstance(error, Exception):  # cancelled, or the program is ending
        return UNKNOWN
    if attribute(error, "_langgraph_invalid_resume"):  # a person's answer did not fit; not the model's mistake
        return REFUSAL
    status, codes = status_of(error), _codes(error)
    kind = _told(error, names) if status or not _PROVIDER.isdisjoint(names) else None
    kind = kind or _first(codes, _CODES) or _STATUSES.get(status or 0) or _first(names, _NAMES)
    if kind is None and status:
        kind = SERVER if status >= 500 else UNKNOWN
    kind = kind or _first(codes, _TYPES)
    if kind is None and "ModelError" in names:
        kind = SERVER if attribute(error, "is_retryable") is True else UNKNOWN
    # The clients of openai and anthropic obey this header, which says more than the status does.
    if kind and kind.backs_off and headers_of(error).get("x-should-retry") == "false":
        kind = QUOTA if kind is RATE_LIMIT else UNKNOWN
    return kind


def _worst(kinds: list[ErrorKind]) -> ErrorKind:
    if REFUSAL in kinds:
        return REFUSAL
    return next((kind for kind in kinds if not kind.backs_off), kinds[0])


def _told(error: BaseException, names: list[str]) -> ErrorKind | None:
    """By the words of a provider's message, where it has no code for it."""
    try:
        text = str(error)[:_TEXT].lower()
    except Exception:  # a third party's __str__
        return None
    return next((kind for phrase, kind in _PHRASES.items() if phrase in text), None)


def _first(words: list[str], table: Mapping[str, ErrorKind]) -> ErrorKind | None:
    return next((table[word] for word in words if word in table), None)


def _names(error: BaseException) -> list[str]:
    """The names of its classes, most special first, each also with its top-level package."""
    names = []
    for cls in type(error).__mro__:
        names += [f"{cls.__module__.partition('.')[0]}.{cls.__name__}", cls.__name__]
    return names


def attribute(owner: Any, name: str) -> Any:
    """An attribute of an object of others; None where it has none, or asking fails."""
    try:
        return owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
    except Exception:  # a third party's property
        return None


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error, from 400 up."""
    response = attribute(error, "response")
    meta = attribute(response, "ResponseMetadata")  # botocore
    found = [attribute(owner, name) for owner in (error, response) for name in ("status_code", "status", "code")]
    for value in (*found, attribute(meta, "HTTPStatusCode")):
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return int(value)
    return None


def headers_of(error: BaseException) -> dict[str, str]:
    """The headers of the answer that an error came with, by their names in lower case."""
    response = attribute(error, "response")
    botocore = attribute(attribute(response, "ResponseMetadata"), "HTTPHeaders")
    for headers in (attribute(response, "headers"), botocore, attribute(error, "headers")):
        try:
            found = {str(name).lower(): str(value).strip() for name, value in headers.items()}
        except Exception:  # none, or of a kind nobody knows
            continue
        if found:
            return found
    return {}


def _codes(error: BaseException) -> list[str]:
    """The provider's own words for what is wrong, most special first."""
    body = attribute(error, "body")
    owners = [error, attribute(body, "error"), body, attribute(attribute(error, "response"), "Error")]
    found = [attribute(owner, name) for name in ("code", "Code", "error_code", "type", "status") for owner in owners]
    if "grpc.RpcError" in _names(error) and callable(found[0]):
        found[0] = attribute(found[0](), "name")
    return [value.lower() for value in found if isinstance(value, str)]


def _table(**words: str) -> dict[str, ErrorKind]:
    return {word: ErrorKind(kind) for kind, text in words.items() for word in text.split()}


_FINAL = _table(
    refusal="CostGuardError SteeringError GraphBubbleUp",
    unknown="UnsupportedProtocol LocalProtocolError InvalidURL MissingSchema InvalidSchema SSLCertVerificationError",
)
_PROVIDER = {"APIError", "ApiError", "ModelError", "ClientError", "GoogleAPIError", "GoogleGenerativeAIError"}
"""Classes whose message is a provider's, also where they have no status (errors in the middle of a stream)."""

_NAMES = _table(
    rate_limit="RateLimitError ModelRateLimitError ResourceExhausted TooManyRequests",
    timeout="TimeoutError TimeoutException Timeout APITimeoutError ModelTimeoutError NodeTimeoutError ConnectTimeout "
    "ReadTimeoutError ConnectTimeoutError ServerTimeoutError",
    server="ConnectionError APIConnectionError ModelConnectionError ModelAPIError InternalServerError OverloadedError "
    "NetworkError RemoteProtocolError ProxyError ConnectionClosedError HTTPClientError ResponseStreamingError "
    "ChunkedEncodingError MaxRetryError NewConnectionError IncompleteRead ClientConnectionError ClientPayloadError "
    "gaierror",
    validation="OutputParserException ToolInvocationError StructuredOutputError pydantic_core.ValidationError "
    "pydantic.ValidationError jsonschema.ValidationError json.JSONDecodeError",
    auth="AuthenticationError PermissionDeniedError ModelAuthenticationError ModelPermissionDeniedError "
    "CredentialsError NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError "
    "NoAuthTokenError UnauthorizedSSOTokenError DefaultCredentialsError RefreshError",
    quota="PaymentRequiredError",
    context="ContextOverflowError ContextWindowExceededError",
    unknown="requests.JSONDecodeError",  # the service's mistake, not the model's
)
_CODES = _table(
    # https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html#API_runtime_InvokeModel_Errors,
    # https://console.groq.com/docs/errors, https://cloud.google.com/apis/design/errors
    quota="insufficient_quota billing_error billing_hard_limit_reached billing_not_active insufficient_credits "
    "servicequotaexceededexception",
    context="context_length_exceeded request_too_large string_above_max_length",
    validation="tool_use_failed json_validate_failed",
    auth="authentication_error permission_error invalid_api_key accessdeniedexception expiredtokenexception "
    "expiredtoken unrecognizedclientexception invalidsignatureexception incompletesignature signaturedoesnotmatch "
    "missingauthenticationtoken invalidclienttokenid unauthorizedexception unauthenticated permission_denied",
    rate_limit="rate_limit_error rate_limit_exceeded throttlingexception throttledexception throttling "
    "toomanyrequestsexception requestlimitexceeded provisionedthroughputexceededexception resource_exhausted",
    timeout="timeout_error modeltimeoutexception requesttimeout requesttimeoutexception deadline_exceeded",
    server="overloaded_error modelerrorexception modelstreamerrorexception modelnotreadyexception "
    "internalserverexception internalfailure serviceunavailableexception serviceunavailable",
)
_TYPES = _table(server="api_error server_error internal_server_error internal unavailable aborted")
"""Codes that some providers send with any error: the status says more, where there is one."""

_PHRASES = {
    "credit balance is too low": QUOTA,  # anthropic, with HTTP 400
    "reached your specified api usage limits": QUOTA,  # anthropic, with HTTP 400
    "insufficient balance": QUOTA,
    "too many tokens per day": QUOTA,  # Bedrock, as a ThrottlingException
    # Gemini says "exceeded your current quota" of each minute's limit, too; the quota's id tells which it was.
    # https://ai.google.dev/gemini-api/docs/rate-limits
    "perdayper": QUOTA,
    "permodelperday": QUOTA,
    "api_key_invalid": AUTH,  # Gemini, with HTTP 400
    "context_length_exceeded": CONTEXT,
    "maximum context length": CONTEXT,
    "context window": CONTEXT,
    "contextwindowexceeded": CONTEXT,
    "exceed context limit": CONTEXT,
    "prompt is too long": CONTEXT,
    "input is too long": CONTEXT,
    "exceeds the maximum number of tokens": CONTEXT,
    "input tokens exceed the configured limit": CONTEXT,
    "request too large for": CONTEXT,  # one request above a minute's tokens (openai, groq): no wait cures that
}
_STATUSES = {
    **dict.fromkeys((401, 403), AUTH),
    402: QUOTA,
    # 409 is a lock that could not be had in time, for the clients of openai and anthropic, which retry it as well.
    **dict.fromkeys((408, 409, 504, 522, 524), TIMEOUT),
    413: CONTEXT,
    425: SERVER,
    429: RATE_LIMIT,
    **dict.fromkeys((501, 505), UNKNOWN),
}
