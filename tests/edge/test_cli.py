"""The command line, as people type it: what it prints, where, and its exit code."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge.node import Node
from tests.fakes.doors import ask, chat, doors


async def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_check_says_yes_or_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "fra-1"')
    assert await run("check", "--config", str(path)) == (0, "The configuration is good.\n", "")
    path.write_text("[node]\nnmae = 1\n[cache]\nttl_s = 0")
    code, out, err = await run("check", "--config", str(path))
    assert (code, out) == (2, "")
    assert f"{path}: node.nmae: unknown setting" in err


async def test_status_and_purge_of_a_running_node(node: Node, tmp_path: Path) -> None:
    admin = ("--admin", str(node.addresses["admin"]))
    async with doors(node) as every:
        for text in ("one", "two"):
            await ask(every[0], text)
    code, out, _ = await run("status", *admin)
    assert (code, json.loads(out)["requests"]["miss"]) == (0, 2)
    request = tmp_path / "request.json"
    request.write_text(json.dumps(chat("one")))
    asked = ("purge", *admin, "--request")
    assert await run(*asked, str(request), "--dry-run") == (
        0,
        "1 answer would be purged on this node\n",
        "",
    )
    assert await run(*asked, "-", stdin=request.read_text()) == (
        0,
        "1 answer purged on this node\n",
        "",
    )
    assert await run("purge", *admin, "--everything") == (0, "1 answer purged on this node\n", "")
    async with doors(node) as every:
        await ask(every[0], "three")
    soft = ("purge", *admin, "--model", "test-model", "--soft")
    assert await run(*soft, "--dry-run") == (0, "1 answer would be stale on this node\n", "")
    assert await run(*soft) == (0, "1 answer stale on this node\n", "")
    for narrow in (("--label", "news"), ("--route", "gpt*")):
        assert await run("purge", *admin, *narrow) == (0, "0 answers purged on this node\n", "")
    code, _, err = await run("purge", *admin, "--everything", "--model", "test-model")
    assert code == 1
    assert "Either everything or a part" in err
    code, _, err = await run(*asked, str(tmp_path / "absent.json"))
    assert (code, "absent.json" in err, "Traceback" in err) == (2, True, False)


async def test_upstreams_are_listed_drained_and_resumed(node: Node) -> None:
    admin = ("--admin", str(node.addresses["admin"]))
    (upstream,) = node.pool.upstreams
    async with doors(node) as every:
        await ask(every[0], chat("one", stream=True))
    code, out, _ = await run("upstream", "list", *admin)
    header, row = out.splitlines()
    assert (code, header.split()[:4]) == (0, ["NAME", "TIER", "REGION", "STATE"])
    assert row.split()[:5] == [upstream.name, "primary", "-", "up", "0"]
    code, out, _ = await run("upstream", "drain", upstream.name, "--by", "Ada", *admin)
    assert code == 0
    assert re.fullmatch(
        rf"{upstream.name}: drained since \d{{4}}-\d\d-\d\d \d\d:\d\dZ by Ada\n", out
    )
    assert "drained since" in (await run("upstream", "list", *admin))[1]
    code, out, _ = await run("upstream", "list", "--json", *admin)
    assert json.loads(out)["upstreams"][0]["state"] == "drained"
    assert await run("upstream", "resume", upstream.name, *admin) == (
        0,
        f"{upstream.name}: up\n",
        "",
    )
    code, out, err = await run("upstream", "drain", "nobody", *admin)
    assert (code, out) == (1, "")
    assert f"There are: {upstream.name}" in err


async def test_a_purge_of_nothing_in_particular_is_refused() -> None:
    code, out, err = await run("purge")
    assert (code, out) == (2, "")
    assert err.startswith("promptedge: say what to purge: --everything, ")


@pytest.mark.parametrize("command", [("status",), ("purge", "--everything")])
async def test_without_a_node_there_is_an_error_and_no_trace(command: tuple[str, ...]) -> None:
    code, out, err = await run(*command, "--admin", "127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("promptedge: no node answers at 127.0.0.1:1: ")


@pytest.mark.parametrize("listener", ["plain", "listen"])
async def test_who_mistakes_the_listener_is_told_which_it_is(node: Node, listener: str) -> None:
    at = str(node.addresses[listener])
    code, out, err = await run("keys", "list", "--admin", at)
    assert (code, out) == (1, "")
    assert err == f"promptedge: {at} is where clients ask; give --admin the address of node.admin\n"


async def test_a_port_in_use_and_a_directory_in_use(node: Node, tmp_path: Path) -> None:
    free = ("--listen", "127.0.0.1:0", "--plain", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    taken = str(node.addresses["plain"])
    asked = "is a node running there already?"
    code, _, err = await run("serve", *free, "--plain", taken, "--data", str(tmp_path / "other"))
    assert (code, err) == (1, f"promptedge: {taken} (TCP): Address already in use: {asked}\n")
    code, _, err = await run("serve", *free, "--data", str(node.config.node.data))
    assert code == 1
    assert str(node.config.node.data) in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ("[log]\nlevel = 'LOUD'", 2, "log.level: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("[tls]\ncertificate = 'pem'\nkey = 'pem'", 2, "tls: pem and pem cannot be used"),
        ("[node]\ndata = '/dev/null/x'", 1, "/dev/null/x"),
    ],
)
async def test_what_keeps_a_node_from_starting_is_said_in_a_line(
    tmp_path: Path, settings: str, code: int, said: str
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(settings)
    free = ("--listen", "127.0.0.1:0", "--plain", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    got, out, err = await run("serve", "--config", str(path), *free)
    assert (got, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


async def test_an_answer_that_is_no_json_is_no_traceback() -> None:
    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=500, text="500 Internal Server Error")

    app = web.Application()
    app.router.add_get("/admin/status", broken)
    async with TestServer(app) as server:
        code, out, err = await run("status", "--admin", f"127.0.0.1:{server.port}")
    assert (code, out) == (1, "")
    assert err == "promptedge: the node answered with status 500: its log says why\n"


async def test_the_version() -> None:
    code, out, _ = await run("--version")
    assert (code, out.split()[0]) == (0, "promptedge")
