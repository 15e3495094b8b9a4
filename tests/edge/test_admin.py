"""The operator's listener: probes, metrics, status and purges."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.doors import CHAT, JSON, SHORT, Answer, Door, ask, chat, doors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import Exchange, ScriptedUpstream

NOBODY: dict[str, Any] = {"confirmed": [], "unconfirmed": [], "revoked": False}
"""There are no other nodes."""


async def purge(admin: aiohttp.ClientSession, **what: Any) -> tuple[int, Any]:
    async with admin.post("/admin/purge", json=what) as response:
        return response.status, await response.json()


async def metrics(admin: aiohttp.ClientSession) -> dict[str, float]:
    async with admin.get("/metrics") as response:
        text = await response.text()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {s.name + "".join(f":{v}" for v in s.labels.values()): s.value for s in samples}


async def test_probes(admin: aiohttp.ClientSession) -> None:
    async with admin.get("/livez") as response:
        assert response.status == 200
    async with admin.get("/readyz") as response:
        facts = await response.json()
    assert (response.status, facts["state"], facts["semantic"]) == (200, "ready", "off")
    assert response.headers["cache-control"] == "no-store"


async def test_readyz_says_no_while_draining_and_livez_yes(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    go_on = asyncio.Event()

    async def wait(exchange: Exchange) -> Any:
        await go_on.wait()
        return await upstream.answer(exchange)

    upstream.script = wait
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        asked = asyncio.get_running_loop().create_task(ask(every[0], "slow"))
        await upstream.called(1)
        node.shut_down()
        async with aiohttp.ClientSession(url(node, "admin")) as admin:
            async with admin.get("/readyz") as response:
                assert (response.status, (await response.json())["state"]) == (503, "draining")
            async with admin.get("/livez") as response:
                assert response.status == 200
        go_on.set()
        assert (await asked).text == "answer 1 to: slow"


async def test_each_kind_of_answer_is_counted_as_itself(
    plain: Door, admin: aiohttp.ClientSession
) -> None:
    for prompt in ("a", "a", "b"):
        await ask(plain, prompt)
    await ask(plain, "a", cache_control="no-cache")
    await ask(plain, "a", prompt_cache="off")
    await ask(plain, {"model": "test-model"})
    counted = await metrics(admin)
    expected = {"exact": 1, "miss": 2, "request": 1, "bypass": 1, "refused": 1, "semantic": 0}
    for outcome, count in expected.items():
        assert counted[f"promptedge_requests_total:{outcome}"] == count
    assert counted["promptedge_request_seconds_count:exact"] == 1
    assert counted["promptedge_memory_entries"] == 2
    async with admin.get("/admin/status") as response:
        facts = await response.json()
    assert facts["requests"]["miss"] == 2
    assert facts["cache"]["memory"]["entries"] == 2


PURGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "everything": ({"everything": True}, {"one", "two", "other"}),
    "a model": ({"model": "test-model"}, {"one", "two"}),
    "a label": ({"label": "model:other"}, {"other"}),
    "a request": ({"request": chat("one")}, {"one"}),
    "a request of a model": ({"request": chat("one"), "model": "test-model"}, {"one"}),
    "nothing": ({"model": "absent"}, set()),
}


@pytest.mark.parametrize("name", PURGES)
async def test_what_was_purged_is_a_miss_and_the_rest_a_hit(
    plain: Door, admin: aiohttp.ClientSession, name: str
) -> None:
    prompts = {"one": chat("one"), "two": chat("two"), "other": chat("one", model="other")}
    for prompt in prompts.values():
        await ask(plain, prompt)
    what, gone = PURGES[name]
    assert await purge(admin, **what, dry_run=True) == (
        200,
        {"matched": len(gone), "purged": 0, **NOBODY},
    )
    assert (await ask(plain, prompts["one"])).cache.get("hit") is True
    assert await purge(admin, **what) == (
        200,
        {"matched": len(gone), "purged": len(gone), **NOBODY},
    )
    for key, prompt in prompts.items():
        hit = (await ask(plain, prompt)).cache.get("hit", False)
        assert hit is (key not in gone)


async def test_the_log_says_what_a_purge_was_narrowed_to(
    admin: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    await purge(admin, everything=True)
    await purge(admin, tenant="acme", label="launch")
    assert "event=purged entries=0 scope=- label=- soft=False" in caplog.text
    assert "event=purged entries=0 scope=tenant:acme label=launch soft=False" in caplog.text


async def test_a_soft_purge_makes_stale(plain: Door, admin: aiohttp.ClientSession) -> None:
    await ask(plain, "x")
    soft = {"model": "test-model", "soft": True}
    told = {"matched": 1, "purged": 0, **NOBODY}
    assert await purge(admin, **soft, dry_run=True) == (200, told)
    assert (await ask(plain, "x")).cache["hit"] is True
    assert await purge(admin, **soft) == (200, told)
    assert (await ask(plain, "x")).text == "answer 2 to: x"


async def test_an_answer_on_its_way_during_a_purge_is_not_kept(
    plain: Door, admin: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()

    async def wait(exchange: Exchange) -> Any:
        await go_on.wait()
        return await upstream.answer(exchange)

    upstream.script = wait
    asked = asyncio.get_running_loop().create_task(ask(plain, "x"))
    await upstream.called(1)
    await purge(admin, everything=True)
    go_on.set()
    answer: Answer = await asked
    assert answer.headers["cache-status"] == f"edge; fwd=miss; {SHORT}"
    assert (await ask(plain, "x")).cache["fwd"] == "miss"


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"everything": True, "model": "m"},
        {"modle": "m"},
        {"model": 3},
        {"model": None},
        {"model": ""},
        {"tenant": None},
        {"tenant": None, "model": "test-model"},
        {"everything": False},
        {"everything": None, "dry_run": False},
        [],
        {"request": {"model": "m"}},
        {"request": "x"},
    ],
)
async def test_an_unclear_purge_removes_nothing_and_is_explained(
    plain: Door, admin: aiohttp.ClientSession, what: Any
) -> None:
    await ask(plain, "x")
    async with admin.post("/admin/purge", json=what) as response:
        status, body = response.status, await response.json()
    assert status == 400
    assert "Say what to purge" in body["error"]["message"]
    assert (await ask(plain, "x")).cache["hit"] is True


async def test_an_answer_to_megabytes_can_be_purged(
    plain: Door, admin: aiohttp.ClientSession
) -> None:
    prompt = chat("x" * 2_000_000)
    await ask(plain, prompt)
    body = io.BytesIO(json.dumps({"request": prompt}).encode())
    async with admin.post("/admin/purge", data=body, headers=JSON) as response:
        assert await response.json() == {"matched": 1, "purged": 1, **NOBODY}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/admin/purge", 405), ("POST", "/livez", 405), ("GET", "/", 404)],
)
async def test_errors_are_json(
    admin: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with admin.request(method, path, json={}) as response:
        assert response.status == status
        assert (await response.json())["error"]["message"]
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 5000])
async def test_a_purge_that_is_not_json(admin: aiohttp.ClientSession, body: bytes) -> None:
    async with admin.post("/admin/purge", data=body, headers=JSON) as response:
        assert response.status == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9090", 200),
        ("[::1]:9090", 200),
        ("[::1]", 200),
        ("localhost:1", 200),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:9090", 421),
        ("evil.example", 421),
        ("", 421),
    ],
)
async def test_a_host_that_is_a_name_is_not_ours(
    admin: aiohttp.ClientSession, host: str, status: int
) -> None:
    """A name could be anybody's that was pointed here (DNS rebinding)."""
    async with admin.get("/livez", headers={"host": host}) as response:
        assert response.status == status


async def test_a_page_in_a_browser_cannot_purge(admin: aiohttp.ClientSession) -> None:
    body = json.dumps({"everything": True})
    for fields, status in (
        ({"content-type": "text/plain"}, 415),
        ({"host": "evil.example:9090", **JSON}, 421),
    ):
        async with admin.post("/admin/purge", data=body, headers=fields) as response:
            assert response.status == status
            assert "error" in await response.json()


async def test_the_two_listeners_do_not_serve_each_others_paths(
    plain: Door, admin: aiohttp.ClientSession
) -> None:
    for path in ("/metrics", "/readyz", "/admin/status", "/admin/purge"):
        assert (await plain.request("GET", path)).status == 404
    async with admin.post(CHAT, json=chat("x")) as response:
        assert response.status == 404
