"""``costguard doctor`` on programs guarded well, badly, or not at all. None of them may reach a provider."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.conftest import Done, Shell

UNGUARDED = """
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

def search(query: str) -> str:
    "Search."
    open("ran.txt", "w").close()
    return "nothing"

agent = create_agent(ChatOpenAI(model="gpt-4o"), [search], name="research")
agent.invoke({"messages": [("user", "hi")]})
"""

GUARDED = """
import asyncio
from langchain.agents import create_agent
from langchain_costguard import Budget, CostGuard
from langchain_costguard.testing import ScriptedChatModel

model = ScriptedChatModel()

def summarize(text: str) -> str:
    "Summarize a text."
    return model.invoke(text, config={"callbacks": []}).content

async def main():
    guard = CostGuard(Budget(per="session", usd="0.50"))
    agent = create_agent(model, [summarize], name="research")
    await agent.ainvoke({"messages": [("user", "hi")]}, config={"callbacks": [guard]})

asyncio.run(main())
"""

STEERED = """
from langchain.agents import create_agent
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import SteeredModel, steer

def search(query: str) -> str:
    "Search."
    open("ran.txt", "w").close()
    return "nothing"

guard = CostGuard(Budget(per="session", usd="0.50"))
model = ChatOpenAI(model="gpt-4o", max_retries=0)
agent = create_agent(model, [search], name="research", middleware=steer(guard))
agent.invoke({"messages": [("user", "hi")]})
chain = ChatPromptTemplate.from_template("{x}") | SteeredModel(model, steer(guard))
chain.invoke({"x": "hi"})
"""

PARTLY = """
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent, tools_condition
from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import SteeredModel, guarded_tools, steer

def search(query: str) -> str:
    "Search."
    return "nothing"

guard = CostGuard(Budget(per="session", usd="0.50", steps=9))
model = ChatOpenAI(model="gpt-4o", max_retries=0)
steered = SteeredModel(model, steer(guard)).bind_tools([search])
builder = StateGraph(MessagesState)
builder.add_node("agent", lambda state: {"messages": [steered.invoke(state["messages"])]})
builder.add_node("tools", guarded_tools([search], guard))
builder.add_node("file", lambda state: {})
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition, {"tools": "tools", "__end__": "file"})
builder.add_edge("tools", "agent")
builder.compile().invoke({"messages": [("user", "hi")]})
with guard.watch():
    create_react_agent(model, [search]).invoke({"messages": [("user", "hi")]})  # watched
"""

HOLES = """
import threading
from typing import TypedDict

import openai
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph

from langchain_costguard import Budget, CostGuard
from langchain_costguard.testing import ScriptedChatModel

guard = CostGuard(Budget(per="session", usd="0.50"))
mute = ChatOpenAI(model="gpt-4o-mini", stream_usage=False, max_retries=0)
free = ScriptedChatModel(provider="nobody", model="free")
vectors = OpenAIEmbeddings(max_retries=0, check_embedding_ctx_length=False)
RunnableLambda(len).with_config(callbacks=[guard]).invoke("a guard elsewhere binds nothing")

def tried(ask):
    try:
        ask()
    except Exception as error:
        print(type(error).__name__, error)

class State(TypedDict):
    text: str

def replaces(state):
    free.invoke("hi", config={"callbacks": []})  # replaced

def forgets(state):
    thread = threading.Thread(target=lambda: tried(lambda: free.invoke("hi")))  # forgotten
    thread.start()
    thread.join()

for node in (replaces, forgets):
    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
    tried(lambda: graph.with_config(callbacks=[guard]).invoke({"text": ""}))
tried(lambda: free.invoke("hi"))  # bare
tried(lambda: free.invoke("hi", config={"callbacks": [guard]}))  # given
tried(lambda: guard.wrap(free).invoke("hi"))  # wrapped
tried(lambda: list(mute.stream("hi", config={"callbacks": [guard]})))  # mute
tried(lambda: openai.OpenAI(max_retries=0).responses.create(model="gpt-4o", input="hi"))  # raw
tried(lambda: vectors.embed_query("hi"))  # embedded
tried(lambda: guard.wrap(vectors).embed_query("hi"))  # wrapped vectors
with guard.watch():
    tried(lambda: free.invoke("hi", config={"callbacks": []}))  # watched
"""

MIXED = """
import os, subprocess, sys
import openai
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

CHILD = "from langchain_openai import ChatOpenAI; print(len(ChatOpenAI(model='gpt-4o-mini').invoke('hi').text))"

