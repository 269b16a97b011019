"""How a reply is cut, and which mistakes are refused."""

import pytest

from langchain_costguard.testing import FakeProvider, Reply
from langchain_costguard.testing.stuck import sample


@pytest.mark.parametrize(
    ("reply", "pieces"),
    [
        (Reply("one two  three\nfour"), ["one ", "two  ", "three\n", "four"]),
        (Reply(" lead and trail "), [" lead ", "and ", "trail "]),
        (Reply("  "), ["  "]),
        (Reply(""), []),
        (Reply(chunks=3), ["word0 ", "word1 ", "word2"]),
        (Reply("abcdefg", chunks=3), ["abc", "de", "fg"]),
        (Reply(chunks=["a", "b"]), ["a", "b"]),
        (Reply("ab", chunks=["a", "b"]), ["a", "b"]),
    ],
)
def test_a_text_is_cut_in_the_pieces_asked_for_and_nothing_is_lost(reply, pieces):
    assert reply.texts() == pieces
    assert "".join(pieces) == (reply.text or "".join(pieces))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_tokens", -1),
        ("output_tokens", -5),
        ("delay", -0.1),
        ("pace", -1),
        ("hold_after", -1),
        ("retry_after", -1),
        ("status", 99),
        ("status", 600),
        ("chunks", 0),
        ("chunks", 5),
        ("chunks", ["not", "it"]),
    ],
)
def test_a_mistake_is_refused_at_construction_and_named(field, value):
    with pytest.raises(ValueError, match=f"{field}=") as caught:
        Reply("text", **{field: value})

    assert repr(value) in str(caught.value)


def test_the_words_of_messages_and_tools_are_counted_as_input():
    words = {"name": "search", "description": "find things", "parameters": {"type": "object"}}
    with FakeProvider("ok") as provider:
        model = provider.openai()
        model.invoke([("system", "be brief"), ("user", "hello out there")])
        model.invoke("hello", tools=[{"type": "function", "function": words}])
        plain, with_tool = provider.requests

    assert plain.usage.input_tokens == 5
    assert with_tool.usage.input_tokens == 1 + 3


def test_sample_arguments_fit_their_schema():
    schema = {
        "type": "object",
        "required": ["name", "count", "mode", "tags", "place", "maybe", "sure"],
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer", "minimum": 5},
            "mode": {"enum": ["fast", "slow"]},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "place": {"$ref": "#/$defs/Place"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "number"}]},
            "sure": {"type": ["boolean", "null"]},
            "left_out": {"type": "string"},
        },
        "$defs": {"Place": {"properties": {"city": {"default": "Paris"}}, "required": ["city"]}},
    }

    assert sample(schema) == {
        "name": "the same again",
        "count": 5,
        "mode": "fast",
        "tags": ["the same again"] * 2,
        "place": {"city": "Paris"},
        "maybe": 1,
        "sure": True,
    }
    assert sample(schema) == sample(schema)


def test_a_schema_that_refers_to_itself_comes_to_an_end():
    node = {"properties": {"next": {"$ref": "#/$defs/Node"}}, "required": ["next"]}

    assert sample({"$ref": "#/$defs/Node", "$defs": {"Node": node}})["next"]
