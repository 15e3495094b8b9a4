"""`/v1/status` and `/status`: what everybody is told, at every door; and the same in refusals."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from edge.admission.plans import PlanSettings
from edge.console import upstreams as operated
from edge.kept import Kept
from edge.line import AdmissionSettings
from edge.node import Node
from edge.outlook import board
from edge.outlook.history import HOUR_S, Learned
from edge.routing.maintenance import Drain
from edge.routing.need import Need
from edge.routing.settings import MaintenanceSettings, UpstreamSettings
from tests.fakes.doors import JSON, Answer, Door, ask, chat, doors
from tests.fakes.eventually import until
from tests.fakes.indoors import Exchange as Asked
from tests.fakes.indoors import Indoors, indoors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import ScriptedUpstream

STATUS, PAGE = "/v1/status", "/status"
BOTH = pytest.mark.parametrize("path", [STATUS, PAGE])


# At every door


async def test_it_says_how_the_node_is(door: Door) -> None:
    answer = await door.request("GET", STATUS)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=5"
    assert answer.headers["x-request-id"]
    told = answer.json
    assert (told["object"], told["node"], told["time_zone"]) == ("status", "edge", "UTC")
    assert datetime.fromisoformat(told["generated_at"]).tzinfo is UTC
    assert told["load"] == {"level": "idle", "utilisation": 0.0}
    no_plan = {"plan": None, "weight": 1.0, "predicted_wait_s": 0.0, "wait_s_max": 7.5}
    assert told["queue"] == {"waiting": 0, "plans": [no_plan]}
    (one,) = told["upstreams"]
    assert (one["name"], one["tier"], one["state"]) == ("upstream 1", "primary", "healthy")
    assert (told["maintenance"], told["quiet_hours"], told["calmest_hour"]) == ([], None, None)
    hours = told["forecast"]["hours"]
    assert [one["utilisation"] for one in hours] == [None] * 24
    assert told["forecast"]["hour_s"] == 3600


async def test_the_page_is_for_people_and_runs_nothing(door: Door) -> None:
    answer = await door.request("GET", PAGE)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body.startswith(b"<!doctype html>")


@BOTH
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
async def test_other_methods_are_told_what_is_allowed(door: Door, path: str, method: str) -> None:
    answer = await door.request(method, path, JSON, b"" if method == "TRACE" else b"{}")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


@BOTH
async def test_head_is_get_without_its_body(door: Door, path: str) -> None:
    got, head = await door.request("GET", path), await door.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == pytest.approx(len(got.body), abs=20)


@pytest.mark.parametrize("path", [STATUS, PAGE, "/v1/models"])
async def test_who_has_it_is_told_so(door: Door, path: str) -> None:
    first, again = await twice(door, path)
    if again.status == 200:  # a new one had to be made in between
        first, again = await twice(door, path)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == first.headers["cache-control"]
    assert "content-type" not in again.headers
    assert (await door.request("GET", path, {"if-none-match": "*"})).status == 304
    assert (await door.request("GET", path, {"if-none-match": '"another"'})).status == 200
    assert (await door.request("GET", path)).status == 200  # the connection is in order


async def twice(door: Door, path: str) -> tuple[Answer, Answer]:
    """The second time with the tag of the first among others."""
    first = await door.request("GET", path)
    named = {"if-none-match": f'"x", W/{first.headers["etag"]}'}
    return first, await door.request("GET", path, named)


@BOTH
async def test_web_pages_may_ask_as_for_anything_else(door: Door, path: str) -> None:
    answer = await door.request("GET", path, {"origin": "https://chat.example"})
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    foreign = await door.request("GET", path, {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers
    options = await door.request("OPTIONS", path)
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_no_key_is_needed_and_the_operator_may_turn_it_off(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    keys = [{"tenant": "acme", "key_env": "KEY"}]
    environ = {"KEY": "secret"}
    async with (
        running_node(tmp_path, upstream.base_url, environ=environ, keys=keys) as node,
        doors(node) as every,
    ):
        for door in every:
            assert (await door.request("GET", "/v1/models")).status == 401
            assert (await door.request("GET", STATUS)).status == 200
            assert (await door.request("GET", PAGE)).status == 200
    async with (
        running_node(tmp_path, upstream.base_url, status={"public": False}) as node,
        doors(node) as every,
    ):
        for path in (STATUS, PAGE):
            answer = await every[0].request("GET", path)
            assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert "public" in await admin_status(node)


async def admin_status(node: Node) -> Any:
    async with (
        aiohttp.ClientSession(url(node, "admin")) as admin,
        admin.get("/admin/status") as response,
    ):
        return await response.json()


async def test_load_and_waits_are_metrics_too(node: Node) -> None:
    async with (
        aiohttp.ClientSession(url(node, "admin")) as admin,
        admin.get("/metrics") as response,
    ):
        lines = (await response.text()).splitlines()
    assert "promptedge_utilisation 0.0" in lines
    assert "promptedge_expected_utilisation NaN" in lines
    assert 'promptedge_predicted_wait_seconds{plan=""} 0.0' in lines


# What it tells


BEGINS = datetime(2027, 1, 15, 9, 0, tzinfo=UTC)
"""An hour after the clock of `indoors`: 2027-01-15T08:00:00Z."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    plans = (PlanSettings("free"), PlanSettings("pro", weight=4.0, queue_s=30.0))
    work = MaintenanceSettings("one", BEGINS, BEGINS.replace(hour=11))
    async with indoors(
        tmp_path,
        plans=plans,
        admission=AdmissionSettings(concurrency=2),
        upstreams=("one", UpstreamSettings("http://two/v1", "two", tier="secondary")),
        maintenance=[work],
        region="eu",
    ) as house:
        yield house


