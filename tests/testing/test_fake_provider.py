"""The fake provider itself: who waits, who hangs up, what is remembered."""

import asyncio
import gc
import http.client
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.errors import GraphRecursionError

from langchain_costguard.testing import FakeProvider, Reply, stuck_in_a_loop
from langchain_costguard.vocabulary.usage import Usage


@tool
def search(query: str, limit: int = 3) -> str:
    """Search the web."""
    return f"{limit} results for {query}"


def test_hundreds_of_calls_can_be_in_flight_at_once_and_all_complete():
    async def main(provider):
        model = provider.openai()
        calls = [asyncio.ensure_future(model.ainvoke(f"question {i}")) for i in range(400)]
        await asyncio.to_thread(provider.wait_until, lambda: holding(provider) == 400, 60)
        assert not any(call.done() for call in calls)
        provider.gate.set()
        return await asyncio.gather(*calls)

    def holding(provider):
        return len(provider.requests) == 400 and sum(r.holding for r in provider.requests)

    with FakeProvider("one two", gate=True) as provider:
        messages = asyncio.run(main(provider))

        assert {message.content for message in messages} == {"one two"}
        assert provider.usage().calls == 400
        assert provider.usage().output_tokens == 800


def test_threads_are_served_at_once():
    with FakeProvider("ok", gate=True) as provider, ThreadPoolExecutor(64) as pool:
        model = provider.openai()
        calls = [pool.submit(model.invoke, "hi") for _ in range(64)]
        provider.wait_for_requests(64)
        provider.gate.set()

        assert [call.result().content for call in calls] == ["ok"] * 64


def test_a_client_that_closes_its_stream_is_noticed_and_billed_to_the_chunk():
    with FakeProvider(Reply(chunks=100, hold_after=40)) as provider:
        stream = provider.openai().stream("three little words")
        words = [chunk.content for chunk in islice(_with_content(stream), 40)]
        stream.close()
        provider.wait_until_idle()

        (request,) = provider.requests
        assert len(words) == 40
        assert request.aborted
        assert not request.finished
        assert request.chunks_sent == 40
        assert request.usage == Usage(input_tokens=3, output_tokens=40)
        assert request.served is None


@pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")
@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_a_cancelled_async_stream_is_noticed(client):
    async def break_off(model):
        heard = asyncio.Queue()

        async def read():
            async for chunk in model.astream("hi"):
                if chunk.content:
                    heard.put_nowait(chunk)

        reader = asyncio.ensure_future(read())
        # Only a reader that waits can be cancelled: on Python 3.11, ChatOpenAI's asyncio.wait_for around each chunk
        # loses a cancellation that comes together with a chunk (https://github.com/python/cpython/issues/86296).
        for _ in range(8):
            await heard.get()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    with FakeProvider(Reply(chunks=10, hold_after=8)) as provider:
        asyncio.run(break_off(getattr(provider, client)()))
        provider.wait_until_idle()

        (request,) = provider.requests
        assert (request.aborted, request.chunks_sent) == (True, 8)


def test_a_cancelled_call_is_noticed_before_its_answer():
    async def main(provider):
        call = asyncio.ensure_future(provider.openai().ainvoke("two words"))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.to_thread(provider.wait_until_idle)

    with FakeProvider("never said", gate=True) as provider:
        asyncio.run(main(provider))

        assert provider.requests[0].aborted
        assert provider.requests[0].usage == Usage(input_tokens=2)


def test_a_held_stream_goes_on_when_the_gate_opens():
    with FakeProvider(Reply("one two three", hold_after=1)) as provider:
        stream = _with_content(provider.openai().stream("hi"))
        assert next(stream).content == "one "
        provider.wait_until(lambda: provider.requests[0].holding)
        assert provider.requests[0].chunks_sent == 1

        provider.gate.set()
        assert [chunk.content for chunk in stream] == ["two ", "three"]
        assert provider.requests[0].finished


def test_delay_and_pace_put_time_before_the_answer_and_between_its_pieces():
    with FakeProvider(Reply("one two three", delay=0.02, pace=0.01)) as provider:
        began = time.monotonic()
        list(provider.openai().stream("hi"))

        assert time.monotonic() - began >= 0.02 + 2 * 0.01


def test_a_request_that_the_provider_cannot_make_sense_of_is_not_left_waiting():
    with FakeProvider() as provider:
        connection = http.client.HTTPConnection(provider.anthropic_url.removeprefix("http://"))
        connection.request("POST", "/v1/chat/completions", '{"max_tokens": "many"}')
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()
        assert provider.openai().invoke("hi").content


def test_a_gate_that_is_set_and_cleared_lets_go_only_those_that_wait():
    with FakeProvider("ok", gate=True) as provider, ThreadPoolExecutor(2) as pool:
        first = pool.submit(provider.openai().invoke, "hi")
        provider.wait_until(lambda: any(request.holding for request in provider.requests))
        provider.gate.set()
        provider.gate.clear()
        assert first.result().content == "ok"

        second = pool.submit(provider.openai().invoke, "hi")
        provider.wait_until(lambda: provider.requests[-1].holding)
        assert not second.done()
        provider.gate.set()
        assert second.result().content == "ok"


