"""How well the pricing room prices and estimates, on public data; ``bench_usage.py`` has how it reads.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_prices.py [prices|tokens|speed]

``TIKTOKEN_CACHE_DIR`` is set to the data's ``tiktoken_cache`` for the table "with vocabulary". The BFCL and
RouterArena rows need pyarrow; without it they are left out, and the table says so.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
import time
import timeit
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(DATA / "tiktoken_cache"))
os.environ.setdefault("COSTGUARD_TIKTOKEN_DOWNLOAD", "0")
sys.path.insert(0, str(ROOT))

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage  # noqa: E402

from langchain_costguard.metering.pricing import Estimator, PriceBook, encodings, shapes  # noqa: E402
from langchain_costguard.metering.pricing.dialects import from_raw  # noqa: E402
from langchain_costguard.metering.pricing.families import family_of  # noqa: E402
from langchain_costguard.metering.pricing.tokens import counter  # noqa: E402
from langchain_costguard.vocabulary.usage import ModelRef, Usage  # noqa: E402

Row = dict[str, Any]


def cassettes() -> list[Row]:
    with gzip.open(DATA / "tokens_provider_usage_cassettes" / "dev.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    cells = [head, *(tuple(str(c) for c in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        first, *rest = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print("  ".join([first, *rest]).rstrip())
    print()


# (a) prices -------------------------------------------------------------------------------------------------------


def bench_prices() -> None:
    with open(DATA / "prices_snapshot" / "dev.csv") as file:
        rows = list(csv.DictReader(file))
    tables: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        tables[f"{row['provider']}/{row['model']}"][row["source"].split("_")[0]] = row
    book, now = PriceBook(), time.time()
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    wrong = []
    for name, sources in sorted(tables.items()):
        ours, theirs = sources.get("genai"), sources.get("litellm")
        if not ours or not theirs or ours["found"] != "True" or theirs["found"] != "True":
            continue
        rates = book.rates(ModelRef(ours["provider"], ours["model"]), now)
        for column in ("input", "output", "cache_read", "cache_write"):
            if not ours[column] or not theirs[column] or float(ours[column]) != float(theirs[column]):
                continue
            got = getattr(rates, column) / 1e6 if rates else None
            sums[column][1] += 1
            sums[column][0] += got == float(ours[column])
            if got != float(ours[column]):
                wrong.append((name, column, ours[column], got))
    print("(a) Prices, where litellm and genai-prices agree: ours the same / compared\n")
    table(("price", "n/n"), [(column, f"{a}/{b}") for column, (a, b) in sums.items()])
    for row in wrong:
        print("   differs:", *row)


# (b) token estimates ----------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One request whose input tokens a provider has billed."""

    source: str
    model: str
    messages: list[BaseMessage]
    tools: list[Any]
    response_format: Any
    billed: int


def text_of(content: Any) -> Any:
    if isinstance(content, dict):
        return content.get("text") if isinstance(content.get("text"), str) else json.dumps(content)
    return "" if content is None else content


def call_of(name: Any, arguments: Any, call_id: Any) -> Any:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"input": arguments}
    arguments = arguments if isinstance(arguments, dict) else {"input": arguments}
    return {"name": str(name), "args": arguments, "id": str(call_id), "type": "tool_call"}


def from_chat(request: Row) -> Iterator[BaseMessage]:
    for message in request["messages"]:
        role, content = message["role"], text_of(message.get("content"))
        if role in ("system", "developer"):
            yield SystemMessage(content)
        elif role == "tool":
            yield ToolMessage(content, tool_call_id=message.get("tool_call_id") or "")
        elif role == "assistant":
            calls = message.get("tool_calls") or []
            yield AIMessage(
                content,
                tool_calls=[call_of(c["function"]["name"], c["function"]["arguments"], c["id"]) for c in calls],
            )
        else:
            yield HumanMessage(content)


def from_responses(request: Row) -> Iterator[BaseMessage]:
    if request.get("instructions"):
        yield SystemMessage(request["instructions"])
    given = request["input"]
    for item in given if isinstance(given, list) else [{"role": "user", "content": given}]:
        kind, role, content = item.get("type"), item.get("role"), text_of(item.get("content"))
        if kind == "function_call":
            yield AIMessage("", tool_calls=[call_of(item["name"], item["arguments"], item["call_id"])])
        elif kind == "function_call_output":
            yield ToolMessage(text_of(item["output"]), tool_call_id=item["call_id"])
        elif role in ("system", "developer"):
            yield SystemMessage(content)
        elif role == "user":
            yield HumanMessage(content)
        else:
            yield AIMessage(content if role else [item])


