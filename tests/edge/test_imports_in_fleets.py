"""What one node of a fleet imports is there for the others too, as far as it may travel."""

from pathlib import Path
from typing import Any

from index.entry import Purge
from tests.edge.test_fleet import Two, fleet_of_two, kept_by, until
from tests.edge.test_snapshots import SEA, SKY, Pair
from tests.fakes.doors import ask, chat
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream


async def snapshot_of_another_fleet(two: Two, data: Path, base_url: str, **settings: Any) -> bytes:
    """Of a node with the same secret that none of these knows: SKY was asked there, SEA warmed."""
    settings["fleet"] = {"secret_file": str(data / "a" / "secret")}
    async with running_node(data / "stranger", base_url, **settings) as stranger:
        pair = Pair(stranger, two.a, None)  # type: ignore[arg-type]
        await pair.ask(stranger, SKY)
        await pair.post(stranger, "/admin/warm", {"request": chat(SEA), "pin": True})
        return await pair.export(stranger)


async def test_what_is_imported_on_one_node_the_other_has_too(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, []) as two:
        snapshot = await snapshot_of_another_fleet(two, tmp_path, upstream.base_url)
        pair = Pair(two.a, two.b, upstream)
        calls = len(upstream.calls)
        status, told = await pair.take_in(two.a, snapshot)
        assert (status, told["taken"]) == (200, 2)
        await until(
            lambda: two.b.fleet.replica.hearing.taken.get("STORED", 0) == 1
        )  # what was warmed
        await two.b.fleet.neighbours.ask_around()
        for prompt in (SEA, SKY):
            answer = await ask(two.at_b, prompt)
            assert answer.cache["hit"] is True
            assert answer.headers["x-promptedge-stored-by"] == two.a.fleet.name
        assert len(upstream.calls) == calls
        assert two.b.fleet.replica.hearing.dropped == {}


async def test_it_is_purged_with_the_node_that_imported_it_and_with_the_one_that_fetched_it(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, []) as two:
        snapshot = await snapshot_of_another_fleet(two, tmp_path, upstream.base_url)
        await Pair(two.a, two.b, upstream).take_in(two.a, snapshot)
        await until(lambda: two.b.fleet.replica.hearing.taken.get("STORED", 0) == 1)
        (copy,) = await kept_by(two.b)
        assert copy.stored_by == two.a.fleet.name
        (fetched_by,) = [label for label in copy.labels if label.startswith("by:")]
        assert (await two.b.purges.purge(Purge(label=fetched_by))).matched == 1


async def test_what_may_be_kept_in_another_region_alone_is_not_imported(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    elsewhere = {"sync": {"region": "ap"}, "cache": {"reach": "region"}}
    async with fleet_of_two(tmp_path, upstream.base_url, []) as two:
        snapshot = await snapshot_of_another_fleet(two, tmp_path, upstream.base_url, **elsewhere)
        _, told = await Pair(two.a, two.b, upstream).take_in(two.a, snapshot)
        assert told["taken"] == 0
        assert told["not_taken"]["not to be kept in this region"] == 2