async def hang(asked: Asked) -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_load_and_waits_are_those_of_the_line(house: Indoors) -> None:
    assert house.board.told()["load"]["level"] == "idle"
    house.upstreams.script = hang
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(house.ask(f"x{at}")) for at in range(4)]
        await house.upstreams.called(2)
        await until(lambda: len(house.line) == 2)
        assert house.board.told()["load"]["level"] == "idle"  # made a moment ago
        house.clock.now += board.FRESH_S
        told = house.board.told()
        assert told["load"] == {"level": "overloaded", "utilisation": 2.0}
        assert told["queue"]["waiting"] == 2
        waits = {one["plan"]: one["predicted_wait_s"] for one in told["queue"]["plans"]}
        assert waits[None] == waits["free"] >= waits["pro"] > 0
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_maintenance_is_told_before_it_begins(house: Indoors) -> None:
    told = house.board.told()
    assert told["region"] == "eu"
    assert told["maintenance"] == [
        {
            "upstream": "one",
            "now": False,
            "begins_at": "2027-01-15T09:00:00Z",
            "ends_at": "2027-01-15T11:00:00Z",
            "duration_s": 7200,
        }
    ]
    house.clock.now += 3601
    told = house.board.told()
    assert told["maintenance"][0]["now"] is True
    assert [one["state"] for one in told["upstreams"]] == ["maintenance", "healthy"]
    assert told["upstreams"][0]["since"] == "2027-01-15T09:00:00Z"


async def test_it_learns_by_looking_and_tells_the_calm_hours(house: Indoors) -> None:
    for _ in range(25 * 60):
        house.board.look()
        house.clock.now += 60
    told = house.board.told()
    assert told["calmest_hour"]["days"] == 1
    assert told["quiet_hours"][0]["utilisation"] == 0.0
    assert sum(one["duration_s"] for one in told["quiet_hours"]) == 24 * 3600


def office_hours(hour: int) -> int:
    """Calls at a time: of 32, so many as an office has by the hour of the day; none at weekends."""
    return 0 if hour // 24 % 7 in (5, 6) else (2, 8, 28, 24, 16, 4)[hour % 24 // 4]


