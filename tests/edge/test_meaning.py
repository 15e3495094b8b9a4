"""The cache by meaning in a whole node: useful where it is safe, and silent where it is not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.node import Node
from tests.fakes.doors import Door, ask, chat, doors
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream

KEYS = {"A_KEY": "key-of-a", "B_KEY": "key-of-b"}
ASKED = "How do I center a div in CSS?"
REWORDED = "CSS: how to center a div?"


@pytest.fixture
async def node(upstream: ScriptedUpstream, tmp_path: Path, encoder: Path) -> AsyncIterator[Node]:
    keys = [{"tenant": name[0].lower(), "key_env": name} for name in KEYS]
    async with running_node(
        tmp_path,
        upstream.base_url,
        environ=KEYS,
        keys=keys,
        node={"models": str(encoder)},
        cache={"mode": "semantic"},
    ) as one:
        await one.meaning.settled.wait()
        yield one


@pytest.fixture
async def door(node: Node) -> AsyncIterator[Door]:
    async with doors(node) as every:
        yield every[0]


async def asked(door: Door, node: Node, prompt: Any, tenant: str = "a", **fields: str) -> Any:
    answer = await ask(door, prompt, authorization=f"Bearer key-of-{tenant}", **fields)
    node.answers.flush()  # found by meaning once it is written
    return answer


async def test_row_23_the_same_question_in_other_words(door: Door, node: Node) -> None:
    first = await asked(door, node, ASKED)
    again = await asked(door, node, REWORDED)
    assert again.headers["cache-status"].startswith("edge; hit; ttl=")
    assert again.cache["detail"] == "semantic"
    assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
    streamed = await asked(door, node, chat(REWORDED, stream=True))
    assert streamed.cache["detail"] == "semantic"
    assert streamed.events[-1] == "[DONE]"


SYSTEM = {"role": "system", "content": "Be brief."}
HISTORY = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LAST = {"role": "user", "content": REWORDED}

DIFFERENT: dict[str, dict[str, Any]] = {
    "model": {"model": "other-model"},
    "system": {"messages": [SYSTEM, LAST]},
    "temperature": {"temperature": 0},
    "top_p": {"top_p": 0.5},
    "seed": {"seed": 1},
    "max_tokens": {"max_tokens": 9},
    "stop": {"stop": ["x"]},
    "user": {"user": "u"},
    "unknown": {"something_new": 1},
    "tools": {"tools": [TOOL]},
    "format": {"response_format": {"type": "json_object"}},
    "n": {"n": 2},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": REWORDED}]}]},
    "picture": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": REWORDED}, PICTURE]}]
    },
}


async def test_whatever_else_differs_it_is_a_miss(door: Door, node: Node) -> None:
    await asked(door, node, ASKED)
    for name, other in DIFFERENT.items():
        answer = await asked(door, node, {**chat(REWORDED), **other})
        assert answer.cache.get("fwd") == "miss", name
    assert (await asked(door, node, REWORDED, tenant="b")).cache["fwd"] == "miss"
    assert (await asked(door, node, REWORDED)).cache["detail"] == "semantic"


# Conversations

ABOUT_TEA = [
    {"role": "user", "content": "How long should green tea steep?"},
    {"role": "assistant", "content": "Two to three minutes."},
]
ABOUT_CSS = [
    {"role": "user", "content": "What is the box model in CSS?"},
    {"role": "assistant", "content": "Content, padding, border and margin."},
]


def turn(text: str, *earlier: dict[str, Any], system: str = "Be brief.") -> dict[str, Any]:
    instructions = {"role": "system", "content": system}
    return chat("", messages=[instructions, *earlier, {"role": "user", "content": text}])


async def test_equal_histories_may_share(door: Door, node: Node) -> None:
    await asked(door, node, turn(ASKED, *HISTORY))
    assert (await asked(door, node, turn(REWORDED, *HISTORY))).cache["detail"] == "semantic"


async def test_a_turn_that_stands_alone_is_found_across_histories(door: Door, node: Node) -> None:
    for system, earlier in enumerate(((), HISTORY, ABOUT_TEA)):
        first = await asked(door, node, turn(ASKED, *earlier, system=f"{system}."))
        later = turn(REWORDED, *ABOUT_TEA, *HISTORY, system=f"{system}.")
        other = await asked(door, node, later)
        assert (other.cache["detail"], other.body) == ("semantic", first.body)
    instructed_otherwise = turn(REWORDED, *HISTORY, system="Be verbose.")
    assert (await asked(door, node, instructed_otherwise)).cache["fwd"] == "miss"


async def test_a_turn_that_leans_on_what_was_said_is_not(door: Door, node: Node) -> None:
    for leaning in ("How do I center it?", "And how do I center a div?", "How is that done?"):
        await asked(door, node, turn(leaning, *ABOUT_CSS))
        other = await asked(door, node, turn(leaning, *ABOUT_TEA))
        assert other.cache["fwd"] == "miss", leaning
        assert (await asked(door, node, turn(leaning, *ABOUT_CSS))).cache["hit"] is True


async def test_what_the_asker_said_of_themselves_keeps_a_turn_in_its_history(
    door: Door, node: Node
) -> None:
    vegan = {"role": "user", "content": "I'm vegan, answer briefly please."}
    reply = {"role": "assistant", "content": "Gladly."}
    meal = "What is a healthy breakfast for a runner?"
    await asked(door, node, turn(meal))
    assert (await asked(door, node, turn(meal, vegan, reply))).cache["fwd"] == "miss"


# Why not


@pytest.mark.parametrize("mode", ["exact", "off"])
async def test_a_caller_may_ask_for_its_own_words_only(door: Door, node: Node, mode: str) -> None:
    await asked(door, node, ASKED)
    assert "hit" not in (await asked(door, node, REWORDED, prompt_cache=mode)).cache


NEAR_MISSES = [
    ("What is the boiling point of water?", "What is the freezing point of water?"),
    ("How do I enable two-factor authentication?", "How do I disable two-factor authentication?"),
    ("Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?"),
    ("How do I convert a list to a tuple?", "How do I convert a tuple to a list?"),
    ("Is Python faster than Java?", "Is Java faster than Python?"),
    ("How many days are in 3 weeks?", "How many days are in 5 weeks?"),
    ("Who is the author of Hamlet?", "Who is the author of Macbeth?"),
    ("法国的首都是哪里？", "德国的首都是哪里？"),  # noqa: RUF001  as it is written
    ("word " * 300 + "red?", "word " * 300 + "blue?"),
]


@pytest.mark.parametrize(("first", "second"), NEAR_MISSES)
async def test_case_25_what_is_only_near_is_a_miss(
    door: Door, node: Node, first: str, second: str
) -> None:
    await asked(door, node, first)
    assert (await asked(door, node, second)).cache["fwd"] == "miss"


REASONS = {
    "How do I center 2 divs in CSS?": "veto:number",
    "How do I not center a div in CSS?": "veto:negation",
    "How do I sell a div in CSS?": "veto:content",
    "What is the weather in Paris today?": "exact-only:time-bound",
    "Write a poem about a div in CSS.": "exact-only:creative",
    "When is my next appointment?": "exact-only:personal",
    "What is 12 * 17?": "exact-only:maths",
    "Translate the word div to French": "exact-only:translation",
    "And the second one?": "exact-only:context",
    "See https://example.com/a about centering": "exact-only:identifier",
    "div": "exact-only:too-short",
    "word " * 300: "exact-only:too-long",
}


async def test_each_miss_says_why(door: Door, node: Node) -> None:
    first = await asked(door, node, ASKED)
    assert first.headers["cache-status"] == "edge; fwd=miss; stored; detail=no-candidate"
    for text, reason in REASONS.items():
        got = await asked(door, node, text)
        assert (got.cache["fwd"], got.cache["detail"]) == ("miss", reason), text
    fresh = await asked(door, node, ASKED, cache_control="no-cache")
    assert fresh.headers["cache-status"] == "edge; fwd=request; stored; detail=not-asked"
    tools = await asked(door, node, chat(REWORDED, tools=[TOOL]))
    assert tools.cache["detail"] == "exact-only:tools"
    streamed = await asked(door, node, chat("How do I center 3 divs in CSS?", stream=True))
    assert streamed.headers["cache-status"] == "edge; fwd=miss; detail=veto:number"


async def test_until_it_has_loaded_meaning_says_so(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The directory of models is a file: the encoder never loads, and all else goes on."""
    (tmp_path / "models").write_bytes(b"")
    async with running_node(tmp_path, upstream.base_url, cache={"mode": "semantic"}) as node:
        await node.meaning.settled.wait()
        async with doors(node) as every:
            got = await ask(every[0], ASKED)
            assert got.headers["cache-status"] == "edge; fwd=miss; stored; detail=warming"
            assert (await ask(every[0], ASKED)).cache["hit"] is True


