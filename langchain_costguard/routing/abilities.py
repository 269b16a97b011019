"""Can a model do what a request needs? By LangChain's model profiles; what no profile denies, it is believed to do."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_costguard.routing.route import RouteRequest

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

Profile = Mapping[str, Any]

_PACKAGES = {
    "azure_openai": "langchain_openai",
    "bedrock": "langchain_aws",
    "bedrock_converse": "langchain_aws",
    "google": "langchain_google_genai",
    "google_vertexai": "langchain_google_vertexai",
    "mistral": "langchain_mistralai",
}
"""Where the integration is not called as its provider is."""

_KINDS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "file": "file",
    "document": "file",
    "input_file": "file",
    "media": "file",
}
_INPUTS = (
    "image_inputs", "image_url_inputs", "audio_inputs", "video_inputs", "pdf_inputs", "image_tool_message",
    "pdf_tool_message",
)  # fmt: skip
_WORDS = {"image": "images", "audio": "audio", "video": "video", "pdf": "PDF files"}


def able(model: BaseChatModel | Profile | str, request: RouteRequest, tokens: int = 0) -> str:
    """Empty where the model can do what the request needs, or else the reason it cannot, in one sentence.

    Read of the profile are ``tool_calling``, ``structured_output``, ``image_inputs``, ``image_url_inputs``,
    ``audio_inputs``, ``video_inputs``, ``pdf_inputs``, ``image_tool_message``, ``pdf_tool_message`` and
    ``max_input_tokens``; a key that is absent denies nothing. Structured output may also come through a tool, as
    LangChain's agents do it: profiles of models that have it are known to deny it. A chat model also has to be able to
    take over what is bound to the request: ``request.declines``.

    Args:
        model: A chat model, its profile, or its name (``"openai:gpt-5-mini"``).
        request: What is asked.
        tokens: The request's input tokens; 0 where nobody counted them.
    """
    if not isinstance(model, (str, Mapping)) and (wrong := request.declines(model)):
        return wrong
    profile = profile_of(model)
    if not profile:
        return ""
    if request.tools and profile.get("tool_calling") is False:
        return "it cannot call tools"
    if request.structured and profile.get("structured_output") is False and profile.get("tool_calling") is not True:
        return "it cannot give structured output"
    most = profile.get("max_input_tokens")
    if isinstance(most, int) and 0 < most < tokens:
        return f"it reads at most {most:,} tokens, and the request has {tokens:,}"
    denied = {key for key in _INPUTS if profile.get(key) is False}
    return next((why for key, why in _inputs(request.messages) if key in denied), "") if denied else ""


def profile_of(model: BaseChatModel | Profile | str) -> Profile:
    """What LangChain knows of a model; empty where it knows nothing."""
    if isinstance(model, str):
        provider, _, name = model.partition(":")
        return profiles(provider).get(name, {}) if name else {}
    profile = model if isinstance(model, Mapping) else getattr(model, "profile", None)
    return profile if isinstance(profile, Mapping) else {}


@cache
def profiles(provider: str) -> Mapping[str, Profile]:
    """The profiles that a provider's integration carries, by model; empty where it is not installed or has none.

    They are read from their file: importing an integration takes a second or more.
    """
    package = _PACKAGES.get(provider, f"langchain_{provider}")
    try:
        spec = find_spec(package) if re.fullmatch(r"\w+", package) else None
        folders = spec.submodule_search_locations if spec is not None else None
        file = Path(next(iter(folders or ())), "data", "_profiles.py")
        found = runpy.run_path(str(file)).get("_PROFILES")
    except Exception:  # not installed, laid out otherwise, or broken: nothing is known then
        return {}
    return found if isinstance(found, dict) else {}


def _inputs(messages: Sequence[BaseMessage]) -> Iterator[tuple[str, str]]:
    """The profile's keys for what the messages carry besides text, and what to say where one is False."""
    for message in [message for message in messages if message.__dict__["content"].__class__ is not str]:
        for kind, linked in _carried(message.content):
            yield f"{kind}_inputs", f"it cannot read {_WORDS[kind]}"
            if linked:
                yield "image_url_inputs", "it cannot read images by their address"
            if isinstance(message, ToolMessage) and kind in ("image", "pdf"):
                yield f"{kind}_tool_message", f"it cannot read {_WORDS[kind]} in a tool's result"


def _carried(content: Any) -> Iterator[tuple[str, bool]]:
    """What a message's blocks carry (image, audio, video, pdf), and whether it is an image by its address."""
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, Mapping):
            continue
        kind = _KINDS.get(str(block.get("type")), "")
        if kind == "file":
            kind = _of_file(block)
        if kind:
            yield kind, kind == "image" and _address(block).startswith(("http://", "https://"))
        elif isinstance(block.get("content"), list):
            yield from _carried(block["content"])


def _of_file(block: Mapping[str, Any]) -> str:
    """What a file is by its MIME type or name; empty of one that is text or nobody knows."""
    parts = [block, *(block[key] for key in ("file", "source") if isinstance(block.get(key), Mapping))]
    told = [str(part.get(key) or "") for part in parts for key in ("mime_type", "media_type", "filename", "name")]
    told += [str(part.get("file_data") or "")[:40] for part in parts]
    for text in told:
        if "pdf" in text.lower():
            return "pdf"
        kind = text.removeprefix("data:").split("/", 1)[0]
        if kind in ("image", "audio", "video"):
            return kind
    return ""


def _address(block: Mapping[str, Any]) -> str:
    """The address an image is given by, in any provider's block; empty where it is given by its data."""
    places = [block, *(block[key] for key in ("image_url", "source") if isinstance(block.get(key), Mapping))]
    found = (place.get(key) for place in places for key in ("url", "image_url"))
    return next((address for address in found if isinstance(address, str)), "")
