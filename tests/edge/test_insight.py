"""Operators see why a request was decided as it was, and how well the bound is kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge.__main__ import main
from edge.metrics import CLASS_GAUGES
from edge.node import Node
from tests.fakes.doors import Answer, Door, ask, chat, doors
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream

KEYS = {"A_KEY": "key-of-a", "B_KEY": "key-of-b"}
ASKED = "How do I center a div in CSS?"
REWORDED = "CSS: how to center a div?"
NUMBERED = "How do I center 2 divs in CSS?"
CLASS = "tenant:a|*|semantic"


@pytest.fixture
async def node(upstream: ScriptedUpstream, tmp_path: Path, encoder: Path) -> AsyncIterator[Node]:
    async with running_node(
        tmp_path,
        upstream.base_url,
        environ=KEYS,
        keys=[{"tenant": name[0].lower(), "key_env": name} for name in KEYS],
        node={"models": str(encoder)},
        cache={"mode": "semantic"},
        semantic={"max_error": 0.02, "shadow_min": 0.0, "shadow_max": 1e-6},  # hardly ever checked
    ) as one:
        await one.meaning.settled.wait()
        yield one


@pytest.fixture
async def door(node: Node) -> AsyncIterator[Door]:
    async with doors(node) as every:
        yield every[0]


async def asked(door: Door, node: Node, prompt: Any, tenant: str = "a") -> Answer:
    got = await ask(door, prompt, authorization=f"Bearer key-of-{tenant}")
    node.answers.flush()
    return got


async def explained(admin: aiohttp.ClientSession, request_id: str) -> tuple[int, Any]:
    async with admin.get("/admin/explain", params={"request_id": request_id}) as got:
        return got.status, await got.json()


async def as_of_now(admin: aiohttp.ClientSession, **document: Any) -> tuple[int, Any]:
    async with admin.post("/admin/explain", json=document) as got:
        return got.status, await got.json()


async def test_a_hit_and_a_miss_are_explained_by_the_name_of_their_request(
    door: Door, node: Node, admin: aiohttp.ClientSession
) -> None:
    await asked(door, node, ASKED)
    hit = await asked(door, node, REWORDED)
    status, found = await explained(admin, hit.headers["x-request-id"])
    assert (status, found["served"], found["asked"]) == (200, "agree", REWORDED)
    (one,) = found["candidates"]
    assert (one["question"], one["veto"], one["passes"]) == (ASKED, None, True)
    assert (found["class"], found["bound"]["max_error"]) == (CLASS, 0.02)
    assert found["bound"]["semantic_hits"] == 1
    miss = await asked(door, node, NUMBERED)
    _, found = await explained(admin, miss.headers["x-request-id"])
    assert (found["served"], found["reason"]) == (None, "veto:number")
    assert (found["candidates"][0]["veto"], found["candidates"][0]["cut"]) == ("number", None)
    exact = await asked(door, node, ASKED)
    _, found = await explained(admin, exact.headers["x-request-id"])
    assert (found["served"], found["reason"], found["candidates"]) == ("exact", None, [])


@pytest.mark.parametrize("name", ["", "nobody-1"])
async def test_a_request_that_is_not_remembered_is_404_and_says_what_to_do(
    admin: aiohttp.ClientSession, name: str
) -> None:
    status, found = await explained(admin, name)
    assert status == 404
    assert "X-Request-Id" in found["error"]["message"]


async def test_a_request_is_explained_as_it_would_be_decided_now_and_nothing_is_served(
    door: Door, node: Node, admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    await asked(door, node, ASKED)
    status, found = await as_of_now(admin, tenant="a", request=chat(REWORDED))
    assert (status, found["served"], found["asked"]) == (200, "agree", REWORDED)
    assert found["candidates"][0]["question"] == ASKED
    status, found = await as_of_now(admin, tenant="a", request=chat(NUMBERED))
    assert (found["served"], found["reason"]) == (None, "veto:number")
    _, found = await as_of_now(admin, tenant="a", request=chat("What is the weather today?"))
    assert (found["reason"], found["asked"]) == ("exact-only:time-bound", None)
    for others in ({"tenant": "b"}, {}):
        _, found = await as_of_now(admin, **others, request=chat(REWORDED))
        assert (found["reason"], found["candidates"]) == ("no-candidate", [])
    assert len(upstream.calls) == 1
    assert node.answers.stats.semantic_hits == 0
    await asked(door, node, REWORDED)
    hit = node.overview.status()["bounds"]["classes"][0]
    assert (hit["semantic_hits"], node.overview.status()["requests"]["semantic"]) == (1, 1)


WRONG: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no request": {"tenant": "a"},
    "more": {"request": chat("x"), "model": "y"},
    "no chat": {"request": {"model": "x"}},
    "no object": {"request": "x"},
    "no name": {"request": chat("x"), "tenant": ""},
    "a number": {"request": chat("x"), "tenant": 5},
}


async def test_what_cannot_be_explained_is_400_with_the_reason(
    admin: aiohttp.ClientSession,
) -> None:
    for name, document in WRONG.items():
        status, found = await as_of_now(admin, **document)
        assert status == 400, name
        assert found["error"]["message"].endswith("."), name
        assert not found["error"]["message"].endswith(".."), name


async def test_the_status_says_how_well_the_bound_is_kept(
    door: Door, node: Node, admin: aiohttp.ClientSession
) -> None:
    await asked(door, node, ASKED)
    await asked(door, node, REWORDED)
    await asked(door, node, REWORDED)
    async with admin.get("/admin/status") as got:
        bounds = (await got.json())["bounds"]
    assert bounds["max_error"] == 0.02
    assert bounds["refuted_pairs"] == 0
    (one,) = bounds["classes"]
    assert (one["class"], one["semantic_hits"], one["labels"]) == (CLASS, 2, 0)
    assert (one["low"], one["high"]) == (0.0, 1.0)


async def test_the_bound_is_a_metric_by_class(
    door: Door, node: Node, admin: aiohttp.ClientSession
) -> None:
    await asked(door, node, ASKED)
    await asked(door, node, REWORDED)
    await asked(door, node, ASKED, tenant="b")
    async with admin.get("/metrics") as got:
        text = await got.text()
    for name in CLASS_GAUGES:
        assert f'promptedge_semantic_{name}{{class="{CLASS}"}} ' in text
        assert f'promptedge_semantic_{name}{{class="tenant:b|*|semantic"}} ' in text
    assert f'promptedge_semantic_max_error{{class="{CLASS}"}} 0.02' in text
    assert f'promptedge_semantic_error_hits{{class="{CLASS}"}} 1.0' in text
    assert "promptedge_refuted_pairs 0.0" in text
    assert 'promptedge_semantic_misses_total{reason="no-candidate"} 2.0' in text
    assert "div" not in text


# On the command line.


async def command(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["explain", *arguments])


async def test_explain_tells_people_and_machines(
    door: Door, node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = ("--admin", str(node.addresses["admin"]))
    await asked(door, node, ASKED)
    hit = await asked(door, node, REWORDED)
    assert await command(*admin, hit.headers["x-request-id"]) == 0
    told = capsys.readouterr().out
    assert f"asked    {REWORDED}\noutcome  served: agree\n" in told
    assert "bound    at most 2.0% wrong; so far 0.00% (0.00% to 100.00%), 0 checked" in told
    assert told.splitlines()[-1].startswith("* 0.")
    assert told.rstrip().endswith(ASKED)

    file = tmp_path / "request.json"
    file.write_text(json.dumps(chat(NUMBERED)))
    assert await command(*admin, "--request", str(file), "--tenant", "a") == 0
    told = capsys.readouterr().out
    assert "outcome  miss\nreason   veto:number\n" in told
    assert " closed " in told
    assert await command(*admin, "--request", str(file), "--tenant", "a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "veto:number"

    file.write_text(json.dumps(chat("What is the weather today?")))
    assert await command(*admin, "--request", str(file)) == 0
    assert "asked    (not by meaning)\n" in capsys.readouterr().out


async def test_explain_says_what_is_wrong_with_what_it_was_given(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = ("--admin", str(node.addresses["admin"]))
    file = tmp_path / "request.json"
    file.write_text("{")
    cases: list[tuple[tuple[str, ...], int, str]] = [
        ((), 2, "give either REQUEST_ID or --request FILE"),
        (("nobody-1", "--request", str(file)), 2, "give either"),
        (("nobody-1",), 1, "No such request is remembered"),
        (("--request", str(file)), 2, "request.json: not JSON: "),
        (("--request", str(tmp_path / "absent.json")), 2, "No such file"),
    ]
    for arguments, code, said in cases:
        assert await command(*admin, *arguments) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("promptedge: ")
        assert said in captured.err
    file.write_text('{"model": "m"}')
    assert await command(*admin, "--request", str(file)) == 1
    assert "messages" in capsys.readouterr().err
    assert await command("--admin", "127.0.0.1:1", "nobody-1") == 1
    assert "no node answers at 127.0.0.1:1" in capsys.readouterr().err