def search(query: str) -> str:
    "Search."
    open("ran.txt", "w").close()
    return "nothing"

model = ChatOpenAI(model="gpt-4o", max_retries=0)
model.invoke("hi")
client = openai.OpenAI(max_retries=0)
client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])  # raw
client.embeddings.create(model="text-embedding-3-small", input="hi")  # raw too
create_agent(model, [search], name="research").invoke({"messages": [("user", "hi")]})
subprocess.run([sys.executable, "-c", CHILD], check=True)
subprocess.run(["sh", "-c", "echo $OPENAI_BASE_URL $OPENAI_API_KEY $GROQ_API_BASE > address.txt"], check=True)
subprocess.run([sys.executable, "-E", "-c", "pass"], check=True)  # left alone
raise LookupError("at the end")
"""

SERVES = """
from http.server import BaseHTTPRequestHandler, HTTPServer
from langchain_openai import ChatOpenAI
from langchain_costguard import Budget, CostGuard
guard = CostGuard(Budget(per="session", usd="0.50"))
model = ChatOpenAI(model="gpt-4o", max_retries=0)

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(model.invoke(body, {"callbacks": [guard]}).text)
        model.invoke("once more")  # forgotten

    def answer(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

import socket
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

IDLE = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = socket.create_server(("127.0.0.1", port))
time.sleep(99)
"""

EARLY = "import sys\nprint('where is', sys.argv[1])\nraise FileNotFoundError('settings.toml')\n"


@pytest.fixture(scope="module")
def visits(shared_shell: Shell) -> Iterator[Callable[[str], Done]]:
    """All the doctor's visits, two at once; each is waited for when it is asked for."""

    def begin(name: str, text: str, *options: str) -> Done:
        shared_shell.write(name, text)
        return shared_shell.run("doctor", "--seconds", "100", *options, name, "--usd", COLUMNS="200")

    with ThreadPoolExecutor(2) as doctors:
        started = {
            name: doctors.submit(begin, name, text, *options)
            for name, text, options in (
                ("unguarded.py", UNGUARDED, ()),
                ("guarded.py", GUARDED, ("--tools",)),
                ("steered.py", STEERED, ()),
                ("partly.py", PARTLY, ()),
                ("holes.py", HOLES, ()),
                ("mixed.py", MIXED, ()),
                ("serves.py", SERVES, ("--seconds", "25", "--request", 'POST /ask {"question": "hi"}')),
                ("idle.py", IDLE, ("--seconds", "8")),
                ("early.py", EARLY, ()),
            )
        }
        yield lambda name: started[name].result()


def _said(done: Done, text: str, where: str = "") -> str:
    """The mark and the verdict of a call site: it is found by the comment behind it, or by the call's name."""
    number = text[: text.index(f"# {where}\n")].count("\n") + 1 if where else 0
    pattern = rf"^  (\S+) .*\w+\.py:{number} +.*?  +(\S.*)$"
    found = re.search(pattern, done.stdout, re.M)
    assert found, (where, done.stdout)
    return f"{found[1]} {found[2].split('  ')[-1].strip()}"


def test_a_program_without_a_guard_is_judged_as_under_costguard_run(
    visits: Callable[[str], Done], shared_shell: Shell
) -> None:
    done = visits("unguarded.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "judged as it would run under `costguard run`" in done.stdout
    assert re.search(r"✔  model call +unguarded.py:11 +gpt-4o, .*refused before anything left", done.stdout)
    assert re.search(r"✔  tool call +unguarded.py:11 +search, .*refused before it ran", done.stdout)
    assert "may be sent up to 3 times" in " ".join(done.stdout.split())
    assert not (shared_shell.folder / "ran.txt").exists()


def test_a_guard_that_binds_is_proved_and_a_call_inside_a_tool_that_leaves_it_is_found(
    visits: Callable[[str], Done],
) -> None:
    done = visits("guarded.py")
    assert done.returncode == 1
    assert "Your guard: made at guarded.py:14." in done.stdout
    assert re.search(r"✔  model call +guarded.py:16 +gpt-4o, .*refused before anything left", done.stdout)
    assert re.search(r"✔  tool call +guarded.py:16 +summarize, .*refused before it ran", done.stdout)
    assert re.search(r"✘  model call +guarded.py:11 +gpt-4o, .*your guard never saw it", done.stdout)
    assert "guarded.py:11 (gpt-4o, agent research, node tools) sets `callbacks` anew" in " ".join(done.stdout.split())


def test_a_guard_that_steers_binds_though_nobody_attached_it(
    visits: Callable[[str], Done], shared_shell: Shell
) -> None:
    done = visits("steered.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"✔  model call +steered.py:16 +gpt-4o, .*refused before anything left", done.stdout)
    assert re.search(r"✔  tool call +steered.py:16 +search, .*refused before it ran", done.stdout)
    assert re.search(r"✔  model call +steered.py:18 +gpt-4o .*refused before anything left", done.stdout)
    assert not (shared_shell.folder / "ran.txt").exists()


def test_what_a_guard_that_is_attached_to_models_and_tools_alone_does_not_hear_is_told(
    visits: Callable[[str], Done],
) -> None:
    """And one that hears of all is believed, in whatever order LangChain has its handlers."""
    done = visits("partly.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert _said(done, PARTLY, "watched") == "✔ refused before anything left the process"
    advice = " ".join(done.stdout.split())
    assert "No guard hears of all that a graph's nodes do (file): it is attached to models or tools in them" in advice
    for other in ("guarded.py", "holes.py"):
        assert "No guard hears of all" not in " ".join(visits(other).stdout.split()), other


def test_every_way_past_a_guard_is_found_at_its_place(visits: Callable[[str], Done]) -> None:
    done = visits("holes.py")
    assert done.returncode == 1
    missed, refused = "✘ your guard never saw it", "✔ refused before anything left the process"
    for where in ("replaced", "forgotten", "bare"):
        assert _said(done, HOLES, where) == missed, where
    for where in ("given", "wrapped", "mute", "wrapped vectors", "watched"):
        assert _said(done, HOLES, where) == refused, where
    for where in ("raw", "embedded"):
        assert _said(done, HOLES, where) == "✘ no guard saw it, on its way to api.openai.com:443", where
    advice = " ".join(done.stdout.split())
    for said in (
        "sets `callbacks` anew, and so loses",
        "runs in a thread that was started without its context",
        "(free) has no guard attached",
        "calls openai without LangChain",
        "Wrap them: guard.wrap(OpenAIEmbeddings(...))",
        "(gpt-4o-mini) streams with `stream_usage` off",
        "5 call sites got past your guard.",
    ):
        assert said in advice, said


def test_what_comes_after_the_first_refusal_is_judged_and_no_child_reaches_a_provider(
    visits: Callable[[str], Done], shared_shell: Shell
) -> None:
    done = visits("mixed.py")
    assert done.returncode == 1
    for where in ("raw", "raw too"):
        assert _said(done, MIXED, where) == "✘ no guard saw it, on its way to its provider", where
    assert _said(done, MIXED, "left alone") == "✘ starts without the guard"
    assert re.search(r"✔  model call .*gpt-4o-mini, in a child process", done.stdout)
    assert re.search(r"-  inside tools .*search .*not judged: they were not run", done.stdout)
    assert "The program ended with LookupError: at the end" in done.stdout
    assert "3 call sites got past the guard." in done.stdout
    assert not (shared_shell.folder / "ran.txt").exists()
    address, key, other = (shared_shell.folder / "address.txt").read_text().split()
    assert address.startswith("http://127.0.0.1:")
    assert key == "sk-costguard-doctor"
    assert other == "https://api.groq.com.costguard.invalid"


def test_a_server_is_sent_a_request(visits: Callable[[str], Done]) -> None:
    done = visits("serves.py")
    assert done.returncode == 1
    assert _said(done, SERVES, "forgotten") == "✘ your guard never saw it"
    assert "refused before anything left the process" in done.stdout
    assert "POST /ask was answered 200 OK." in done.stdout
    idle = visits("idle.py")
    assert idle.returncode == 2
    assert "calls no model by itself: send it what it is for, with --request" in idle.stdout


def test_a_program_that_calls_no_model_is_told_with_its_error(visits: Callable[[str], Done]) -> None:
    done = visits("early.py")
    assert done.returncode == 2
    assert "Your program ended before its first model call: FileNotFoundError: settings.toml." in done.stdout
    assert "  where is --usd\n" in done.stdout
    assert '  File "' in done.stdout
    assert "trial 2" not in done.stdout


def test_bad_input_to_the_doctor_is_told_in_one_line(complaint: Callable[..., str]) -> None:
    assert complaint("doctor").startswith("doctor: which program?")
    assert complaint("doctor", "none.py") == "there is no script 'none.py', and no command of that name"
    assert complaint("doctor", "--seconds", "soon", __file__).startswith("--seconds: 'soon' must be a number")
    assert complaint("doctor", "--request", "ask", __file__).startswith("--request: 'ask' is not METHOD /path")
