"""What says who may ask is damaged, gone, or cannot be written: nobody is let in who may not be."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.membership import Wanted, join
from edge.node import Node, wall
from sync.application import Refused
from sync.invites import Terms
from sync.joining import JoinError
from tests.edge.test_cli import run
from tests.fakes.doors import Answer, ask, doors
from tests.fakes.eventually import until
from tests.fakes.node import running_node
from tests.fakes.ports import free_address
from tests.fakes.upstream import ScriptedUpstream


def admin(node: Node) -> tuple[str, str]:
    return "--admin", str(node.addresses["admin"])


async def made(node: Node, tenant: str = "acme") -> tuple[str, str]:
    """An `Authorization` field, and the key's id."""
    code, key, told = await run("keys", "create", *admin(node), "--tenant", tenant)
    assert code == 0, told
    return f"Bearer {key.strip()}", told.split()[1]


def damage(data: Path) -> None:
    for name in ("fleet.db-wal", "fleet.db-shm"):
        (data / name).unlink(missing_ok=True)
    (data / "fleet.db").write_bytes(b"garbage" * 4_096)


def found_anew(data: Path) -> None:
    for name in ("fleet.db-wal", "fleet.db-shm", "fleet.db"):
        (data / name).unlink(missing_ok=True)
    shutil.rmtree(data / "fleet")


def shut(answer: Answer) -> None:
    """As it is told to everybody, whoever they are."""
    assert (answer.status, answer.error["code"]) == (503, "auth_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "cache-status" not in answer.headers


@pytest.mark.parametrize("lose", [damage, found_anew])
async def test_a_node_that_lost_its_keys_lets_nobody_in(
    upstream: ScriptedUpstream, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        key, _ = await made(node)
        assert (await ask(every[0], "x", authorization=key)).status == 200
    lose(tmp_path)
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        await asyncio.wait_for(node.fleet.filled.wait(), 20)
        for door in every:
            shut(await ask(door, "x", authorization=key))
            shut(await ask(door, "x", authorization="Bearer any"))
            shut(await door.request("GET", "/v1/models", {"authorization": key}))
            assert (await ask(door, "x")).status == 401, "who shows no key needs none to be known"
        ready, facts = node.overview.readiness()
        assert (ready, facts["keys"]) == (False, "lost")
        other, _ = await made(node)
        for door in every:
            assert (await ask(door, "x", authorization=other)).status == 200
            assert (await ask(door, "x", authorization=key)).status == 401
            assert (await ask(door, "x")).status == 401
        assert node.overview.readiness()[0]
    assert len(upstream.calls) == 1, "what was stored for the tenant is found by its new key"


async def test_keys_of_the_configuration_work_on(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {
        "environ": {"OWN": "key-of-own"},
        "keys": [{"tenant": "own", "key_env": "OWN"}],
    }
    async with running_node(tmp_path, upstream.base_url, **keys) as node:
        await made(node)
    damage(tmp_path)
    async with running_node(tmp_path, upstream.base_url, **keys) as node, doors(node) as every:
        assert (await ask(every[0], "x", authorization="Bearer key-of-own")).status == 200
        shut(await ask(every[0], "x", authorization="Bearer other"))


async def test_a_node_that_never_had_keys_serves_as_before(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with running_node(tmp_path, upstream.base_url):
        pass
    damage(tmp_path)
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        assert (await ask(every[0], "x")).status == 200


async def test_who_joins_a_fleet_that_asks_for_no_keys_asks_for_none(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    own = {"sync": {"listen": free_address()}}
    async with running_node(tmp_path / "b", upstream.base_url) as node:
        await made(node)
    async with running_node(tmp_path / "a", upstream.base_url, **own) as node:
        token = (await node.fleet.invite(Terms(), 60.0)).token
        wanted = Wanted(listen=free_address())
        await asyncio.to_thread(join, token, tmp_path / "b", None, wanted, wall())
        async with running_node(tmp_path / "b", upstream.base_url) as b, doors(b) as every:
            assert (await ask(every[0], "x")).status == 200


@pytest.mark.parametrize("lose", [damage, found_anew])
async def test_nobody_joins_a_node_that_lost_its_keys_and_asks_for_none(
    upstream: ScriptedUpstream, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    own = {"sync": {"listen": free_address()}}
    async with running_node(tmp_path / "a", upstream.base_url, **own) as node:
        await made(node)
        token = (await node.fleet.invite(Terms(), 60.0)).token
    lose(tmp_path / "a")
    async with running_node(tmp_path / "a", upstream.base_url, **own) as node:
        with pytest.raises(Refused, match="promptedge keys create"):
            await node.fleet.invite(Terms(), 60.0)
        wanted = Wanted(listen=free_address())
        with pytest.raises(JoinError):
            await asyncio.to_thread(join, token, tmp_path / "b", None, wanted, wall())
        await made(node)
        token = (await node.fleet.invite(Terms(), 60.0)).token
        await asyncio.to_thread(join, token, tmp_path / "b", None, wanted, wall())
        async with running_node(tmp_path / "b", upstream.base_url) as b, doors(b) as every:
            assert (await ask(every[0], "x")).status == 401


async def test_damage_while_it_runs_changes_nothing(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        key, id_ = await made(node)
        other, _ = await made(node, "other")
        damage(tmp_path)
        assert (await ask(every[0], "x", authorization=key)).status == 200
        assert (await ask(every[0], "x")).status == 401
        await run("keys", "revoke", *admin(node), id_)
        assert (await ask(every[0], "x", authorization=key)).status == 401
        third, _ = await made(node, "third")
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        assert (await ask(every[0], "x", authorization=key)).status == 401
        assert (await ask(every[0], "x")).status == 401
        for good in (other, third):
            assert (await ask(every[0], "x", authorization=good)).status == 200


async def test_a_key_that_no_disk_takes_is_said_to_be_forgotten(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        key, id_ = await made(node)
        node.fleet._log._file.execute("PRAGMA query_only=1")  # a disk that takes nothing
        code, _, told = await run("keys", "revoke", *admin(node), id_)
        assert code == 1
        assert "a restart forgets it" in told
        assert (await ask(every[0], "x", authorization=key)).status == 401
        node.fleet._log._file.execute("PRAGMA query_only=0")
        await until(node.fleet._log.catch_up)
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        assert (await ask(every[0], "x", authorization=key)).status == 401
