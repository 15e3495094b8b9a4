"""`POST /admin/warm`: put into the cache by the rules of any answer, and what became of it told."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge.node import Node
from index.entry import SHARED, Entry, NodeName, Purge, Timestamp
from tests.fakes.doors import Door, ask, chat, doors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import Exchange, ScriptedUpstream, completion

DAY_S = 86_400


async def warm(admin: aiohttp.ClientSession, prompt: Any, **order: Any) -> dict[str, Any]:
    async with admin.post("/admin/warm", json={"request": chat(prompt), **order}) as response:
        told: dict[str, Any] = await response.json()
        assert response.status == 200, told
        return told


async def refused(admin: aiohttp.ClientSession, order: Any) -> tuple[int, dict[str, Any]]:
    async with admin.post("/admin/warm", json=order) as response:
        return response.status, (await response.json())["error"]


async def test_what_was_warmed_is_a_hit_and_the_upstream_was_asked_once(
    admin: aiohttp.ClientSession, plain: Door, upstream: ScriptedUpstream
) -> None:
    told = await warm(admin, "Why is the sky blue?")
    assert (told["outcome"], told["asked"]) == ("stored", True)
    assert told["tokens"] == {"prompt": 9, "answer": 3}
    assert told["expires_at"] - told["generated_at"] == DAY_S
    assert (await ask(plain, "Why is the sky blue?")).cache["hit"] is True
    again = await warm(admin, "Why is the sky blue?")
    assert (again["outcome"], again["asked"]) == ("present", False)
    assert len(upstream.calls) == 1


async def test_a_refresh_asks_again(
    admin: aiohttp.ClientSession, plain: Door, upstream: ScriptedUpstream
) -> None:
    await ask(plain, "Why is the sky blue?")
    told = await warm(admin, "Why is the sky blue?", refresh=True, **{"return": True})
    assert told["outcome"] == "stored"
    answer = await ask(plain, "Why is the sky blue?")
    assert answer.text == "answer 2 to: Why is the sky blue?"
    assert answer.body.decode() == told["body"]


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    admin: aiohttp.ClientSession, plain: Door, upstream: ScriptedUpstream
) -> None:
    assert (await warm(admin, "Why?", dry_run=True))["outcome"] == "would-ask"
    assert (await warm(admin, "Why?", dry_run=True, answer="So."))["outcome"] == "would-store"
    assert upstream.calls == []
    await ask(plain, "Why?")
    assert (await warm(admin, "Why?", dry_run=True))["outcome"] == "present"


async def test_an_answer_that_is_given_is_kept_as_it_is_and_as_old_as_it_is(
    admin: aiohttp.ClientSession, plain: Door, upstream: ScriptedUpstream
) -> None:
    made_at = int(time.time()) - 3600  # noqa: TID251  the node's clock is the machine's
    body = json.dumps(completion("Rayleigh.", created=made_at), indent=1)
    told = await warm(admin, "Why is the sky blue?", body=body)
    assert (told["outcome"], told["asked"], told["generated_at"]) == ("stored", False, made_at)
    answer = await ask(plain, "Why is the sky blue?")
    assert answer.body.decode() == body
    assert int(answer.headers["age"]) >= 3600
    assert upstream.calls == []


async def test_an_answer_may_be_given_in_words(
    admin: aiohttp.ClientSession, plain: Door, upstream: ScriptedUpstream
) -> None:
    assert (await warm(admin, "Who are you?", answer="A shop."))["outcome"] == "stored"
    assert (await ask(plain, "Who are you?")).text == "A shop."
    streamed = await ask(plain, {**chat("Who are you?"), "stream": True})
    assert "A shop." in "".join(
        json.loads(event)["choices"][0]["delta"].get("content", "")
        for event in streamed.events[:-1]
    )
    assert upstream.calls == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"body": json.dumps(completion("x", created=1_600_000_000))}, "expired"),
        ({"body": json.dumps(completion(""))}, "empty"),
        ({"answer": completion("x", choices=[])}, "no-choices"),
    ],
)
async def test_a_given_answer_obeys_the_rules_of_any(
    admin: aiohttp.ClientSession, plain: Door, given: dict[str, Any], why: str
) -> None:
    told = await warm(admin, "Why is the sky blue?", **given)
    assert (told["outcome"], told["reason"]) == ("refused", why)
    assert (await ask(plain, "Why is the sky blue?")).cache["fwd"] == "miss"


async def test_what_would_not_be_stored_anyhow_is_not_asked_for(
    admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    secret = "Is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD still a valid key?"
    told = await warm(admin, secret)
    assert (told["outcome"], told["reason"]) == ("refused", "secret")
    assert upstream.calls == []


async def test_what_the_upstream_did_not_finish_is_not_kept_and_was_paid_for(
    admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    async def cut(exchange: Exchange) -> Any:
        document = completion("So it")
        document["choices"][0]["finish_reason"] = "length"
        return await exchange.json(document)

    upstream.script = cut
    told = await warm(admin, "Why is the sky blue?")
    assert (told["outcome"], told["reason"], told["asked"]) == ("refused", "finish-reason", True)
    assert told["tokens"]["answer"] == 3


async def test_an_upstream_that_is_busy_says_when_to_come_again(
    admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    async def busy(exchange: Exchange) -> Any:
        return await exchange.json({"error": {"message": "Slow down."}}, 429, retry_after="7")

    upstream.script = busy
    async with admin.post("/admin/warm", json={"request": chat("Why?")}) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "7")
        assert (await response.json())["error"]["code"] == "rate_limit_exceeded"


async def test_an_answer_under_way_during_a_purge_is_not_kept(
    admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()

    async def wait(exchange: Exchange) -> Any:
        await go_on.wait()
        return await upstream.answer(exchange)

    upstream.script = wait
    warmed = asyncio.get_running_loop().create_task(warm(admin, "Why is the sky blue?"))
    await upstream.called(1)
    async with admin.post("/admin/purge", json={"everything": True}) as response:
        assert response.status == 200
    go_on.set()
    told = await warmed
    assert (told["outcome"], told["reason"]) == ("refused", "purged")


async def test_labels_and_pins_are_put_on_what_is_there_without_asking(
    admin: aiohttp.ClientSession, node: Node, plain: Door, upstream: ScriptedUpstream
) -> None:
    before = await ask(plain, "Why is the sky blue?")
    order = {"labels": ["warm:launch", "sky"], "pin": True}
    told = await warm(admin, "Why is the sky blue?", **order, ttl_s=60)
    assert (told["outcome"], told["asked"]) == ("present", False)
    assert told["expires_at"] - told["generated_at"] == DAY_S
    entry = held(node, "Why is the sky blue?")
    assert (entry.labels, entry.pinned) == (("sky", "warm:launch"), True)
    assert (await ask(plain, "Why is the sky blue?")).body == before.body
    await warm(admin, "Why is the sky blue?", labels=["more"])
    entry = held(node, "Why is the sky blue?")
    assert (entry.labels, entry.pinned) == (("more", "sky", "warm:launch"), True)
    assert len(upstream.calls) == 1


async def test_nothing_has_more_labels_than_may_travel(admin: aiohttp.ClientSession) -> None:
    await warm(admin, "Why is the sky blue?", labels=[f"a{number}" for number in range(40)])
    order = {"request": chat("Why is the sky blue?"), "labels": [f"b{n}" for n in range(40)]}
    status, error = await refused(admin, order)
    assert (status, "more than 64 labels" in error["message"]) == (400, True)


async def test_where_no_answer_may_be_kept_none_is_asked_for(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with (
        running_node(tmp_path, upstream.base_url, cache={"mode": "off"}) as node,
        aiohttp.ClientSession(url(node, "admin")) as admin,
    ):
        told = await warm(admin, "Why is the sky blue?")
    assert (told["outcome"], told["reason"], upstream.calls) == ("refused", "off", [])


async def test_what_an_upstream_does_not_count_is_estimated(
    admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    async def script(exchange: Exchange) -> Any:
        return await exchange.json(completion("a" * 400, usage=None))

    upstream.script = script
    told = await warm(admin, "Why is the sky blue?")
    assert told["tokens"]["answer"] == 100
    assert told["tokens"]["prompt"] > 5


async def test_what_a_job_warmed_is_purged_by_its_label(
    admin: aiohttp.ClientSession, plain: Door
) -> None:
    await ask(plain, "Why is the sea salty?")
    await warm(admin, "Why is the sky blue?", labels=["warm:launch"])
    async with admin.post("/admin/purge", json={"label": "warm:launch"}) as response:
        assert (await response.json())["purged"] == 1
    assert (await ask(plain, "Why is the sky blue?")).cache["fwd"] == "miss"
    assert (await ask(plain, "Why is the sea salty?")).cache["hit"] is True


async def test_what_another_node_fetched_is_purged_with_it_whoever_labels_it(
    admin: aiohttp.ClientSession, node: Node, plain: Door
) -> None:
    await ask(plain, "Why is the sky blue?")
    own = held(node, "Why is the sky blue?")
    other = replace(own, stored_by=NodeName("sfo-1.3f9c2a1b"), version=node.fleet.stamp())
    assert node.answers.put(other, None)
    told = await warm(admin, "Why is the sky blue?", labels=["sky"])
    assert told["outcome"] == "present"
    entry = held(node, "Why is the sky blue?")
    assert (entry.stored_by, "sky" in entry.labels) == (own.stored_by, True)
    assert (await node.purges.purge(Purge(label="by:sfo-1.3f9c2a1b"))).matched == 1


async def test_a_life_of_its_own(admin: aiohttp.ClientSession) -> None:
    told = await warm(admin, "Why is the sky blue?", ttl_s=7 * DAY_S)
    assert told["expires_at"] - told["generated_at"] == 7 * DAY_S
    short = await warm(admin, "What is the weather today?", ttl_s=7 * DAY_S)
    assert short["expires_at"] - short["generated_at"] == 60  # it asks about now


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({}, "There is no request"),
        ({"request": "Why?"}, "There is no request"),
        ({"request": chat("x"), "requst": 1}, "Unknown: requst"),
        ({"request": chat("x"), "ttl_s": 0}, "ttl_s is more than 0"),
        ({"request": chat("x"), "ttl_s": 31 * DAY_S}, "ttl_s is more than 0"),
        ({"request": chat("x"), "ttl_s": True}, "ttl_s is a number"),
        ({"request": chat("x"), "pin": 1}, "pin is true or false"),
        ({"request": chat("x"), "labels": "a"}, "Labels are a list"),
        ({"request": chat("x"), "labels": [""]}, "A label is text"),
        ({"request": chat("x"), "labels": ["by:fra-1"]}, "none of the node's own"),
        ({"request": chat("x"), "tenant": ""}, "tenant is text"),
        ({"request": chat("x"), "answer": ""}, "answer is text"),
        ({"request": chat("x"), "answer": "a", "body": "{}"}, "Either an answer or a body"),
        ({"request": chat("x"), "body": "{}"}, "not a chat completion"),
        ({"request": chat("x"), "body": "x"}, "not a chat completion"),
        ({"request": chat("x"), "answer": {"error": {"message": "x"}}}, "not a chat completion"),
        ({"request": {"model": "m"}}, "messages"),
        ({"request": chat("x"), "tenant": "acme"}, "has no API keys"),
    ],
)
async def test_an_order_that_is_unclear_is_explained(
    admin: aiohttp.ClientSession, upstream: ScriptedUpstream, order: Any, said: str
) -> None:
    status, error = await refused(admin, order)
    assert status == 400
    assert said in error["message"]
    assert upstream.calls == []


async def test_with_keys_a_tenant_must_be_named_and_known(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings = {"keys": [{"tenant": "acme", "key_env": "ACME"}]}
    environ = {"ACME": "k-acme"}
    async with (
        running_node(tmp_path, upstream.base_url, environ=environ, **settings) as node,
        aiohttp.ClientSession(url(node, "admin")) as admin,
        doors(node) as every,
    ):
        for tenant in ({}, {"tenant": "other"}):
            status, error = await refused(admin, {"request": chat("Why?"), **tenant})
            assert (status, error["code"]) == (400, "no_such_tenant")
        assert (await warm(admin, "Why?", tenant="acme"))["outcome"] == "stored"
        answer = await ask(every[0], "Why?", authorization="Bearer k-acme")
        assert answer.cache["hit"] is True


async def test_a_page_in_a_browser_cannot_warm(admin: aiohttp.ClientSession) -> None:
    for path in ("/admin/warm", "/admin/import"):
        fields = {"content-type": "text/plain"}
        async with admin.post(path, data=b"{}", headers=fields) as response:
            assert response.status == 415


def held(node: Node, prompt: str) -> Entry:
    body = json.dumps(chat(prompt)).encode()
    hot = node.answers.recall(SHARED, node._insight.key_of(SHARED, body), Timestamp(time.time()))  # noqa: TID251
    assert hot is not None
    return hot.entry
