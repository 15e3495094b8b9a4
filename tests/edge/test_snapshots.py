"""Export and import between nodes: the same answers, and nothing that was purged."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge.node import Node
from index import generations
from sync.snapshot import MEDIA_TYPE
from tests.edge.test_cli import run
from tests.fakes.doors import Answer, ask, chat, doors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import ScriptedUpstream

SKY, SEA = "Why is the sky blue?", "Why is the sea salty?"
SECRET = "0b" * 32


class Pair:
    """Two nodes with one secret, that do not know of each other."""

    def __init__(self, one: Node, other: Node, upstream: ScriptedUpstream) -> None:
        self.one = one
        self.other = other
        self.upstream = upstream

    async def ask(self, node: Node, prompt: Any, **fields: str) -> Answer:
        async with doors(node) as every:
            return await ask(every[0], prompt, **fields)

    async def hit(self, node: Node, prompt: Any) -> bool:
        return bool((await self.ask(node, prompt)).cache.get("hit", False))

    async def post(self, node: Node, path: str, document: Any) -> Any:
        async with (
            aiohttp.ClientSession(url(node, "admin")) as session,
            session.post(path, json=document) as response,
        ):
            return await response.json()

    async def purge(self, node: Node, **what: Any) -> None:
        await self.post(node, "/admin/purge", what)

    async def export(self, node: Node, **wanted: str) -> bytes:
        async with (
            aiohttp.ClientSession(url(node, "admin")) as session,
            session.get("/admin/export", params=wanted) as response,
        ):
            assert response.status == 200
            return await response.read()

    async def take_in(self, node: Node, snapshot: bytes) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(url(node, "admin")) as session,
            session.post(
                "/admin/import", data=snapshot, headers={"content-type": MEDIA_TYPE}
            ) as response,
        ):
            return response.status, await response.json()


@pytest.fixture
async def pair(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Pair]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    settings: dict[str, Any] = {"fleet": {"secret_file": str(secret)}}
    async with (
        running_node(tmp_path / "a", upstream.base_url, **settings) as one,
        running_node(tmp_path / "b", upstream.base_url, **settings) as other,
    ):
        yield Pair(one, other, upstream)


async def test_what_one_node_knows_another_knows_after_an_import(pair: Pair) -> None:
    before = await pair.ask(pair.one, SKY)
    await pair.ask(pair.one, SEA)
    snapshot = await pair.export(pair.one)
    status, told = await pair.take_in(pair.other, snapshot)
    assert (status, told["taken"], told["entries"], told["error"]) == (200, 2, 2, None)
    after = await pair.ask(pair.other, SKY)
    assert after.cache["hit"] is True
    assert (after.body, after.headers["etag"]) == (before.body, before.headers["etag"])
    assert len(pair.upstream.calls) == 2


async def test_what_was_imported_survives_a_restart(
    pair: Pair, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    await pair.ask(pair.one, SKY)
    snapshot = await pair.export(pair.one)
    settings: dict[str, Any] = {"fleet": {"secret_file": str(tmp_path / "secret")}}
    async with running_node(tmp_path / "c", upstream.base_url, **settings) as third:
        await pair.take_in(third, snapshot)
    async with running_node(tmp_path / "c", upstream.base_url, **settings) as again:
        assert await pair.hit(again, SKY)


async def test_imported_twice_it_is_taken_once(pair: Pair) -> None:
    await pair.ask(pair.one, SKY)
    snapshot = await pair.export(pair.one)
    await pair.take_in(pair.other, snapshot)
    _, told = await pair.take_in(pair.other, snapshot)
    assert (told["taken"], told["not_taken"]["no newer than what is here"]) == (0, 1)
    _, told = await pair.take_in(pair.one, snapshot)
    assert told["taken"] == 0


async def test_what_was_purged_does_not_come_back(pair: Pair) -> None:
    await pair.ask(pair.one, SKY)
    await pair.ask(pair.one, SEA)
    old = await pair.export(pair.one)
    await pair.purge(pair.one, request=chat(SKY))
    _, told = await pair.take_in(pair.one, old)
    assert (told["taken"], told["not_taken"]["purged"]) == (0, 1)
    assert await pair.hit(pair.one, SEA)
    assert not await pair.hit(pair.one, SKY)


async def test_purges_travel_with_a_snapshot_and_keep_older_ones_out(pair: Pair) -> None:
    await pair.ask(pair.one, SKY)
    old = await pair.export(pair.one)
    await pair.purge(pair.one, model="test-model")
    _, told = await pair.take_in(pair.other, await pair.export(pair.one))
    assert (told["entries"], told["purges"]) == (0, 1)
    _, told = await pair.take_in(pair.other, old)
    assert (told["taken"], told["not_taken"]["purged"]) == (0, 1)
    assert not await pair.hit(pair.other, SKY)  # asked afresh, which is kept
    assert await pair.hit(pair.other, SKY)


async def test_purges_of_a_snapshot_empty_what_they_cover(pair: Pair) -> None:
    await pair.ask(pair.one, SKY)
    await pair.take_in(pair.other, await pair.export(pair.one))
    await pair.purge(pair.one, everything=True)
    await pair.take_in(pair.other, await pair.export(pair.one))
    assert not await pair.hit(pair.other, SKY)


async def test_purges_of_another_fleet_leave_alone_what_was_fetched_after_them(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "FOREIGN_S", 0.0)
    await pair.ask(pair.other, SKY)
    await pair.purge(pair.one, everything=True)
    await pair.ask(pair.other, SEA)
    _, told = await pair.take_in(pair.other, await pair.export(pair.one))
    assert told["purges"] == 1
    assert await pair.hit(pair.other, SEA)
    assert not await pair.hit(pair.other, SKY)


async def test_purges_of_a_snapshot_outlast_a_restart(
    pair: Pair, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    await pair.ask(pair.one, SKY)
    old = await pair.export(pair.one)
    await pair.purge(pair.one, everything=True)
    settings: dict[str, Any] = {"fleet": {"secret_file": str(tmp_path / "secret")}}
    async with running_node(tmp_path / "c", upstream.base_url, **settings) as third:
        await pair.take_in(third, await pair.export(pair.one))
    async with running_node(tmp_path / "c", upstream.base_url, **settings) as again:
        _, told = await pair.take_in(again, old)
        assert (told["taken"], told["not_taken"]["purged"]) == (0, 1)
        assert not await pair.hit(again, SKY)
        assert await pair.hit(again, SKY)  # what is fetched from now on is kept
    (tmp_path / "c" / "imported.purges").write_bytes(b"torn")
    async with running_node(tmp_path / "c", upstream.base_url, **settings) as again:
        assert await pair.hit(again, SKY)
    assert (tmp_path / "c" / "imported.corrupt").exists()


async def test_an_import_does_not_undo_what_is_newer(pair: Pair) -> None:
    await pair.ask(pair.one, SKY)
    snapshot = await pair.export(pair.one)
    newer = await pair.ask(pair.other, SKY)
    _, told = await pair.take_in(pair.other, snapshot)
    assert told["not_taken"]["no newer than what is here"] == 1
    assert (await pair.ask(pair.other, SKY)).body == newer.body


async def test_labels_and_pins_travel(pair: Pair) -> None:
    order = {"request": chat(SKY), "labels": ["warm:launch"], "pin": True}
    await pair.post(pair.one, "/admin/warm", order)
    await pair.take_in(pair.other, await pair.export(pair.one))
    assert await pair.export(pair.other, label="warm:launch") != await pair.export(
        pair.other, label="warm:other"
    )
    order = {**order, "dry_run": False}
    told = await pair.post(pair.other, "/admin/warm", order)
    assert (told["outcome"], told["asked"]) == ("present", False)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 3),
        ({"model": "test-model"}, 2),
        ({"label": "model:other"}, 1),
        ({"model": "other", "label": "x"}, 0),
        ({"tenant": "acme"}, 0),
    ],
)
async def test_a_part_can_be_exported(pair: Pair, wanted: dict[str, str], count: int) -> None:
    for prompt in (SKY, SEA, chat(SKY, model="other")):
        await pair.ask(pair.one, prompt)
    _, told = await pair.take_in(pair.other, await pair.export(pair.one, **wanted))
    assert told["taken"] == count


async def test_damage_in_any_region_is_found_and_what_came_before_is_told(pair: Pair) -> None:
    for number in range(5):
        await pair.ask(pair.one, f"What is the capital of country {number}?")
    await pair.purge(pair.one, model="absent")
    whole = await pair.export(pair.one)
    for part in range(24):
        at = part * (len(whole) - 1) // 23
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            status, told = await pair.take_in(pair.other, damaged)
            assert status in (400, 422)
            if status == 400:
                assert told["error"]["message"]
            else:
                assert told["error"]
                assert told["taken"] + sum(told["not_taken"].values()) == told["entries"]
    status, told = await pair.take_in(pair.other, whole)
    assert (status, told["error"], told["entries"]) == (200, None, 5)


async def test_anothers_snapshot_is_refused(pair: Pair, upstream: ScriptedUpstream) -> None:
    data = pair.one.config.node.data.parent / "foreign"
    async with running_node(data, upstream.base_url) as foreign:
        await pair.ask(foreign, SKY)
        status, told = await pair.take_in(pair.one, await pair.export(foreign))
    assert (status, "another fleet" in told["error"]["message"]) == (400, True)


@pytest.mark.parametrize("query", ["tenant=", "model=m&tenat=x"])
async def test_an_unclear_export_is_explained(pair: Pair, query: str) -> None:
    async with (
        aiohttp.ClientSession(url(pair.one, "admin")) as session,
        session.get(f"/admin/export?{query}") as response,
    ):
        assert response.status == 400


# The commands.


async def shell(line: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_shell(
        line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_export_into_import_by_pipe(pair: Pair) -> None:
    await pair.ask(pair.one, SKY)
    edge = "python -m edge"
    one, other = (pair.one.addresses["admin"], pair.other.addresses["admin"])
    python = f"PATH={Path(__import__('sys').executable).parent}:$PATH"
    line = (
        f"set -o pipefail; export {python}; {edge} export --admin {one} | gzip | gunzip"
        f" | {edge} import - --admin {other}"
    )
    code, out, err = await shell(f"bash -c '{line}'")
    assert (code, err) == (0, "")
    assert out == f"http://{other} took 1 answers of 1, and 0 purges\n"
    assert await pair.hit(pair.other, SKY)


async def test_an_export_can_be_warmed_with_and_keeps_its_own(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    await pair.ask(pair.one, SKY)
    file.write_bytes(await pair.export(pair.one))
    nodes = [f"--node={url(node, 'admin')}" for node in (pair.one, pair.other)]
    code, out, _ = await run("warm", str(file), *nodes)
    assert (code, [line.split(" took ")[1][:1] for line in out.splitlines()]) == (0, ["0", "1"])
    assert await pair.hit(pair.other, SKY)
    code, _, err = await run("warm", str(file), *nodes, "--ttl", "7d", "--label", "x")
    assert (code, "--label and --ttl says nothing" in err) == (2, True)


async def test_commands_say_what_is_wrong(pair: Pair, tmp_path: Path) -> None:
    admin = ("--admin", str(pair.one.addresses["admin"]))
    await pair.ask(pair.one, SKY)
    whole = await pair.export(pair.one)
    file = tmp_path / "snapshot"
    cases: list[tuple[bytes, int, str]] = [
        (whole[:-1], 1, "cut off"),
        (b"", 1, "cut off after 0 bytes"),
        (gzip.compress(whole), 1, "no snapshot of a promptedge node"),
        (json.dumps(SKY).encode(), 1, "no snapshot of a promptedge node"),
        (whole.replace(b"snapshot 1", b"snapshot 2", 1), 1, "a newer version is needed"),
    ]
    for content, expected, said in cases:
        file.write_bytes(content)
        code, _, err = await run("import", str(file), *admin)
        assert (code, said in err, "Traceback" in err) == (expected, True, False), err
    code, _, err = await run("import", str(tmp_path / "absent"), *admin)
    assert (code, "absent: No such file" in err) == (2, True)
    for command in (("export",), ("import", str(file))):
        code, out, err = await run(*command, "--admin", "127.0.0.1:1")
        assert (code, out, "127.0.0.1:1" in err, "Traceback" in err) == (1, "", True, False)
