"""From a fleet's directory to a server that knows it, as an operator goes: command by command."""

import asyncio
import datetime as dt
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.__main__ import main
from index.entry import EVERYWHERE, Scope, Version
from sync.credentials import Credentials
from sync.jetstream.client import Login, connect
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Subjects, inbox
from sync.outbox import Outbox
from sync.roster import Enrolment, enrol
from tests.fakes.fleet import enrolment
from tests.fakes.nats import BINARIES, NatsServer, nats_server

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def own(tmp_path: Path) -> Credentials:
    """A node that has founded a fleet of three, of which one is revoked."""
    made = Credentials.load(tmp_path, "fra-1", NOW)
    assert made.operator is not None
    first = Enrolment(made.name, made.public_key, "eu", "", Version(1), made.name)
    outbox = Outbox(tmp_path, made.fleet, bytes(8))
    for one in (first, enrolment("sin-1", "ap"), enrolment("old-1", revoked=True)):
        outbox.keep_line(one.name, enrol(one, made.operator))
    outbox.close()
    return made


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(params=list(BINARIES))
def server(
    request: pytest.FixtureRequest,
    own: Credentials,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[NatsServer]:
    """A server that was given what the command prints."""
    binary = BINARIES[request.param]
    if binary is None:
        pytest.skip(f"there is no {request.param} nats-server on this machine")
    code, users, _ = printed(capsys, "nats-permissions", "--data", str(tmp_path))
    assert code == 0
    with nats_server(binary, tmp_path / "nats", users) as one:
        yield one


async def publish(server: NatsServer, own: Credentials, prefix: str = "pe") -> None:
    login = Login(own.public_key, own.sign)
    client = await connect(server.url, NatsSettings(), login, own.name, inbox(own.name))
    try:
        (subject,) = Subjects.of(prefix, own.fleet).entries(EVERYWHERE, Scope("shared"), own.name)
        await client.jetstream(timeout=1).publish(subject, b"told")
    finally:
        await client.abandon()


def test_a_server_is_made_ready_by_two_commands(
    server: NatsServer, own: Credentials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n[sync.nats]\nurls = ["{server.url}"]')
    for _ in range(2):  # once more changes nothing
        code, out, _ = printed(capsys, "nats-streams", "--config", str(config))
        subjects = Subjects.of("pe", own.fleet)
        assert (code, out.split()) == (0, [subjects.purges_stream, subjects.entries_stream])
    asyncio.run(publish(server, own))


def test_who_is_not_the_operator_makes_no_streams(
    server: NatsServer, own: Credentials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n[sync.nats]\nurls = ["{server.url}"]')
    own.operator = None
    own.save()
    code, out, err = printed(capsys, "nats-streams", "--config", str(config))
    assert (code, out) == (1, "")
    assert "does not have the operator's key" in err


def test_one_node_alone_by_its_name_and_no_revoked_one(
    own: Credentials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--data", str(tmp_path))
    _, every, _ = printed(capsys, "nats-permissions", *place)
    assert every.count("nkey:") == 3  # the operator's, and two
    for name in ("sin-1", enrolment("sin-1").name):
        code, out, _ = printed(capsys, "nats-permissions", *place, "--node", name)
        assert (code, out.count("nkey:")) == (0, 1)
        assert out in every
    code, out, err = printed(capsys, "nats-permissions", *place, "--node", "old-1")
    assert (code, out) == (1, "")
    assert "there is no node old-1" in err


def test_a_directory_that_is_no_nodes_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = printed(capsys, "nats-permissions", "--data", str(tmp_path))
    assert code == 1
    assert "is no node's directory" in err
    assert not list(tmp_path.iterdir())


def test_no_server_is_said(
    own: Credentials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = printed(capsys, "nats-streams", "--data", str(tmp_path))
    assert (code, "urls is empty" in err) == (1, True)
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata = "{tmp_path}"\n[sync.nats]\nurls = ["nats://a:secret@127.0.0.1:1"]'
    )
    code, _, err = printed(capsys, "nats-streams", "--config", str(config))
    assert (code, "127.0.0.1:1" in err, "secret" in err) == (1, True, False)


@pytest.mark.parametrize("name", list(BINARIES))
def test_the_example_configuration_is_one(
    name: str, own: Credentials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`deploy/nats-server.conf` with the users of a fleet, and without the certificate's files."""
    binary = BINARIES[name]
    if binary is None:
        pytest.skip(f"there is no {name} nats-server on this machine")
    example = (Path(__file__).parents[2] / "deploy" / "nats-server.conf").read_text()
    before, _, after = example.partition("tls {")
    _, users, _ = printed(capsys, "nats-permissions", "--data", str(tmp_path))
    (tmp_path / "promptedge-users.conf").write_text(users)
    (tmp_path / "nats-server.conf").write_text(before + after.partition("\n}")[2])
    subprocess.run([binary, "-t", "-c", str(tmp_path / "nats-server.conf")], check=True)
