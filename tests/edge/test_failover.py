"""What one upstream lacks the next may have; what was stored in the future is not fresh."""

import socket
from pathlib import Path
from typing import Any

import pytest

from edge import listen
from edge.ask import Query
from edge.dialects import Call
from edge.dialects.openai_chat import OpenAiChat
from edge.freshness import young_enough
from edge.policy import Allowed, Mode, Route
from edge.request import Head
from index.entry import CacheKey, Entry, Scope, Timestamp
from index.prompt import Prompt
from tests.fakes.doors import ask, doors
from tests.fakes.node import running_node
from tests.fakes.upstream import Exchange, scripted_upstream


async def unknown_model(exchange: Exchange) -> Any:
    return await exchange.json({"error": {"message": "no such model"}}, 404)


async def test_a_model_that_the_first_upstream_lacks_is_asked_of_the_next(tmp_path: Path) -> None:
    async with scripted_upstream() as first, scripted_upstream() as second:
        first.script = unknown_model
        urls = (first.base_url, second.base_url)
        async with running_node(tmp_path, *urls) as node, doors(node) as every:
            assert (await ask(every[0], "x")).text == "answer 1 to: x"
            second.script = unknown_model
            assert (await ask(every[0], "y")).status == 404


def test_an_answer_from_the_future_is_not_fresh() -> None:
    call = Call(Prompt("chat.completions", "m", b"{}"), False, False, None)
    allowed = Allowed(Mode.EXACT, lookup=True, store=True)
    key, scope = CacheKey(bytes(32)), Scope("shared")
    head = Head("POST", "/", "", "", {})
    query = Query(head, b"", OpenAiChat(), call, scope, key, allowed, Route(1, Mode.EXACT), 1, ())
    entry = Entry(scope, key, "m", b"", Timestamp(1000.0), Timestamp(2000.0), None)
    assert young_enough(query, entry, Timestamp(1500.0))
    assert young_enough(query, entry, Timestamp(999.0))
    assert not young_enough(query, entry, Timestamp(500.0))


def test_two_listeners_on_one_port_are_seen() -> None:
    first = listen.bind_tcp(listen.Address("127.0.0.1", 0))
    with first, pytest.raises(listen.ListenError, match="Address already in use"):
        listen.bind_tcp(listen.bound(first))


def test_every_address_is_one_that_there_is_with_and_without_ipv6() -> None:
    with listen.bind_tcp(listen.parse(":0")) as every:
        socket.create_connection(("127.0.0.1", listen.bound(every).port)).close()


async def test_case_15_trace_is_allowed_nowhere(tmp_path: Path) -> None:
    async with (
        scripted_upstream() as upstream,
        running_node(tmp_path, upstream.base_url) as node,
        doors(node) as every,
    ):
        for door in every:
            answer = await door.request("TRACE", "/nowhere")
            assert (answer.status, bool(answer.headers["allow"])) == (405, True)
