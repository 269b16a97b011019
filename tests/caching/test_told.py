"""What is read from the texts that LangChain gives a cache."""

from __future__ import annotations

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.caching.exact.told import Told, messages_in, normal, told

MODEL = '{"id": ["x"], "kwargs": {"model_name": "gpt-4o"%s}, "lc": 1, "type": "constructor"}---[%s]'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MODEL % ("", "('stop', None)"), Told(True, "gpt-4o", None, False)),
        (MODEL % (', "temperature": 0.0', "('stop', None)"), Told(True, "gpt-4o", 0.0, False)),
        (MODEL % (', "temperature": 0.7', "('temperature', 0)"), Told(True, "gpt-4o", 0.0, False)),
        (MODEL % (', "model_kwargs": {"temperature": 1}', ""), Told(True, "gpt-4o", 1.0, False)),
        (MODEL % ("", "('options', {'temperature': 0.1})"), Told(True, "gpt-4o", 0.1, False)),
        (MODEL % ("", "('f', <class 'a.B'>), ('temperature', 0.5)"), Told(True, "gpt-4o", 0.5, False)),
        (MODEL % ("", "('f', <a.B object at 0x7f00>)"), Told(True, "gpt-4o", None, True)),
        ("[('_type', 'ollama'), ('model', 'qwen'), ('temperature', 0.0)]", Told(True, "qwen", 0.0, False)),
        ("Sample LLM string configuration.", Told(False, "", None, False)),
        ("{no JSON", Told(False, "", None, False)),
        ("", Told(False, "", None, False)),
    ],
)
def test_a_models_text_says_its_name_and_temperature(text: str, expected: Told) -> None:
    assert told(text) == expected


def test_a_prompt_is_the_same_however_its_earlier_replies_were_made() -> None:
    def prompt(number: int, text: str = "four") -> str:
        usage = {"input_tokens": number, "output_tokens": 1, "total_tokens": number + 1}
        said = AIMessage(text, id=f"run-{number}", usage_metadata=usage, response_metadata={"id": f"chat-{number}"})  # type: ignore[arg-type]
        return dumps([SystemMessage("be kind"), HumanMessage("hi"), said, ToolMessage("x", tool_call_id="1")])

    assert prompt(1) != prompt(2)
    assert normal(prompt(1)) == normal(prompt(2))
    assert normal(prompt(1)) != normal(prompt(1, "five"))
    assert normal('a text with "response_metadata" in it') == 'a text with "response_metadata" in it'
    assert normal('["response_metadata"]') == '["response_metadata"]'


def test_the_messages_of_a_prompt_are_read_back() -> None:
    call = {"name": "f", "args": {"x": 1}, "id": "1", "type": "tool_call"}
    messages = [SystemMessage("be kind"), HumanMessage("hi"), AIMessage("", tool_calls=[call])]
    messages.append(ToolMessage("ok", tool_call_id="1", name="f"))
    assert messages_in(dumps(messages)) == messages
    assert messages_in("a text model's") == [HumanMessage("a text model's")]
