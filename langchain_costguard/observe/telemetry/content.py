"""What was said, for those who ask for it: in the conventions' shape, without keys, card numbers and addresses."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_costguard.observe.telemetry.naming import CONTENT_VARIABLE

Redact = Callable[[str], str]

_SECRETS = re.compile(
    r"""
    -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    | (?<![\w-])eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]+                   # a signed token
    | \b(?:sk|pk|rk|whsec|xox[abeprs]|gh[opsru]|glpat|hf|AIza|ya29|AKIA|ASIA|lsv2|github_pat)[-_]?[\w./+-]{12,}
    | (?i:bearer|basic)\s+[\w.~+/=-]{12,}
    | (?P<named>(?i:api[-_ ]?key|secret|token|passw(?:or)?d|pwd)["']?\s*[:=]\s*["']?)[^\s"',;}]{6,}
    | (?P<login>(?<!\w)\w++://[^\s/:@]*+:)[^\s/@]++(?=@)               # a password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)
# No attempt begins in the middle of a run: a text of one word is read once, not once for each of its letters.
_EMAIL = re.compile(r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]++@[\w-]++(?:\.[\w-]++)+")
_DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.]\d)")


def redacted(text: str) -> str:
    """The text without API keys, tokens, passwords, payment card numbers (by their check digit) and e-mail addresses.

    A net for what is easy to see, no promise: pass your own ``redact=`` for what your prompts may hold.
    """

    def secret(match: re.Match[str]) -> str:
        return f"{match['named'] or match['login'] or ''}[key]"

    text = _SECRETS.sub(secret, text)
    text = _EMAIL.sub("[e-mail]", text)
    return _DIGITS.sub(lambda match: "[card]" if _is_card(match[0]) else match[0], text)


def _is_card(text: str) -> bool:
    """Luhn's check, https://en.wikipedia.org/wiki/Luhn_algorithm."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = (digit if n % 2 == 0 else digit * 2 - 9 * (digit > 4) for n, digit in enumerate(digits))
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1


def wanted(content: bool | None) -> bool:
    """Whether prompts and replies may be exported: as the argument says, else as the conventions' variable does."""
    if content is not None:
        if not isinstance(content, bool):
            raise ValueError(f"content: {content!r} must be True, False or None")
        return content
    return os.environ.get(CONTENT_VARIABLE, "").upper() in ("SPAN_ONLY", "SPAN_AND_EVENT")


def messages_of(said: Any, redact: Redact) -> list[dict[str, Any]]:
    """What a model was given, or what it answered, as the conventions write messages."""
    if isinstance(said, str):
        return [{"role": "user", "parts": [_text(said, redact)]}]
    return [_message(message, redact) for message in said or ()]


def replies_of(outcome: Any, redact: Redact) -> list[dict[str, Any]]:
    """The replies of LangChain's ``LLMResult``."""
    generations = [g for group in getattr(outcome, "generations", None) or () for g in group]
    found = []
    for generation in generations:
        message = getattr(generation, "message", None)
        if message is None:
            found.append({"role": "assistant", "parts": [_text(str(getattr(generation, "text", "")), redact)]})
        else:
            found.append(_message(message, redact))
    return found


def instructions_and_rest(messages: Sequence[dict[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """The parts of system messages, and the other messages: the conventions keep them apart."""
    system = [part for message in messages if message["role"] == "system" for part in message["parts"]]
    return system, [message for message in messages if message["role"] != "system"]


def in_text(value: Any, redact: Redact) -> str:
    """Anything as JSON, redacted in every text of it."""
    return json.dumps(clean(value, redact), default=lambda other: redact(str(other)), ensure_ascii=False)


def clean(value: Any, redact: Redact) -> Any:
    """A copy with every text in it redacted, keys of mappings included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): clean(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(item, redact) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else redact(str(value))


_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}


def _text(text: str, redact: Redact) -> dict[str, Any]:
    return {"type": "text", "content": redact(text)}


def _message(message: Any, redact: Redact) -> dict[str, Any]:
    kind = str(getattr(message, "type", "user"))
    role = _ROLES.get(kind, kind)
    content = getattr(message, "content", message)
    if role == "tool":
        answer = {"type": "tool_call_response", "id": getattr(message, "tool_call_id", ""), "response": content}
        return {"role": role, "parts": [clean(answer, redact)]}
    blocks = [content] if isinstance(content, str) else list(content or ())
    parts = [_text(block, redact) if isinstance(block, str) else clean(block, redact) for block in blocks if block]
    for call in getattr(message, "tool_calls", None) or ():
        told = {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")}
        parts.append(clean(told, redact))
    return {"role": role, "parts": parts}
