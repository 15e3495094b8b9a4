"""An answer that somebody calls wrong is not served so again; its own readers alone may say so."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge import decisions
from edge.node import Node
from index.decision import DecisionSettings
from tests.fakes.doors import JSON, Answer, Door, ask, chat
from tests.fakes.indoors import Exchange, Indoors, answer, indoors
from tests.fakes.upstream import ScriptedUpstream

ASKED = "How do I center a div in CSS?"
REWORDED = "CSS: how to center a div?"
UNCHECKED = DecisionSettings(shadow_max=0.0)
KEYS = {"key-of-a": "a", "key-of-b": "b"}
A, B = "Bearer key-of-a", "Bearer key-of-b"
FEEDBACK, EXPLAIN = "/v1/feedback", "/v1/explain"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(tmp_path, semantic=UNCHECKED) as one:
        yield one


@pytest.fixture
async def tenants(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(tmp_path, semantic=UNCHECKED, keys=KEYS) as one:
        yield one


async def asked(house: Indoors, prompt: Any, **fields: str) -> Answer:
    got = await house.ask(prompt, **fields)
    house.answers.flush()
    return got


async def hit(house: Indoors, **fields: str) -> Answer:
    await asked(house, ASKED, **fields)
    got = await asked(house, REWORDED, **fields)
    assert got.cache["detail"] == "semantic"
    return got


def about(got: Answer, **over: Any) -> dict[str, Any]:
    return {"request_id": got.headers["x-request-id"], **over}


# What it does.


async def test_a_pair_that_was_called_wrong_is_not_served_again(house: Indoors) -> None:
    wrong = await hit(house)
    done = await house.post(FEEDBACK, about(wrong, verdict="wrong"))
    assert (done.status, done.json["quarantined"]) == (200, "pair")
    again = await asked(house, REWORDED)
    assert (again.cache["fwd"], again.cache["detail"]) == ("miss", "refuted")
    assert (await asked(house, ASKED)).cache["hit"] is True
    other = await asked(house, "In CSS, how do I center a div?")
    assert other.cache["detail"] == "semantic"


async def test_it_holds_the_other_way_round_as_well(house: Indoors) -> None:
    await house.post(FEEDBACK, about(await hit(house)))
    await asked(house, REWORDED)  # has an answer of its own now
    await house.post(FEEDBACK, about(await asked(house, ASKED)))  # and this one has none any more
    assert (await asked(house, ASKED)).cache["detail"] == "refuted"


async def test_it_is_remembered_after_a_restart(tmp_path: Path) -> None:
    async with indoors(tmp_path, semantic=UNCHECKED) as house:
        await house.post(FEEDBACK, about(await hit(house)))
    async with indoors(tmp_path, semantic=UNCHECKED) as house:
        assert (await asked(house, REWORDED)).cache["detail"] == "refuted"


@pytest.mark.parametrize("prompt", [ASKED, chat(ASKED, stream=True)])
async def test_an_answer_that_was_called_wrong_is_purged(house: Indoors, prompt: Any) -> None:
    """The answer to the very question, fresh or from memory, in whatever form."""
    await asked(house, prompt)
    kept = await asked(house, prompt)
    assert kept.cache["hit"] is True
    done = await house.post(FEEDBACK, about(kept))
    assert done.json["quarantined"] == "answer"
    assert (await asked(house, prompt)).cache["fwd"] == "miss"
    assert len(house.upstreams.calls) == 2
    assert (await house.post(FEEDBACK, about(kept))).status == 200


async def test_a_fresh_answer_may_be_wrong_too(house: Indoors) -> None:
    fresh = await asked(house, ASKED)
    await house.post(FEEDBACK, about(fresh))
    house.answers.flush()
    assert house.answers.stats.store.entries == 0
    assert (await asked(house, REWORDED)).cache["fwd"] == "miss"


async def test_said_twice_it_is_done_once(house: Indoors) -> None:
    wrong = await hit(house)
    first = await house.post(FEEDBACK, about(wrong))
    second = await house.post(FEEDBACK, about(wrong))
    assert (first.status, first.body) == (second.status, second.body)
    question = house.decisions.of(wrong.headers["x-request-id"])
    assert question is not None
    assert question.question is not None
    assert question.chosen is not None
    (one,) = house.answers.labels.known(question.question, [question.chosen.candidate])
    assert one.wrong == 1


async def test_said_twice_of_an_answer_its_successor_is_left_alone(house: Indoors) -> None:
    first = await asked(house, ASKED)
    await house.post(FEEDBACK, about(first))
    await asked(house, ASKED)
    await house.post(FEEDBACK, about(first))
    assert (await asked(house, ASKED)).cache["hit"] is True


async def test_an_answer_on_its_way_is_neither_kept_nor_shared_from_then_on(
    house: Indoors,
) -> None:
    wrong = await house.ask(ASKED, cache_control="no-store")
    gate = held(house)
    before = asking(house)
    await house.upstreams.called(2)
    await house.post(FEEDBACK, about(wrong))
    after = asking(house)
    try:
        await house.upstreams.called(3)
    finally:
        gate.set()
    assert "stored" not in (await before).cache
    assert (await after).cache["stored"] is True


async def test_of_many_answers_the_latest_can_be_named(
    house: Indoors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "DECISIONS_MAX", 2)
    first, second, third = [await asked(house, text) for text in ("one", "two", "three")]
    assert (await house.post(FEEDBACK, about(first))).status == 404
    assert (await house.post(FEEDBACK, about(second))).status == 200
    assert (await house.post(FEEDBACK, about(third))).status == 200
    assert len(house.decisions) == 2


# Who may, and how it has to be said.


@pytest.mark.parametrize("path", [FEEDBACK, EXPLAIN, "/feedback", "/explain"])
async def test_an_answer_that_is_not_known_is_404_in_the_shape_of_the_api(
    house: Indoors, path: str
) -> None:
    got = await house.post(path, {"request_id": "nobody-1"})
    assert got.status == 404
    assert got.error["type"] == "invalid_request_error"
    assert (got.error["code"], got.error["param"]) == ("unknown_request", "request_id")
    assert got.headers["x-request-id"]


@pytest.mark.parametrize("path", [FEEDBACK, EXPLAIN])
async def test_another_tenants_answer_does_not_exist(tenants: Indoors, path: str) -> None:
    mine = await hit(tenants, authorization=A)
    others = await tenants.post(path, about(mine), authorization=B)
    nobodys = await tenants.post(path, {"request_id": "nobody-1"}, authorization=B)
    assert (others.status, others.error) == (nobodys.status, nobodys.error)
    assert others.status == 404
    assert (await asked(tenants, REWORDED, authorization=A)).cache["detail"] == "semantic"
    assert (await tenants.post(path, about(mine), authorization=A)).status == 200


@pytest.mark.parametrize("path", [FEEDBACK, EXPLAIN])
@pytest.mark.parametrize("authorization", ["", "Bearer nobodys"])
async def test_where_keys_are_in_use_it_takes_one(
    tenants: Indoors, path: str, authorization: str
) -> None:
    mine = await hit(tenants, authorization=A)
    got = await tenants.post(path, about(mine), authorization=authorization)
    assert (got.status, got.error["code"]) == (401, "invalid_api_key")


WRONG: dict[str, tuple[Any, str | None]] = {
    "nothing": ({}, "request_id"),
    "no name": ({"verdict": "wrong"}, "request_id"),
    "a number": ({"request_id": 1}, "request_id"),
    "another verdict": ({"request_id": "test-1", "verdict": "right"}, "verdict"),
    "no verdict": ({"request_id": "test-1", "verdict": None}, "verdict"),
    "more": ({"request_id": "test-1", "answer": "x"}, None),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_said_wrongly_is_400_and_does_nothing(house: Indoors, name: str) -> None:
    await asked(house, ASKED)
    document, param = WRONG[name]
    got = await house.post(FEEDBACK, document)
    assert (got.status, got.error["param"]) == (400, param)
    assert (await asked(house, ASKED)).cache["hit"] is True


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"request_id": "a", "request_id": "b"}'])
async def test_what_is_no_json_object_is_400(house: Indoors, body: bytes) -> None:
    got = await house.request(JSON, body, FEEDBACK)
    assert got.status == 400
    assert got.error["type"] == "invalid_request_error"


async def test_what_somebody_said_is_in_no_log(
    house: Indoors, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await house.post(FEEDBACK, about(await hit(house)))
    assert "event=feedback" in caplog.text
    assert "div" not in caplog.text


# Explaining.


async def test_the_owner_is_shown_which_question_was_near(tenants: Indoors) -> None:
    mine = await hit(tenants, authorization=A)
    got = await tenants.post(EXPLAIN, about(mine), authorization=A)
    assert (got.status, got.json["served"], got.json["asked"]) == (200, "agree", REWORDED)
    assert got.json["class"] == "tenant:a|*|semantic"
    assert got.json["bound"]["max_error"] == 0.01
    (one,) = got.json["candidates"]
    assert (one["question"], one["passes"], one["veto"]) == (ASKED, True, None)
    assert 0.5 < one["similarity"] < 1
    assert one["score"] >= one["cut"]


async def test_whoever_shares_a_scope_sees_no_texts_of_others(house: Indoors) -> None:
    got = await house.post(EXPLAIN, about(await hit(house)))
    assert got.json["served"] == "agree"
    assert got.json["candidates"] == [{"stratum": "agree"}]
    assert "div" not in json.dumps(got.json)
    assert "similarity" not in json.dumps(got.json)


async def test_a_miss_is_explained_by_its_reason(tenants: Indoors) -> None:
    await asked(tenants, ASKED, authorization=A)
    miss = await asked(tenants, "How do I center 2 divs in CSS?", authorization=A)
    assert miss.cache["detail"] == "veto:number"
    got = await tenants.post(EXPLAIN, about(miss), authorization=A)
    assert (got.json["served"], got.json["reason"]) == (None, "veto:number")
    (one,) = got.json["candidates"]
    assert (one["stratum"], one["cut"], one["passes"]) == ("number", None, False)


async def test_who_joined_anothers_flight_may_ask_under_their_own_name(house: Indoors) -> None:
    gate = held(house)
    first, second = asking(house), asking(house)
    await house.upstreams.called(1)
    gate.set()
    answers = await asyncio.gather(first, second)
    assert len({one.headers["x-request-id"] for one in answers}) == 2
    for one in answers:
        got = await house.post(EXPLAIN, about(one))
        assert got.json["reason"] == "no-candidate"
        assert got.json["request_id"] == one.headers["x-request-id"]


def held(house: Indoors) -> asyncio.Event:
    """Upstreams answer once it is set."""
    gate = asyncio.Event()

    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in answer(exchange):
            yield piece

    house.upstreams.script = script
    return gate


def asking(house: Indoors) -> asyncio.Task[Answer]:
    return asyncio.get_running_loop().create_task(house.ask(ASKED))


# Through every door.


async def test_every_door_takes_feedback(door: Door, upstream: ScriptedUpstream) -> None:
    kept = await ask(door, "x")
    body = json.dumps(about(kept)).encode()
    told = await door.request("POST", EXPLAIN, JSON, body)
    assert (told.status, told.json["reason"]) == (200, "exact-only:too-short")
    done = await door.request("POST", FEEDBACK, JSON, body)
    assert (done.status, done.json["quarantined"]) == (200, "answer")
    assert done.headers["cache-control"] == "private, no-store"
    assert (await ask(door, "x")).cache["fwd"] == "miss"
    assert len(upstream.calls) == 2


async def test_every_door_refuses_what_is_not_posted_as_json(door: Door) -> None:
    got = await door.request("GET", FEEDBACK)
    assert (got.status, got.headers["allow"]) == (405, "POST, OPTIONS")
    plain = await door.request("POST", FEEDBACK, {"content-type": "text/plain"}, b"{}")
    assert plain.status == 415
    origin = {"origin": "https://chat.example", "access-control-request-method": "POST"}
    allowed = await door.request("OPTIONS", FEEDBACK, origin)
    assert (allowed.status, "POST" in allowed.headers["access-control-allow-methods"]) == (
        204,
        True,
    )
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example"


async def test_a_browser_may_read_what_became_of_its_feedback(door: Door, node: Node) -> None:
    kept = await ask(door, "x")
    headers = {**JSON, "origin": "https://chat.example"}
    for document in (about(kept), {"request_id": "nobody-1"}):
        got = await door.request("POST", FEEDBACK, headers, json.dumps(document).encode())
        assert got.headers["access-control-allow-origin"] == "https://chat.example"