async def test_tomorrow_is_told_as_the_load_of_the_last_weeks_was(tmp_path: Path) -> None:
    async with indoors(tmp_path) as house:
        (one,) = house.pool.upstreams
        one.knee.most = 32  # what it bears is known
        need, calls = Need("test-model", 100), 0
        first = int(house.clock.now // HOUR_S)
        for minute in range(15 * 24 * 60):
            for _ in range(calls, office_hours(first + minute // 60)):
                one.begins(calls := calls + 1, need, house.clock.monotonic())
            for _ in range(office_hours(first + minute // 60), calls):
                one.ends(calls, need, "abandoned", house.clock.monotonic())
                calls -= 1
            house.board.look()
            house.clock.now += 60
        told = house.board.told()
        hours = range(first + 15 * 24, first + 16 * 24)
        expected = [office_hours(hour) / 32 for hour in hours]
        assert [one["weeks"] for one in told["forecast"]["hours"]] == [2] * 24
        got = [one["utilisation"] for one in told["forecast"]["hours"]]
        assert got == pytest.approx(expected, abs=0.02)
        calm = sum(one["duration_s"] for one in told["quiet_hours"])
        assert calm == 3600 * sum(share < 0.6 for share in expected) < 24 * 3600


# In refusals


def learned(utilisation: float, calm_hours: set[int]) -> Learned:
    """Of the week before the clock of `indoors`, the same each day."""
    known = Learned()
    first = int(1_800_000_000 // HOUR_S) - 168
    for hour in range(first, first + 168):
        slot = known.slots[hour % 168]
        slot.utilisation = 0.1 if hour % 24 in calm_hours else utilisation
        slot.weeks, slot.hour = 1, hour
    return known


async def test_whoever_is_refused_is_told_when_to_come(tmp_path: Path) -> None:
    plans = (PlanSettings("small", requests_per_minute=1, tokens_per_minute=50),)
    keys, key_plans = {"k": "acme"}, {"k": "small"}
    async with indoors(tmp_path, keys=keys, key_plans=key_plans, plans=plans) as house:
        house.board.history.learned = learned(0.9, {2, 3, 8})
        key = {"authorization": "Bearer k"}
        await house.ask("x", **key)
        refused = await house.ask("x", **key)
        assert refused.status == 429
        after_s = int(refused.headers["retry-after"])
        told_s = datetime.fromisoformat(refused.error["retry_at"]).timestamp()
        assert told_s == house.clock.now + after_s
        # 8 is the hour under way, in which it was refused
        assert refused.error["quiet_hours"] == [
            {
                "begins_at": "2027-01-16T02:00:00Z",
                "ends_at": "2027-01-16T04:00:00Z",
                "duration_s": 7200,
                "utilisation": 0.1,
            }
        ]
        house.clock.now += 60
        never = await house.ask("word " * 500, **key)
        assert never.headers["x-should-retry"] == "false"
        assert not {"retry_at", "quiet_hours"} & never.error.keys()
        assert not {"retry_at", "quiet_hours"} & (await house.ask({}, **key)).error.keys()


async def test_maintenance_says_until_when(tmp_path: Path) -> None:
    work = MaintenanceSettings("one", BEGINS.replace(hour=7), BEGINS)
    long = MaintenanceSettings("two", BEGINS.replace(hour=7), BEGINS.replace(day=30))
    upstreams = (
        UpstreamSettings("http://one/v1", "one", models=("test-model",)),
        UpstreamSettings("http://two/v1", "two", models=("long",)),
    )
    async with indoors(tmp_path, upstreams=upstreams, maintenance=[work, long]) as house:
        refused = await house.ask("x")
        assert (refused.status, refused.error["code"]) == (503, "maintenance")
        assert "in maintenance until 2027-01-15T09:00:00Z" in refused.error["message"]
        assert 3600 <= int(refused.headers["retry-after"]) <= 3630
        assert refused.error["retry_at"].startswith("2027-01-15T09:00:")
        assert refused.error["quiet_hours"] is None  # nobody knows
        longer = await house.ask(chat("x", model="long"))
        assert longer.headers["retry-after"] == "86400"
        told = house.board.told()
        assert told["load"] == {"level": "unavailable", "utilisation": None}
        assert told["queue"]["plans"][0]["predicted_wait_s"] is None


async def test_the_sdk_shows_what_a_refusal_tells(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with running_node(tmp_path, upstream.base_url) as node:
        node.pool.drain(node.pool.upstreams[0].name, Drain(board_time(node)))
        client = openai.AsyncOpenAI(base_url=f"{url(node)}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError) as raised:
            await client.chat.completions.create(
                model="test-model", messages=[{"role": "user", "content": "x"}]
            )
        await client.close()
    error = raised.value
    assert (error.status_code, error.code) == (503, "upstreams_unavailable")
    assert isinstance(error.body, dict)
    assert datetime.fromisoformat(error.body["retry_at"]).tzinfo is UTC
    assert error.body["quiet_hours"] is None


def board_time(node: Node) -> Any:
    return datetime.now(UTC).timestamp()


# What outlives a restart


async def test_a_drained_upstream_is_drained_after_a_restart(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async def change(node: Node, **act: str) -> Any:
        async with (
            aiohttp.ClientSession(url(node, "admin")) as admin,
            admin.post("/admin/upstreams", json=act) as response,
        ):
            return response.status, await response.json()

    name = upstream.base_url.split("/")[2]
    async with running_node(tmp_path, upstream.base_url) as node:
        status, document = await change(node, drain=name, by="Ada")
        before = document["upstreams"][0]
        assert (status, before["state"], before["drained_by"]) == (200, "drained", "Ada")
        _, again = await change(node, drain=name, by="Bob")  # it is already
        assert again["upstreams"][0] == before
        assert (await change(node, drain=name, by="x" * 65))[0] == 400
        assert (await change(node, drain=name, by="a\nb"))[0] == 400
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        (one,) = (await admin_status(node))["routing"]
        assert (one["state"], one["drained_since"], one["drained_by"]) == (
            "drained",
            before["drained_since"],
            "Ada",
        )
        assert (await ask(every[0], "x")).status == 503
        told = (await every[0].request("GET", STATUS)).json["upstreams"][0]
        since = datetime.fromisoformat(told["since"]).timestamp()
        assert told["state"] == "draining"
        assert since == pytest.approx(one["drained_since"], abs=1)
        await change(node, resume=name)
        assert (await ask(every[0], "x")).status == 200
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        assert (await ask(every[0], "y")).status == 200


async def test_what_was_learned_is_kept_and_a_damaged_file_set_aside(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / board.FILE, Learned)
    hour = int(datetime.now(UTC).timestamp() // HOUR_S)
    known = Learned()
    for slot in known.slots:
        slot.utilisation, slot.weeks, slot.hour = 0.25, 3, hour - 1
    kept.keep(kept.written(known))
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        told = (await every[0].request("GET", STATUS)).json
        assert told["calmest_hour"]["utilisation"] == 0.25
        assert told["calmest_hour"]["weeks"] == 3
    again = kept.load()
    assert again is not None
    assert [one.weeks for one in again.slots].count(3) >= 166
    (tmp_path / board.FILE).write_text('{"slots": [{"utilisation": -1}]}')
    (tmp_path / operated.FILE).write_text("[]")
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        told = (await every[0].request("GET", STATUS)).json
        assert (told["calmest_hour"], told["load"]["level"]) == (None, "idle")
    for name in (board.FILE, operated.FILE):
        assert (tmp_path / name).with_suffix(".corrupt").exists()
    assert json.loads((tmp_path / board.FILE).read_bytes())["slots"]
