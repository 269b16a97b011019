"""Counting by shape, by vocabulary, and the memory of counts."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from langchain_costguard.metering.pricing import encodings, tokens
from langchain_costguard.metering.pricing.shapes import MARGIN, count_by_shape
from langchain_costguard.metering.pricing.tokens import TextCounter, count_text
from langchain_costguard.vocabulary.usage import ModelRef

# Each text with its number of o200k tokens, counted by tiktoken 0.14.
TEXTS = {
    "English": (
        "The customer wrote twice about the missing parcel. We looked it up, found it at the depot in Leeds, and asked"
        " the driver to bring it round on Thursday between nine and eleven, since nobody is at home before that. Please"
        " let her know, and offer the usual voucher if she is still unhappy about it.",
        63,
    ),
    "Python": (
        'def total(rows: list[dict[str, int]]) -> int:\n    """Sum of the amounts of all paid rows."""\n'
        '    seen: set[int] = set()\n    result = 0\n    for row in rows:\n        if row["id"] in seen or not'
        ' row.get("paid"):\n            continue\n        seen.add(row["id"])\n        result += row["amount"]\n'
        "    return result\n",
        82,
    ),
    "JSON": (
        json.dumps(
            [
                {
                    "id": 1000 + i,
                    "name": f"item-{i}",
                    "price": round(9.99 * i, 2),
                    "tags": ["new", "sale"],
                    "stock": {"leeds": i, "york": 2 * i},
                }
                for i in range(8)
            ]
        ),
        394,
    ),
    "Chinese": (
        "顾客两次来信询问丢失的包裹。我们查了一下，发现它在利兹的仓库里，已经请司机在星期四九点到十一点之间送过去，"  # noqa: RUF001
        "因为在那之前家里没有人。请通知她，如果她仍然不满意，就送她一张优惠券。",  # noqa: RUF001
        72,
    ),
    "Hindi": (
        "ग्राहक ने खोए हुए पार्सल के बारे में दो बार लिखा। हमने देखा कि वह लीड्स के गोदाम में है और चालक से कहा कि वह उसे "
        "गुरुवार को नौ से ग्यारह बजे के बीच पहुँचा दे, क्योंकि उससे पहले घर पर कोई नहीं होता।",
        61,
    ),
    "Japanese": (
        "お客様から荷物が届かないというご連絡を二度いただきました。調べたところリーズの倉庫にあり、"
        "木曜日の九時から十一時の間に届けるよう運転手に頼みました。",
        54,
    ),
    "Russian": (
        "Клиентка дважды писала о пропавшей посылке. Мы нашли её на складе в Лидсе и попросили водителя привезти её в "  # noqa: RUF001
        "четверг между девятью и одиннадцатью часами, потому что раньше никого нет дома.",
        58,
    ),
    "Arabic": (
        "كتبت العميلة مرتين بشأن الطرد المفقود. وجدناه في المستودع وطلبنا من السائق أن يوصله يوم الخميس بين التاسعة "
        "والحادية عشرة لأنه لا يوجد أحد في المنزل قبل ذلك.",
        46,
    ),
    "base64": (
        base64.b64encode(b"".join(hashlib.sha256(bytes([i])).digest() for i in range(12))).decode(),
        350,
    ),
    "hex": ("".join(hashlib.sha256(bytes([i])).hexdigest() for i in range(6)), 217),
    "a log": (
        "\n".join(
            f"2026-03-1{i}T10:2{i}:0{i}.{137 * (i + 1):03d}Z [INFO] worker-{i} "
            f"req={hashlib.md5(bytes([i])).hexdigest()[:12]} took {31 * i + 7}ms path=/api/v1/users/{4711 + i}/orders"
            for i in range(8)
        ),
        360,
    ),
}


@pytest.mark.parametrize(("text", "true"), TEXTS.values(), ids=TEXTS.keys())
def test_a_count_by_shape_is_near_and_with_its_margin_never_short(text: str, true: int) -> None:
    counted = count_by_shape(text)
    assert counted * (1 + MARGIN) >= true
    assert counted <= 1.3 * true


@pytest.mark.parametrize(("text", "true"), TEXTS.values(), ids=TEXTS.keys())
def test_a_long_text_is_counted_from_samples_all_over_it(text: str, true: int) -> None:
    times = 60_000 // len(text)
    whole = (text + "\n") * times
    assert count_by_shape(whole) * (1 + MARGIN) >= true * times
    assert count_by_shape("word " * 20_000 + whole) >= 20_000 * 0.8


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("x", 1, 2),
        ("\ud800", 1, 4),
        ("a" * 5_000, 625, 5_000),
        ("👩‍💻🇩🇪" * 50, 300, 900),
        ("\x00" * 9, 1, 36),
    ],
)
def test_odd_texts_are_counted_too(text: str, least: int, most: int) -> None:
    assert least <= count_by_shape(text) <= most


@pytest.fixture
def no_vocabulary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no network, and nothing begun: the first seconds of a program on a machine without internet."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("COSTGUARD_TIKTOKEN_DOWNLOAD", "0")
    monkeypatch.setattr(encodings, "_threads", {})
    monkeypatch.setattr(encodings, "_ready", {})
    monkeypatch.setattr(encodings, "_loaded", lambda name: None)
    monkeypatch.setattr(tokens, "_counters", {})
    return tmp_path


@pytest.mark.usefixtures("no_vocabulary")
def test_without_a_vocabulary_a_text_is_counted_by_shape() -> None:
    assert not encodings.wait("o200k_base", 30)
    text, true = TEXTS["English"]
    assert count_text(text, ModelRef("openai", "gpt-4o")) == count_by_shape(text)
    assert abs(count_text(text, ModelRef("openai", "gpt-4o")) - true) <= 5


def test_a_damaged_file_in_the_cache_is_not_handed_to_tiktoken(
    no_vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "fb374d419588a4632f3f557e76b4b70aebbca790"
    (no_vocabulary / name).write_bytes(b"IQ== 0\n")
    monkeypatch.setattr(encodings, "_load", lambda name: pytest.fail("tiktoken would have downloaded"))
    assert not encodings.wait("o200k_base", 30)
    assert (no_vocabulary / name).exists()


@pytest.mark.usefixtures("no_vocabulary")
def test_an_encoding_nobody_has_is_no_error() -> None:
    assert encodings.encoder("o9000k_base") is None
    assert not encodings.wait("o9000k_base", 30)


@pytest.mark.usefixtures("no_vocabulary")
def test_when_the_vocabulary_comes_the_counts_become_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = TextCounter("o200k_base")
    counter.refresh()
    assert counter.count("one two three four") == count_by_shape("one two three four")
    monkeypatch.setitem(encodings._ready, "o200k_base", lambda text: [1] * 1_000)
    counter.refresh()
    assert counter.exact
    assert counter.count("one two three four") == 1_000


@pytest.mark.usefixtures("no_vocabulary")
def test_an_encoder_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> list[int]:
        raise RuntimeError("panic")

    monkeypatch.setitem(encodings._ready, "o200k_base", broken)
    counter = TextCounter("o200k_base")
    counter.refresh()
    assert counter.count("one two three four") >= 4


def test_a_text_is_measured_once_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    counter = TextCounter("o200k_base")
    monkeypatch.setattr(TextCounter, "_measure", lambda self, text: measured.append(text) or len(text))
    monkeypatch.setattr(tokens, "GENERATION_CHARS", 20_000)
    for _ in range(3):
        assert counter.count("the same text") == 13
    assert measured == ["the same text"]
    for i in range(2_000):
        counter.count(f"text number {i} " + "x" * 80)
    held = sum(map(len, counter.recent)) + sum(map(len, counter._old))
    assert held <= 45_000
    counter.count("huge " * 5_000)
    assert not any(len(text) > 10_000 for text in counter.recent)


def test_nothing_heavy_is_imported_with_the_room() -> None:
    code = (
        "import sys, langchain_costguard.metering.pricing.prices, langchain_costguard.metering.pricing.estimate,"
        " langchain_costguard.metering.pricing.reading\n"
        "print([m for m in ('tiktoken', 'genai_prices', 'numpy', 'langgraph', 'langchain.agents',"
        " 'langchain_core.language_models') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_program_that_ends_at_once_is_not_held_up_by_the_vocabulary(tmp_path: Path) -> None:
    code = "from langchain_costguard.metering.pricing import Estimator; print(Estimator().warm())"
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path), "https_proxy": "http://10.255.255.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, env=environment
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")