def from_anthropic(request: Row) -> Iterator[BaseMessage]:
    if request.get("system"):
        yield SystemMessage(text_of(request["system"]))
    for message in request["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "assistant":
            calls = [call_of(b["name"], b["input"], b["id"]) for b in blocks if b.get("type") == "tool_use"]
            yield AIMessage(blocks, tool_calls=calls)
            continue
        for block in blocks:
            if block.get("type") == "tool_result":
                yield ToolMessage(text_of(block.get("content")), tool_call_id=block["tool_use_id"])
        rest = [b for b in blocks if b.get("type") != "tool_result"]
        if rest:
            yield HumanMessage(rest)


def from_gemini(request: Row) -> Iterator[BaseMessage]:
    system = request.get("systemInstruction")
    if system:
        yield SystemMessage([text_part(p) for p in system.get("parts", [])])
    for message in request["contents"]:
        calls, blocks = [], []
        for part in message.get("parts") or []:
            if "functionCall" in part:
                calls.append(call_of(part["functionCall"]["name"], part["functionCall"].get("args") or {}, ""))
            elif "functionResponse" in part:
                yield ToolMessage(json.dumps(part["functionResponse"].get("response")), tool_call_id="")
            else:
                blocks.append(text_part(part))
        if message.get("role") == "model":
            kept = {str(i): p.get("thoughtSignature") for i, p in enumerate(message.get("parts") or [])}
            extra = {"__gemini_function_call_thought_signatures__": {k: v for k, v in kept.items() if v}}
            yield AIMessage(blocks, tool_calls=calls, additional_kwargs=extra)
        elif blocks:
            yield HumanMessage(blocks)


def from_converse(request: Row) -> Iterator[BaseMessage]:
    if request.get("system"):
        yield SystemMessage([text_part(p) for p in request["system"]])
    for message in request["messages"]:
        calls, blocks = [], []
        for part in message["content"]:
            if "toolUse" in part:
                use = part["toolUse"]
                calls.append(call_of(use["name"], use["input"], use["toolUseId"]))
            elif "toolResult" in part:
                result = part["toolResult"]
                yield ToolMessage([text_part(p) for p in result["content"]], tool_call_id=result["toolUseId"])
            elif "cachePoint" not in part:
                blocks.append(text_part(part))
        if message["role"] == "assistant":
            yield AIMessage(blocks, tool_calls=calls)
        elif blocks:
            yield HumanMessage(blocks)


def text_part(part: Row) -> Row:
    return {"type": "text", "text": part["text"]} if isinstance(part.get("text"), str) else part


def reader_of(row: Row) -> Callable[[Row], Iterator[BaseMessage]] | None:
    request = row["request"]
    if not isinstance(request, dict) or row["kind"] != "chat":
        return None
    if "contents" in request:
        return from_gemini
    if "converse" in row["endpoint"] or "schemaVersion" in request:
        return from_converse
    if "input" in request and "encoding_format" not in request and "embed" not in str(request.get("model")):
        return from_responses
    if "messages" in request:
        return from_anthropic if "anthropic.com" in row["host"] else from_chat
    return None


SERVER_SIDE = (
    "previous_response_id", "conversation", "container", "mcp_servers", "context_management", "web_search_options",
)  # fmt: skip

STORED = ("additional_tools", "tool_search_output", "mcp_list_tools", "item_reference")


def unforeseeable(row: Row, case: Case) -> bool:
    """Whether the provider adds content that is not in the request: its own tools, stored conversations, files."""
    from langchain_costguard.metering.pricing.schemas import functions_of

    request = row["request"]
    if any(request.get(key) for key in SERVER_SIDE) or functions_of(case.tools)[1]:
        return True
    if any(isinstance(i, dict) and i.get("type") in STORED for i in request.get("input") or ()):
        return True
    blocks = [b for m in case.messages if isinstance(m.content, list) for b in m.content if isinstance(b, dict)]
    plain = {"text", "thinking", "reasoning", "tool_use", "input_text", "output_text"}
    return any(b.get("type") not in plain for b in blocks)


def from_cassettes() -> tuple[list[Case], int]:
    cases, left_out = [], 0
    for row in cassettes():
        read, usage = reader_of(row), from_raw(row["usage"])
        if read is None or usage is None or not usage.input_tokens:
            left_out += 1
            continue
        request = row["request"]
        tools = request.get("tools") or (request.get("toolConfig") or {}).get("tools") or []
        config = request.get("generationConfig") or {}
        wanted = (
            request.get("response_format") or (request.get("text") or {}).get("format")
            or (request.get("output_config") or {}).get("format") or request.get("outputConfig")
            or config.get("responseSchema") or config.get("responseJsonSchema")
        )  # fmt: skip
        model = row["model_reported"] or row["model_requested"] or ""
        case = Case("cassettes", model, list(read(request)), tools, wanted, usage.input_tokens)
        if unforeseeable(row, case):
            left_out += 1
        else:
            cases.append(case)
    return cases, left_out


def from_parquet() -> list[Case]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        print("pyarrow is not installed: the BFCL and RouterArena rows are left out.\n")
        return []
    cases = []
    for row in parquet.read_table(DATA / "routing_routerarena_sub10" / "dev.parquet").to_pylist():
        message = [HumanMessage(row["question"])]
        for model, column in (
            ("claude-3-haiku-20240307", "haiku_in_tok"),
            ("gemini-2.0-flash", "gemini_in_tok"),
        ):
            if row[column]:
                cases.append(Case("routerarena", model, message, [], None, int(row[column])))
    for row in parquet.read_table(DATA / "routing_bfcl_aug2024" / "dev.parquet").to_pylist():
        message = [HumanMessage(row["question"])]
        tools = [as_sent(function, row["category"]) for function in json.loads(row["functions_json"])]
        for column, billed in row.items():
            if column.startswith("in|") and "-FC" in column and billed and "yi-large" not in column:
                cases.append(Case("bfcl", column[3:].split("-FC")[0], message, tools, None, int(billed)))
    return cases


JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
SYNTAX = {"java": "Java 8 SDK", "javascript": "JavaScript"}


def as_sent(function: Row, category: str) -> Row:
    """A function as the leaderboard's own handler sends it: a note on its language, JSON schema's names of types."""
    if category == "rest":
        return dict(json_types(function))
    note = f" Note that the provided function is in {SYNTAX.get(category, 'Python 3')} syntax."
    sent = {**json_types(function), "description": function["description"] + note}
    if category in SYNTAX:
        language = SYNTAX[category].split()[0]
        for prop in sent["parameters"]["properties"].values():
            remark = f" This is {language} {prop['type']} type parameter in string representation."
            prop["description"] = prop.get("description", "") + remark
            prop["type"] = "string"
    return sent


def json_types(node: Any) -> Any:
    if isinstance(node, list):
        return [json_types(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {k: JSON_TYPES.get(v, v) if k == "type" and isinstance(v, str) else json_types(v) for k, v in node.items()}


def bench_tokens() -> None:
    cases, left_out = from_cassettes()
    print(
        f"(b) Input tokens estimated against tokens billed. {left_out} cassette rows left out: no request or usage, or"
    )
    print("    content the request does not hold (the provider's own tools, stored conversations, files).\n")
    cases += from_parquet()
    for exact in (True, False):
        ready = encodings.wait("o200k_base", 60) and encodings.wait("cl100k_base", 60) if exact else False
        if exact and not ready:
            print("no vocabulary found: the table with vocabulary is left out\n")
            continue
        if not exact:
            encodings._ready.clear()
            for encoding in ("o200k_base", "cl100k_base"):
                fresh = counter(encoding)
                fresh._encode, fresh.exact, fresh.recent, fresh._old = None, False, {}, {}
        print("with vocabulary" if exact else "without vocabulary (by shape)")
        report(cases)


def report(cases: list[Case]) -> None:
    estimator = Estimator()
    errors: dict[tuple[str, str], list[tuple[float, bool, float]]] = defaultdict(list)
    for case in cases:
        guess = estimator.estimate(
            ModelRef("", case.model), case.messages, tools=case.tools, response_format=case.response_format
        )
        row = (guess.tokens / case.billed - 1, guess.upper >= case.billed, guess.upper / case.billed)
        errors[family_of(case.model).name, case.source].append(row)
        errors["all", case.source].append(row)
        if os.environ.get("COSTGUARD_BENCH_MISSES") and not row[1]:
            print("   miss", case.source, case.model, "billed", case.billed, guess, "tools", len(case.tools))
    rows = []
    for (family, source), values in sorted(errors.items()):
        off = sorted(abs(v[0]) for v in values)
        bound = sorted(v[2] for v in values)
        covered = sum(v[1] for v in values)
        rows.append(
            (
                family, source, len(values), f"{sum(off) / len(off):.1%}", f"{off[int(len(off) * 0.95)]:.1%}",
                f"{covered}/{len(values)}", f"{covered / len(values):.1%}", f"{bound[len(bound) // 2]:.2f}",
            )
        )  # fmt: skip
    table(("family", "rows", "n", "MAPE", "p95", "covered", "share", "upper/billed (median)"), rows)


# (c) speed --------------------------------------------------------------------------------------------------------


def micros(work: Callable[[], object], number: int) -> str:
    """Best of many short runs: what else the machine does disturbs most of them, but not all."""
    each = max(1, number // 200)
    return f"{min(timeit.repeat(work, number=each, repeat=600)) / each * 1e6:.2f}"


def history(characters: int) -> list[BaseMessage]:
    lorem = "The order 4711 was shipped on 3 May; the customer asks for a refund of $19.99 (policy §4). "
    each = max(20, characters // 61)
    messages: list[BaseMessage] = [SystemMessage((lorem * 20)[:each])]
    for i in range(30):
        messages.append(HumanMessage(f"{i} " + (lorem * 20)[:each]))
        messages.append(AIMessage(f"{i}: " + (lorem * 20)[:each]))
    return messages


def nothing() -> None:
    return None


def bench_speed() -> None:
    book, now = PriceBook(), time.time()
    model, usage = ModelRef("openai", "gpt-4o"), Usage(input_tokens=9_000, output_tokens=700)
    cached = Usage(input_tokens=9_000, output_tokens=700, cache_read=8_000)
    book.price(model, usage, now)
    estimator = Estimator()
    short = [SystemMessage("You are a helpful assistant."), HumanMessage("What is the capital of France?")]
    long = history(48_000)
    schemas = [
        {"type": "function", "function": {"name": f"tool_{i}", "description": "Looks something up.", "parameters": {
            "type": "object", "properties": {"key": {"type": "string", "description": "What to look for."}}}}}
        for i in range(10)
    ]  # fmt: skip
    rows = [
        ("(for scale: a call of a function that does nothing)", micros(nothing, 50_000)),
        ("price, warm (rates + charge)", micros(lambda: book.price(model, usage, now), 20_000)),
        ("price, warm, with cached reads", micros(lambda: book.price(model, cached, now), 20_000)),
        ("quote + ceiling, warm", micros(lambda: book.quote(model, now).ceiling(9_000, 700), 20_000)),
        ("price, first of a model", micros(lambda: PriceBook().price(model, usage, now), 200)),
    ]
    texts = counter("o200k_base")

    def cold(messages: list[BaseMessage]) -> None:
        texts.recent, texts._old = {}, {}
        estimator.estimate(model, messages)

    for exact in (False, True):
        if exact and not encodings.wait("o200k_base", 60):
            rows.append(("(no vocabulary found)", "-"))
            break
        if not exact:
            texts._encode = lambda text: [0] * shapes.count_by_shape(text)  # the shape estimate, kept in place
        else:
            texts._encode = encodings.encoder("o200k_base")
        texts.exact = True
        word = "exact" if exact else "by shape"

        texts.recent, texts._old = {}, {}
        estimator.estimate(model, long)
        estimator.estimate(model, short, tools=schemas)
        rows += [
            (
                f"estimate, 2 short messages, seen, {word}",
                micros(lambda: estimator.estimate(model, short), 5_000),
            ),
            (
                f"estimate, 61 messages of 48 KB, seen, {word}",
                micros(lambda: estimator.estimate(model, long), 2_000),
            ),
            (
                f"the same and 10 tools, same list, {word}",
                micros(lambda: estimator.estimate(model, long, tools=schemas), 2_000),
            ),
            (
                f"the same and 10 tools, a new list, {word}",
                micros(lambda: estimator.estimate(model, long, tools=list(schemas)), 1_000),
            ),
            (f"estimate, 61 messages of 48 KB, new, {word}", micros(lambda: cold(long), 5)),
        ]
    one = "".join(str(m.content) for m in long)
    rows.append(("one new text of 48 KB, by shape", micros(lambda: shapes.count_by_shape(one), 20)))
    print("(c) Speed, microseconds (best of 600 short runs)\n")
    table(("what", "us"), rows)


def main() -> int:
    if not os.environ.get("COSTGUARD_DATA") or not DATA.is_dir():
        print("COSTGUARD_DATA names no folder with the public data: nothing was measured.")
        return 0
    wanted = sys.argv[1:] or ["prices", "speed", "tokens"]
    for name in wanted:
        {"prices": bench_prices, "tokens": bench_tokens, "speed": bench_speed}[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
