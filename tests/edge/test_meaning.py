"""The cache by meaning in a whole node: useful where it is safe, and silent where it is not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.node import Node
from tests.fakes.doors import Door, ask, chat, doors
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream, scripted_upstream

KEYS = {"A_KEY": "key-of-a", "B_KEY": "key-of-b"}
ASKED = "How do I center a div in CSS?"
REWORDED = "CSS: how to center a div?"


@pytest.fixture(scope="module", autouse=True)
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported once for all nodes here."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with scripted_upstream() as one:
        yield one


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
        await one.semantic_settled.wait()
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
    "history": {"messages": [*HISTORY, LAST]},
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


async def test_equal_histories_may_share(door: Door, node: Node) -> None:
    def turn(text: str) -> dict[str, Any]:
        return chat("", messages=[SYSTEM, *HISTORY, {"role": "user", "content": text}])

    await asked(door, node, turn(ASKED))
    assert (await asked(door, node, turn(REWORDED))).cache["detail"] == "semantic"


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
    assert await node.purge(Purge(model="test-model"), dry_run=False) == 1
    assert (await asked(door, node, REWORDED)).cache["fwd"] == "miss"
