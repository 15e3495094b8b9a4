"""Nobody is ever served another tenant's answer, and nobody is served anything without a key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from edge.node import Node
from tests.fakes.doors import Door, ask, chat, doors
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream

KEYS = {"A_KEY": "key-of-a", "B_KEY": "key-of-b", "C_KEY": "key-of-c"}
SETTINGS = [{"tenant": name[0].lower(), "key_env": name} for name in KEYS]


def bearer(tenant: str) -> str:
    return f"Bearer key-of-{tenant}"


@pytest.fixture
async def node(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, upstream.base_url, environ=KEYS, keys=SETTINGS) as one:
        yield one


async def test_row_34_a_tenant_misses_what_another_has(
    door: Door, upstream: ScriptedUpstream
) -> None:
    assert (await ask(door, "x", authorization=bearer("a"))).cache["fwd"] == "miss"
    assert (await ask(door, "x", authorization=bearer("a"))).cache["hit"] is True
    other = await ask(door, "x", authorization=bearer("b"))
    assert (other.cache["fwd"], other.text) == ("miss", "answer 2 to: x")
    assert len(upstream.calls) == 2


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer key-of-d",
        "bearer-key-of-a",
        "Basic key-of-a",
        "Bearer ' OR 1=1--",
        "Bearer key-of-a key-of-b",
        "Bearer " + "x" * 7000,
        "Bearer \xe9\xff",
    ],
)
async def test_case_17_every_bad_key_gets_the_same_401(
    door: Door, upstream: ScriptedUpstream, authorization: str | None
) -> None:
    await ask(door, "cached", authorization=bearer("a"))
    expected = (await ask(door, "cached", authorization="Bearer wrong")).body
    fields = {} if authorization is None else {"authorization": authorization}
    answer = await ask(door, "cached", **fields)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="edge"'
    assert answer.body == expected
    assert "cache-status" not in answer.headers
    assert len(upstream.calls) == 1


async def test_models_need_a_key_and_preflights_do_not(door: Door) -> None:
    assert (await door.request("GET", "/v1/models")).status == 401
    assert (await door.request("OPTIONS", "/v1/models")).status == 204


async def test_a_clients_key_never_goes_upstream(door: Door, upstream: ScriptedUpstream) -> None:
    await ask(door, "x", authorization=bearer("a"), cookie="session=1", x_api_key="other")
    sent = upstream.calls[0].request.headers
    assert not {"authorization", "cookie", "x-api-key"} & {name.lower() for name in sent}


async def test_a_storm_of_tenants_and_leavers_mixes_nothing_up(
    node: Node, upstream: ScriptedUpstream
) -> None:
    """Security finding A8: every answer is its own question's, whoever left before."""
    chance = Random(7)
    tenants: dict[str, str] = {}

    async def one(door: Door, number: int) -> None:
        tenant, text = chance.choice("abc"), f"question {chance.randrange(40)}"
        asking = ask(door, chat(text, stream=bool(number % 2)), authorization=bearer(tenant))
        if chance.random() < 0.3:
            try:
                async with asyncio.timeout(chance.random() * 0.02):
                    await asking
            except TimeoutError:
                return
            return
        answer = await asking
        assert answer.status == 200
        words = answer.body.decode()
        if not number % 2:
            assert answer.text.endswith(f" to: {text}")
            # The same words for the same tenant and question, never for another tenant.
            assert tenants.setdefault(answer.text, tenant) == tenant
        else:
            assert words.endswith("data: [DONE]\n\n")

    async with doors(node) as every, asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(one(every[number % 3], number))
    assert len(upstream.calls) < 300
