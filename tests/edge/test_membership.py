"""`promptedge invite`, `join` and `revoke`, as people type them."""

import asyncio
import datetime as dt
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.__main__ import main
from edge.console.admin import AdminServer
from edge.console.membership import Invitation, Revocation, routes
from edge.identity import fleet_secret
from edge.membership import announced, is_loopback, settings_of
from edge.metrics import Metrics
from edge.node import wall
from index.database import CacheFile, lock
from index.entry import NodeName, Timestamp
from sync import tokens
from sync.credentials import Credentials
from sync.invites import Terms
from sync.outbox import Outbox
from sync.settings import SyncSettings
from tests.fakes.members import NOW, SECRET, Member, listening, member


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Member]:
    async with listening(member(tmp_path / "host", "fra-1")) as one:
        one.wall = wall()  # commands have the real clock
        yield one


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


def load(data: Path) -> Credentials:
    return Credentials.load(data, "", dt.datetime.fromtimestamp(NOW, dt.UTC))


async def test_a_directory_that_joined_is_a_member(
    host: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    assert await run("join", host.invite(), "--data", str(data), "--name", "ams-1") == 0
    out = capsys.readouterr().out
    own = load(data)
    assert out.startswith(f"{own.name} belongs to a fleet with 1 other node, in region eu.\n")
    assert f"promptedge serve --data {data}" in out
    assert fleet_secret(None, data) == SECRET
    outbox = Outbox(data, own.fleet, bytes(8))
    assert sorted(outbox.lines()) == sorted(host.roster.lines())
    outbox.close()
    settings = settings_of(SyncSettings(), data)
    assert settings.listen.startswith("127.0.0.1:84")
    enrolled = host.roster.member(own.name)
    assert enrolled is not None
    assert enrolled.address == settings.listen == announced(settings)


async def test_nodes_that_were_given_no_name_join_with_one_line(
    host: Member, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for data in (first, second):
        assert await run("join", host.invite(), "--data", str(data)) == 0
    assert await run("join", host.invite(), "--data", str(second)) == 0  # as it is called already
    names = [load(data).name.rpartition(".")[0] for data in (first, second)]
    assert names == ["edge", "edge-2"]
    assert len(host.roster) == 3


async def test_what_was_cached_under_another_secret_is_set_aside(
    host: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    data.mkdir()
    fleet_secret(None, data)
    cache = CacheFile(data, "test", lambda: NOW)
    cache.open().close()
    assert await run("join", host.invite(), "--data", str(data), "--name", "ams-1") == 0
    assert not cache.path.exists()
    (aside,) = data.glob("cache.db.otherkeys-*")
    assert f"set aside as {aside}" in capsys.readouterr().out
    cache.open().close()
    assert await run("join", host.invite(), "--data", str(data), "--name", "ams-1") == 0
    assert cache.path.exists()  # the secret is the same now
    assert "set aside" not in capsys.readouterr().out


async def test_a_secret_that_is_configured_is_not_replaced(
    host: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, file, config = (tmp_path / name for name in ("new", "secret", "node.toml"))
    file.write_text("00" * 32)
    config.write_text(f'[node]\nname = "ams-1"\ndata = "{data}"\n[fleet]\nsecret_file = "{file}"')
    text = host.invite()
    assert await run("join", text, "--config", str(config)) == 1
    assert "holds another secret" in capsys.readouterr().err
    assert file.read_text() == "00" * 32
    assert not (data / "fleet" / "fleet.pem").exists()
    file.write_text(SECRET.hex())
    assert await run("join", text, "--config", str(config)) == 0
    assert capsys.readouterr().out.endswith(f"Start it: promptedge serve --config {config}\n")


async def test_a_node_does_not_leave_its_fleet_unasked(
    host: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    async with listening(member(tmp_path / "other", "sin-1")) as other:
        other.wall = wall()
        joining = ("join", other.invite(), "--data", str(data), "--name", "ams-1")
        assert await run(*joining) == 0
        first = load(data).fleet
        text = host.invite()
        assert await run("join", text, "--data", str(data), "--name", "ams-1") == 1
        assert "belongs to a fleet with other nodes" in capsys.readouterr().err
        assert load(data).fleet == first
        leaving = ("join", text, "--data", str(data), "--name", "ams-1", "--leave")
        assert await run(*leaving) == 0
        assert load(data).fleet == host.credentials.fleet


async def test_a_node_that_stood_alone_joins_as_it_is(host: Member, tmp_path: Path) -> None:
    """Its first start founded a fleet of one; there is nothing in that to lose."""
    alone = load(tmp_path / "new")
    assert await run("join", host.invite(), "--data", str(tmp_path / "new")) == 0
    assert load(tmp_path / "new").public_key == alone.public_key
    assert load(tmp_path / "new").fleet == host.credentials.fleet


async def test_what_stops_a_node_from_joining_is_said_in_a_line(
    host: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    descriptor = lock(data)
    cases = {
        "is in use by another promptedge": ("join", host.invite(), "--data", str(data)),
        "This is no token": ("join", "pej", "--data", str(tmp_path / "a")),
        "not whole: copy it again": ("join", host.invite()[:-4], "--data", str(tmp_path / "b")),
        "is not HOST:PORT": (
            *("join", host.invite(), "--data", str(tmp_path / "c")),
            *("--listen", "here"),
        ),
        "/dev/null/x": ("join", host.invite(), "--data", "/dev/null/x"),
    }
    for said, arguments in cases.items():
        assert await run(*arguments) == 1
        err = capsys.readouterr().err
        assert said in err
        assert err.startswith("promptedge: ")
        assert err.count("\n") == 1
    os.close(descriptor)
    assert len(host.roster) == 1


def test_where_a_node_is_met(tmp_path: Path) -> None:
    assert settings_of(SyncSettings(), tmp_path).listen == "127.0.0.1:8444"
    configured = SyncSettings(listen="0.0.0.0:9000", address="fra.example:443")
    assert settings_of(configured, tmp_path) == configured
    assert announced(configured) == "fra.example:443"
    everywhere = replace(configured, address="")
    host, _, port = announced(everywhere, "127.0.0.1:1").rpartition(":")
    assert (host, port) == ("127.0.0.1", "9000")
    assert not announced(everywhere).startswith("0.0.0.0")
    assert is_loopback("127.0.0.1:1")
    assert is_loopback("[::1]:1")
    assert is_loopback("localhost:1")
    assert not is_loopback("fra.example:1")


# On a running node.


class _Fleet:
    def __init__(self, host: Member) -> None:
        self._host = host

    async def invite(self, terms: Terms, valid_s: float) -> Invitation:
        now = self._host.wall
        token = self._host.registrar.invite(terms, self._host.address, valid_s, now)
        return Invitation(token, Timestamp(now + valid_s), self._host.address)

    async def revoke(self, name: str, *, keep: bool = False) -> Revocation:
        gone = self._host.registrar.revoke(name)
        return Revocation(gone.name, None if keep else 3, gone.may_invite)


class _Node:
    """No part of a node is asked for."""


@pytest.fixture
async def admin(host: Member) -> AsyncIterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    address = "{}:{}".format(*sock.getsockname())
    server = AdminServer(sock, _Node(), Metrics(), routes(_Fleet(host)))  # type: ignore[arg-type]
    await server.start()
    yield address
    await server.stop()


async def test_invite_and_revoke(
    host: Member, admin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--name", "ams-1", "--region", "us", "--valid", "10min", "--no-invite")
    assert await run("invite", "--admin", admin, *options, "--scope", "shared") == 0
    said = capsys.readouterr()
    command, join, text = said.out.split()
    assert (command, join) == ("promptedge", "join")
    assert "by this machine alone: for nodes" in said.err
    now = host.wall
    assert tokens.read(text, now).until == Timestamp(float(int(now + 600)))
    data = tmp_path / "new"
    assert await run("join", text, "--data", str(data), "--name", "ams-2") == 1
    assert "join --name ams-1" in capsys.readouterr().err
    assert await run("join", text, "--data", str(data)) == 0
    own = load(data)
    enrolled = host.roster.member(own.name)
    assert enrolled is not None
    assert (enrolled.region, enrolled.scopes, own.operator) == ("us", ("shared",), None)
    capsys.readouterr()
    assert await run("revoke", "--admin", admin, "ams-1") == 0
    said = capsys.readouterr()
    assert said.out == f"{own.name} is revoked; 3 answers of it purged here\n"
    assert said.err == ""
    assert host.roster.member(NodeName(own.name)) is None


async def test_a_node_with_the_operators_key_is_not_so_easily_shut_out(
    host: Member, admin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("join", host.invite(), "--data", str(tmp_path / "a"), "--name", "a") == 0
    assert await run("revoke", "--admin", admin, "a", "--keep") == 0
    said = capsys.readouterr()
    assert "is revoked; what it fetched stays\n" in said.out
    assert "has had the operator's key" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("revoke", "nobody"), "There is no node nobody"),
        (("revoke", "fra-1"), "cannot revoke itself"),
        (("invite", "--name", "a b"), "'a b' is no name"),
        (("invite", "--region", "*"), "'*' is no region"),
        (("invite", "--valid", "30d"), "A token is good for up to"),
    ],
)
async def test_what_a_node_refuses_is_said(
    admin: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert await run(arguments[0], "--admin", admin, *arguments[1:]) == 1
    assert said in capsys.readouterr().err