def test_a_reply_can_depend_on_the_request():
    def echo(request):
        return f"{request.model} heard {request.messages[-1]['content']}"

    with FakeProvider(echo) as provider:
        assert provider.openai(model="gpt-4.1").invoke("a knock").content == "gpt-4.1 heard a knock"


def test_a_reply_function_that_raises_shows_in_the_clients_error():
    raised = pytest.raises(openai.InternalServerError, match="ZeroDivisionError")
    with FakeProvider(lambda request: 1 / 0) as provider, raised:
        provider.openai().invoke("hi")


def test_the_last_of_several_replies_repeats():
    with FakeProvider(["first", Reply("second")]) as provider:
        model = provider.openai()

        assert [model.invoke("hi").content for _ in range(3)] == ["first", "second", "second"]


def test_a_real_agent_calls_its_tool_and_reads_the_result(caller):
    def reply(request):
        last = request.messages[-1]
        if last["role"] == "tool":
            return f"I found {last['content']}"
        return Reply(tool_calls=[(request.tools[0].name, {"query": "cats", "limit": 2})])

    with FakeProvider(reply) as provider:
        agent = create_agent(provider.openai(), [search])
        state = caller.ask(agent, {"messages": [("user", "find cats")]})

        assert state["messages"][-1].content == "I found 2 results for cats"
        assert provider.usage().calls == 2


def test_an_agent_stuck_in_a_loop_repeats_one_call_until_it_is_stopped(caller):
    with FakeProvider(stuck_in_a_loop()) as provider:
        agent = create_agent(provider.openai(), [search])
        with pytest.raises(GraphRecursionError):
            caller.ask(agent, {"messages": [("user", "find cats")]}, config={"recursion_limit": 10})

        last = provider.requests[-1].messages
        asked = [m["tool_calls"][0]["function"]["arguments"] for m in last if m.get("tool_calls")]
        assert [json.loads(arguments) for arguments in asked] == [{"query": "the same again"}] * 4


def test_a_client_connection_is_kept_alive():
    with FakeProvider("ok") as provider:
        host = provider.anthropic_url.removeprefix("http://")
        connection = http.client.HTTPConnection(host)
        body = json.dumps({"model": "m", "messages": []})
        for _ in range(2):
            connection.request("POST", "/v1/chat/completions", body)
            used = connection.sock
            assert connection.getresponse().read()
            assert connection.sock is used
        connection.close()


def test_an_unknown_path_and_a_body_that_is_no_json_are_answered_plainly():
    with FakeProvider() as provider:
        connection = http.client.HTTPConnection(provider.anthropic_url.removeprefix("http://"))
        connection.request("POST", "/v1/unheard-of", "{}")
        missing = connection.getresponse()
        assert missing.status == 404
        assert "POST /v1/unheard-of" in missing.read().decode()
        connection.request("POST", "/v1/chat/completions", "not json")
        broken = connection.getresponse()
        assert broken.status == 400
        assert json.loads(broken.read())["error"]["type"] == "invalid_request_error"
        connection.request("GET", "/v1/models")
        assert json.loads(connection.getresponse().read())["object"] == "list"
        connection.close()
        assert provider.requests == []


def test_a_provider_that_stops_hangs_up_on_those_who_wait_and_can_start_again():
    provider = FakeProvider("ok", gate=True).start()
    outcome = []

    def call():
        try:
            provider.openai(max_retries=0).invoke("hi")
        except openai.APIConnectionError as error:
            outcome.append(error)

    waiting = threading.Thread(target=call)
    waiting.start()
    provider.wait_for_requests(1)
    provider.stop()
    waiting.join()
    assert len(outcome) == 1
    assert provider.requests[0].aborted
    with pytest.raises(RuntimeError, match="not running"):
        _ = provider.url

    provider.gate.set()
    with provider:
        assert provider.openai().invoke("hi").content == "ok"
    gc.collect()  # nothing left to complain about


def test_waiting_for_what_does_not_happen_times_out_and_says_what_did():
    with FakeProvider() as provider, pytest.raises(TimeoutError, match="requests: "):
        provider.wait_for_requests(1, timeout=0.01)


def test_a_provider_needs_at_least_one_reply():
    with pytest.raises(ValueError, match="reply=\\[\\]"):
        FakeProvider([])


def test_importing_the_package_does_not_import_its_testing_side():
    code = "import sys, langchain_costguard; print('langchain_costguard.testing' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "False"


def test_a_missing_client_package_is_named_with_the_extra_to_install(monkeypatch):
    with FakeProvider() as provider:
        for package, extra in (("langchain_openai", "openai"), ("langchain_anthropic", "anthropic")):
            monkeypatch.setitem(sys.modules, package, None)
            with pytest.raises(ImportError, match=rf"langchain-costguard\[{extra}\]"):
                getattr(provider, extra)()


def _with_content(stream):
    return (chunk for chunk in stream if chunk.content)
