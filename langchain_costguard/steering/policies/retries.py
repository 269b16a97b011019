"""Whether a failed call is made again, and after how many seconds: by the class of its error, never blindly."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Any

from langchain_costguard.steering.policies.kinds import ErrorKind as ErrorKind
from langchain_costguard.steering.policies.kinds import attribute, headers_of
from langchain_costguard.steering.policies.kinds import classify as classify
from langchain_costguard.vocabulary.slips import forgiving

DAY = 86_400.0
"""Seconds that no Retry-After is taken for more than; far beyond what anybody waits for."""
_LINKS = 24


@forgiving(
    max_retries="attempts=4 (the first call counts)",
    retries="attempts=4 (the first call counts)",
    max_attempts="attempts=3",
    tries="attempts=3",
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Tries a failed call again where that may help; ``ErrorKind`` has the table of what each class does.

    ========== ==========================================================================================
    rate limit exponential backoff with full jitter, never shorter than the provider's ``Retry-After``
    timeout    exponential backoff with full jitter
    server     exponential backoff with full jitter
    validation the exact error goes back to the model, which is asked to correct itself, ``repairs`` times
    the rest   fails at once
    ========== ==========================================================================================

    Each attempt is admitted by the budgets anew, and no wait goes beyond their ``seconds``. A provider that asks for
    more than ``most`` seconds is not waited for: the error says so at once, and the caller has another plan or none.

    Args:
        attempts: Tries in all, the first included; 1 never tries again.
        base: Seconds of the first backoff, which doubles with each attempt.
        most: Seconds a backoff, or a ``Retry-After``, may be at the most.
        repairs: How often a model is asked to correct one reply; at most 2.
        tools: Names of the tools that are safe to call again, as patterns (``"search_*"``). No other tool is.
        classify: Tells the class of an error.

    Raises:
        ValueError: names the field and the value.
    """

    attempts: int = 4
    base: float = 0.5
    most: float = 30.0
    repairs: int = 2
    tools: Collection[str] = ()
    classify: Callable[[BaseException], ErrorKind] = classify

    def __post_init__(self) -> None:
        for name, least, limit in (("attempts", 1, 100), ("repairs", 0, 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
                raise ValueError(f"{name}: {value!r} must be a whole number from {least} to {limit}")
        for name in ("base", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= DAY:
                raise ValueError(f"{name}: {value!r} must be a number of seconds above zero and at most {DAY:g}")
        if self.base > self.most:
            raise ValueError(f"base: {self.base!r} must not be above most={self.most!r}")
        if isinstance(self.tools, str) or not isinstance(self.tools, Collection):
            raise ValueError(f'tools: {self.tools!r} must be a list of names such as ["search_*"]')
        if not all(isinstance(name, str) and name for name in self.tools):
            raise ValueError(f"tools: {self.tools!r} must hold names of tools")
        if not callable(self.classify):
            raise ValueError(f"classify: {self.classify!r} must be a function of an error")
        object.__setattr__(self, "tools", tuple(self.tools))

    def wait(self, kind: ErrorKind, attempt: int, *, after: float | None, jitter: float) -> float | None:
        """Seconds to wait after the failure of attempt number ``attempt`` (from 1); None: do not try again.

        Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): ``jitter``, from 0 to
        1, times the backoff. It comes on top of ``after``, what the provider asked for in seconds, so that those who
        were told the same do not all come at once; the wait may be that much longer than ``most``.
        """
        if not kind.backs_off or attempt >= self.attempts:
            return None
        if after is not None and after > self.most:
            return None
        spread: float = jitter * min(self.most, self.base * 2.0 ** min(attempt - 1, 64))
        return spread + (after or 0.0)

    def retries_tool(self, name: str) -> bool:
        """Whether the tool is safe to call again."""
        return any(fnmatchcase(name, pattern) for pattern in self.tools)


def advice(kind: ErrorKind) -> str:
    """One sentence on what a person can do, of the classes that fail at once; empty for the others."""
    return _ADVICE.get(kind, "")


_ADVICE = {
    ErrorKind.AUTH: "The provider does not accept the credentials: check the key, its permissions, and whether the "
    "account may use this model.",
    ErrorKind.QUOTA: "The account's quota or credit is used up, which no retry cures: add credit, raise the limit, or "
    "use another model.",
    ErrorKind.CONTEXT: "The request is larger than the model takes: drop or summarize old messages, shorten the tools' "
    "results, or use a model with a larger context window.",
    ErrorKind.UNKNOWN: "It was not tried again, for nothing says that this would help; Retry(classify=...) can tell "
    "the guard more about your errors.",
}


def retry_after(error: BaseException, *, now: float) -> float | None:
    """Seconds the provider asks to wait; None where it says nothing that makes sense. ``now`` is epoch seconds.

    Of the outermost error of the chain that has one: ``retry-after-ms``, ``retry-after`` (seconds, or a date:
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after), Google's ``RetryInfo``, or ``x-ratelimit-reset`` of a
    limit of which nothing remains. Of a group, the longest. At most a day.
    """
    return _asked(error, now, set())


def _asked(error: BaseException, now: float, seen: set[int]) -> float | None:
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < _LINKS:
        seen.add(id(link))
        headers = headers_of(link)
        asked = [_number(headers.get(name), 1000) for name in ("retry-after-ms", "x-ms-retry-after-ms")]
        asked += [_number(headers.get("retry-after"), 1), _date(headers.get("retry-after"), now)]
        asked += [_retry_info(attribute(link, "details")), _reset(headers, now)]
        found = [seconds for seconds in asked if seconds is not None][:1]
        if isinstance(link, BaseExceptionGroup):
            members = [_asked(member, now, seen) for member in link.exceptions[:_LINKS]]
            found = [seconds for seconds in members if seconds is not None]
        if found:
            return min(max(found), DAY)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return None


_NUMBER = re.compile(r"\d{1,300}(\.\d{1,300})?")
_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9}(?:\.\d+)?)s)?(?:(\d{1,9}(?:\.\d+)?)ms)?"
)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def _number(text: str | None, per_second: float) -> float | None:
    return float(text) / per_second if text and _NUMBER.fullmatch(text) else None


