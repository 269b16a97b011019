"""How much of ours a call executes, told in bytecodes: unlike seconds they do not scatter."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import langchain_costguard

ROOT = str(Path(langchain_costguard.__file__).parent)


def bytecodes(call: Callable[[], Any], warm: int = 30) -> int:
    """Bytecodes of ours that a call executes, when it has been called often."""
    for _ in range(warm):
        call()
    counts: Counter[str] = Counter()

    def trace(frame: Any, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            counts[frame.f_code.co_filename] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return sum(n for file, n in counts.items() if file.startswith(ROOT) and f"{ROOT}/testing/" not in file)
