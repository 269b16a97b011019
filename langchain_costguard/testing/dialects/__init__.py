"""The endpoints of the fake provider, each with the dialect it speaks."""

from langchain_costguard.testing.dialects.base import Answer, Dialect, so_far
from langchain_costguard.testing.dialects.chat import ChatCompletions
from langchain_costguard.testing.dialects.completions import Completions
from langchain_costguard.testing.dialects.embeddings import Embeddings
from langchain_costguard.testing.dialects.messages import Messages
from langchain_costguard.testing.dialects.responses import Responses

ENDPOINTS: dict[str, Dialect] = {
    "/v1/chat/completions": ChatCompletions(),
    "/v1/completions": Completions(),
    "/v1/responses": Responses(),
    "/v1/messages": Messages(),
    "/v1/embeddings": Embeddings(),
}

__all__ = ["ENDPOINTS", "Answer", "Dialect", "so_far"]
