"""Which models can do what a request needs, by their profiles."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_costguard.routing.abilities import able, profile_of, profiles
from langchain_costguard.routing.route import RouteRequest

NOTHING = {
    "tool_calling": False,
    "structured_output": False,
    "image_inputs": False,
    "audio_inputs": False,
    "video_inputs": False,
    "pdf_inputs": False,
    "max_input_tokens": 1000,
}
IMAGE = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
LINK = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
PDF = {"type": "file", "base64": "aGk=", "mime_type": "application/pdf"}


def asked(*content: Any, **other: Any) -> RouteRequest:
    message = HumanMessage(list(content)) if content else HumanMessage("Hello")
    return RouteRequest(messages=[message], **other)


def test_plain_text_asks_nothing_of_a_model() -> None:
    assert able(NOTHING, asked()) == ""
    assert able(NOTHING, asked({"type": "text", "text": "Hello"}, "there")) == ""
    assert able(NOTHING, RouteRequest(messages=[])) == ""


def test_a_model_without_a_profile_is_believed_able() -> None:
    everything = asked(IMAGE, tools=["a tool"], structured=True)
    assert able(FakeListChatModel(responses=["hi"]), everything, 10**9) == ""
    assert able({}, everything, 10**9) == ""
    assert able("local:nobody-knows", everything, 10**9) == ""


def test_what_a_profile_does_not_mention_it_does_not_deny() -> None:
    assert able({"name": "X", "image_inputs": None}, asked(IMAGE, tools=["a tool"], structured=True)) == ""


def test_tools_need_tool_calling() -> None:
    assert able(NOTHING, asked(tools=["a tool"])) == "it cannot call tools"
    assert able({**NOTHING, "tool_calling": True}, asked(tools=["a tool"])) == ""


def test_structured_output_comes_by_itself_or_through_a_tool() -> None:
    assert able(NOTHING, asked(structured=True)) == "it cannot give structured output"
    assert able({**NOTHING, "structured_output": True}, asked(structured=True)) == ""
    assert able({**NOTHING, "tool_calling": True}, asked(structured=True)) == ""


def test_a_prompt_longer_than_the_context_is_too_much() -> None:
    assert able(NOTHING, asked(), 1000) == ""
    assert able(NOTHING, asked(), 1001) == "it reads at most 1,000 tokens, and the request has 1,001"


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (IMAGE, "it cannot read images"),
        (LINK, "it cannot read images"),
        (INLINE, "it cannot read images"),
        ({"type": "input_image", "image_url": "https://example.com/a.png"}, "it cannot read images"),
        ({"type": "image", "source": {"type": "base64", "data": "aGk="}}, "it cannot read images"),
        ({"type": "audio", "base64": "aGk="}, "it cannot read audio"),
        ({"type": "input_audio", "input_audio": {"data": "aGk="}}, "it cannot read audio"),
        ({"type": "media", "mime_type": "audio/wav", "data": b"hi"}, "it cannot read audio"),
        ({"type": "video", "url": "https://example.com/a.mp4"}, "it cannot read video"),
        (PDF, "it cannot read PDF files"),
        ({"type": "document", "source": {"media_type": "application/pdf"}}, "it cannot read PDF files"),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "aGk="}}, "it cannot read PDF files"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk="}}, "it cannot read PDF files"),
        ({"type": "file", "mime_type": "text/plain", "text": "hello"}, ""),
        ({"type": "file", "file_id": "file-1"}, ""),
        ({"type": "tool_result", "content": [IMAGE]}, "it cannot read images"),
    ],
)
def test_images_and_files_need_a_model_that_reads_them(block: dict[str, Any], why: str) -> None:
    assert able(NOTHING, asked({"type": "text", "text": "Look"}, block)) == why


def test_an_image_by_its_address_needs_a_model_that_fetches_it() -> None:
    only_inline = {"image_inputs": True, "image_url_inputs": False}
    assert able(only_inline, asked(LINK)) == "it cannot read images by their address"
    assert able(only_inline, asked(INLINE)) == ""
    assert able(only_inline, asked(IMAGE)) == ""


def test_an_image_in_a_tools_result_needs_a_model_that_reads_it_there() -> None:
    in_prompts = {"image_inputs": True, "image_tool_message": False, "pdf_tool_message": False}
    assert able(in_prompts, asked(IMAGE)) == ""
    messages: list[BaseMessage] = [AIMessage(""), ToolMessage([IMAGE], tool_call_id="1")]
    assert able(in_prompts, RouteRequest(messages=messages)) == "it cannot read images in a tool's result"


def test_images_count_wherever_in_the_conversation_they_are() -> None:
    messages = [HumanMessage([IMAGE]), *[HumanMessage("and now?")] * 50]
    assert able(NOTHING, RouteRequest(messages=messages)) == "it cannot read images"


def test_a_chat_model_brings_its_own_profile() -> None:
    model = FakeListChatModel(responses=["hi"], profile={"tool_calling": False})
    assert able(model, asked(tools=["a tool"])) == "it cannot call tools"


def test_a_name_is_looked_up_in_its_integrations_profiles() -> None:
    assert profile_of("openai:gpt-4o")["tool_calling"] is True
    assert able("openai:o3-mini", asked(IMAGE)) == "it cannot read images"
    assert profile_of("openai:gpt-none") == {}


@pytest.mark.parametrize("provider", ["", "no-such", "../etc", "a.b", "core"])
def test_a_provider_without_profiles_has_none(provider: str) -> None:
    assert profiles(provider) == {}