def _duration(text: Any) -> float | None:
    """Seconds of ``1s``, ``6m0s``, ``120ms``."""
    parts = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if parts is None or not any(parts.groups()):
        return None
    return sum(float(part) * unit for part, unit in zip(parts.groups(), _UNITS, strict=True) if part)


def _date(text: str | None, now: float) -> float | None:
    if not text or text[:1].isdigit() or text[:1] in "+-.":
        return None
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _retry_info(details: Any, depth: int = 0) -> float | None:
    """``retryDelay`` in the details of google-genai (JSON) or google-api-core (messages)."""
    if isinstance(details, Mapping):
        found = _duration(details.get("retryDelay"))
        return found if found is not None else _retry_info(list(details.values()), depth)
    delay = attribute(details, "retry_delay")
    seconds, nanos = attribute(delay, "seconds"), attribute(delay, "nanos")
    if isinstance(seconds, int) and seconds >= 0:
        return seconds + (nanos / 1e9 if isinstance(nanos, int) else 0.0)
    if isinstance(details, (list, tuple)) and depth < 6:
        return next((found for part in details[:50] if (found := _retry_info(part, depth + 1)) is not None), None)
    return None


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """The last of the resets of those limits that are used up; of a limit not used up, the reset says nothing.

    https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers; elsewhere a number of seconds, or of
    epoch seconds.
    """
    waits = []
    for name, text in headers.items():
        if not name.startswith("x-ratelimit-reset"):
            continue
        if headers.get(name.replace("-reset", "-remaining"), "0") != "0":
            continue
        seconds = _number(text, 1)
        if seconds is None:
            seconds = _duration(text)
        elif seconds > 1e9:
            seconds = max(0.0, (seconds / 1000 if seconds > 1e11 else seconds) - now)
        if seconds is not None:
            waits.append(seconds)
    return max(waits, default=None)


_MODEL_DEFAULT = 2
"""What openai's and anthropic's clients retry by default; both name it ``DEFAULT_MAX_RETRIES``."""


def sdk_retries(model: Any) -> int:
    """Calls that one attempt of ours may turn into by the model's own retries, less the one; 0 where nobody knows.

    Of a model: ``max_retries`` (None is openai's own default), or the retries of its botocore client. Of what is built
    around it: ``with_retry``, which multiplies with them.
    """
    calls = 1
    for _ in range(16):
        tries = attribute(model, "max_attempt_number")  # LangChain's RunnableRetry
        if isinstance(tries, int) and tries > 1:
            calls *= tries
        inner = attribute(model, "bound") or attribute(model, "first")
        if inner is None:
            break
        model = inner
    return calls * (1 + _own_retries(model)) - 1


def _own_retries(model: Any) -> int:
    retries = attribute(model, "max_retries")
    if isinstance(retries, int) and not isinstance(retries, bool):
        return max(0, retries)
    if retries is None and any("OpenAI" in cls.__name__ for cls in type(model).__mro__):
        return _MODEL_DEFAULT
    config = attribute(attribute(attribute(model, "client"), "meta"), "config")
    modes = attribute(config, "retries")
    if not isinstance(modes, Mapping):
        return 0
    # https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
    tries = modes.get("total_max_attempts", 5 if modes.get("mode") == "legacy" else 3)
    return max(0, tries - 1) if isinstance(tries, int) else 0