SECRET = "My password is zebra-7431-kiosk, is that a strong password?"


async def test_a_secret_is_passed_on_and_nothing_of_it_kept(
    door: Door, node: Node, upstream: ScriptedUpstream
) -> None:
    for times in (1, 2):
        got = await asked(door, node, SECRET)
        assert got.headers["cache-status"] == "edge; fwd=bypass; detail=secret"
        assert len(upstream.calls) == times
    later = turn(ASKED, {"role": "user", "content": SECRET}, HISTORY[1])
    assert (await asked(door, node, later)).cache["detail"] == "secret"
    assert node.overview.status()["requests"]["bypass"] == 3
    await asked(door, node, ASKED)
    assert files_with(node, b"center a div in CSS")
    assert files_with(node, b"zebra-7431") == []


def files_with(node: Node, text: bytes) -> list[Path]:
    files = [file for file in node.config.node.data.rglob("*") if file.is_file()]
    return [file for file in files if text in file.read_bytes()]


async def test_what_is_asked_of_chance_is_asked_anew(door: Door, node: Node) -> None:
    for _ in range(2):
        got = await asked(door, node, "Tell me another joke")
        assert got.headers["cache-status"] == "edge; fwd=bypass; detail=chance"


async def test_an_operator_may_class_reasons_and_a_route_may_class_them_otherwise(
    upstream: ScriptedUpstream, tmp_path: Path, encoder: Path
) -> None:
    upstream.models = ["test-model", "strict"]
    async with running_node(
        tmp_path,
        upstream.base_url,
        node={"models": str(encoder)},
        cache={"mode": "semantic", "classes": {"amount": "bypass", "personal": "semantic"}},
        routes=[{"model": "strict", "classes": {"personal": "exact-only"}}],
    ) as node:
        await node.meaning.settled.wait()
        async with doors(node) as every:

            async def detail(text: str, model: str = "test-model") -> Any:
                got = await ask(every[0], chat(text, model=model))
                node.answers.flush()
                return got.cache["detail"]

            assert await detail("Who gets $5 from a tip?") == "amount"
            assert await detail("Where is my order?") == "no-candidate"
            assert await detail("Where's my order?") == "semantic"
            assert await detail("Where is my order?", "strict") == "exact-only:personal"


async def test_a_refreshed_answer_is_the_one_found_by_meaning(door: Door, node: Node) -> None:
    await asked(door, node, ASKED)
    await asked(door, node, ASKED, cache_control="no-cache")
    found = await asked(door, node, REWORDED)
    assert (found.cache["detail"], found.text) == ("semantic", f"answer 2 to: {ASKED}")


async def test_what_speaks_of_now_ages_quickly(door: Door, node: Node) -> None:
    await asked(door, node, "What is the weather in Paris today?")
    hit = await asked(door, node, "What is the weather in Paris today?")
    assert hit.cache["ttl"] <= 60


async def test_purged_meanings_are_gone(door: Door, node: Node) -> None:
    from index.entry import Purge

    await asked(door, node, ASKED)
    assert (await node.purges.purge(Purge(label="model:test-model"))).matched == 1
    assert (await asked(door, node, REWORDED)).cache["fwd"] == "miss"
