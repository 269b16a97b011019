"""What a call is for, and what its answer comes to: read from structure and a few words, as a stranger would.

Code is mended until it works, a pause lets time pass, a question in the frame of another asks about another thing; an
answer may say that there is nothing, or that something is under way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import islice
from typing import Any

from langchain_costguard.steering.policies.likeness import LONGEST_QUERY, MOST_FIELDS, SAMPLE, equal, spoken, words


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CODE_FIELDS = _set("bash cmd code command cypher expression script shell sparql sql statement")
_CODE = re.compile(
    r"""[=<>|;{}`\\] | (?<!\w)--?[A-Za-z]
    | ^\s*(?:SELECT|SHOW|DESC|DESCRIBE|EXPLAIN|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|USE|PRAGMA|MATCH|GRANT)\b
    | ^\s*(?i:select)\b.*\b(?i:from)\b""",
    re.VERBOSE,
)
"""Signs that no sentence has: operators, flags, and the verbs of query languages."""
_BARREN = _set(
    "no not none nothing never neither nor cannot unable without invalid unknown missing empty denied error errors "
    "exception fail failed fails failure refused rejected declined null nil undefined "
    "nicht kein keine nichts pas aucun aucune rien ningun ninguna nada não nao nenhum nessun nessuna niente "
    "geen niet"
)
_NOT = re.compile(r"n['\u2019]t\b | \w(?:Error|Exception)\b", re.VERBOSE)
_UNDER_WAY = _set(
    "running pending queued waiting processing progress starting scheduled building initializing initialising loading "
    "creating provisioning deploying uploading downloading working busy unchanged"
)
_BRIEF = 16
"""Words of the longest answer that is a state and nothing else."""
_PAUSE = re.compile(r"(?<![A-Za-z])(?:sleep|wait|pause|delay)(?![a-z])", re.IGNORECASE)


def is_code(arguments: Any, depth: int = 3) -> bool:
    """Whether any of the arguments is a query or a command in a language of its own: what is edited until it works."""
    if isinstance(arguments, str):
        return _is_code_text(arguments[:SAMPLE])
    if depth == 0 or not isinstance(arguments, (Mapping, list, tuple)):
        return False
    if not isinstance(arguments, Mapping):
        return any(is_code(value, depth - 1) for value in arguments[:MOST_FIELDS])
    return any(
        (isinstance(value, str) and _is_code_field(key)) or is_code(value, depth - 1)
        for key, value in islice(arguments.items(), MOST_FIELDS)
    )


# An agent's steps are looked at again after each of its calls.
@lru_cache(maxsize=512)
def _is_code_text(text: str) -> bool:
    return _CODE.search(text) is not None


def is_barren(text: str) -> bool:
    """Whether an answer says that there is nothing, or that something failed."""
    own = words(text)
    return not own or not own.isdisjoint(_BARREN) or _NOT.search(text[:SAMPLE]) is not None


def is_under_way(text: str) -> bool:
    """Whether an answer is a state that will pass: asking again later is what it asks for."""
    own = words(text)
    return len(own) <= _BRIEF and not own.isdisjoint(_UNDER_WAY)


def is_pause(name: str, arguments: Any) -> bool:
    """Whether a call lets time pass: by its tool's name, or as a command."""
    if _PAUSE.search(name):
        return True
    values = arguments.values() if isinstance(arguments, Mapping) else [arguments]
    return is_code(arguments) and any(isinstance(v, str) and _PAUSE.search(v[:SAMPLE]) for v in values)


def other_thing(one: Any, other: Any) -> frozenset[str]:
    """What a question is about, where another one in like words is about something else: else nothing."""
    mine, yours = spoken(one), spoken(other)
    return mine - yours if yours - mine else frozenset()


def substituted(one: Any, other: Any) -> bool:
    """Whether a question is another one with something put in another's place: the same frame around another thing."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(equal(value, other.get(key)) or substituted(value, other.get(key)) for key, value in one.items())
    if not (isinstance(one, str) and isinstance(other, str)) or max(len(one), len(other)) > LONGEST_QUERY:
        return False
    parts = SequenceMatcher(None, one.casefold().split(), other.casefold().split(), autojunk=False).get_opcodes()
    kinds = {kind for kind, *_ in parts}
    return kinds == {"equal", "replace"}


def _is_code_field(key: Any) -> bool:
    return isinstance(key, str) and key.casefold() in _CODE_FIELDS
