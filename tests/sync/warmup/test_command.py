"""`promptedge warm` as people run it: killed, interrupted, in a pipe, on a terminal, mistyped."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.__main__ import main
from tests.edge.test_cli import run
from tests.fakes.upstream import Exchange
from tests.sync.warmup.conftest import Bench

PROMPTS = [f"What is the capital of country {number}?" for number in range(40)]
CONCURRENCY = 4


def command(bench: Bench, *more: str) -> list[str]:
    nodes = [word for url in bench.asked.nodes for word in ("--node", url)]
    return ["warm", str(bench.path), *nodes, "--model", "test-model", *more]


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def asked(bench: Bench) -> Counter[str]:
    return Counter(exchange.text for exchange in bench.upstream.calls)


async def test_after_kill_9_only_calls_in_flight_are_made_again(bench: Bench) -> None:
    bench.write(*PROMPTS)
    hold = asyncio.Event()
    kills = (7, 19, 20)  # calls that have come when it is killed

    async def script(exchange: Exchange) -> Any:
        if exchange.number in kills:
            hold.clear()
            await hold.wait()  # who asked is killed meanwhile
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    in_flight = 0
    for kill in kills:
        async with started(*command(bench, "--concurrency", str(CONCURRENCY))) as process:
            await bench.upstream.called(kill)
            process.kill()
            await process.wait()
        hold.set()
        in_flight += CONCURRENCY
    code, out, err = await run(*command(bench))
    assert code == 0, err
    assert "40 lines: " in out
    assert "goes on from" in err
    assert set(asked(bench)) == set(PROMPTS)
    # A call in flight when its asker dies is given up by the node, or ends and is cached.
    assert asked(bench).total() <= len(PROMPTS) + in_flight
    assert max(asked(bench).values()) <= 1 + len(kills)
    assert not bench.path.with_name("lines.jsonl.warm-journal").exists()


async def test_what_was_recorded_is_never_asked_again_even_by_a_node_that_forgot(
    bench: Bench,
) -> None:
    """It is the journal that remembers, not the cache."""
    bench.write(*PROMPTS)
    journal = bench.path.with_name("lines.jsonl.warm-journal")
    async with started(*command(bench, "--rate", "200/s")) as process:
        await bench.upstream.called(15)
        process.kill()
        await process.wait()
    recorded = journal.read_bytes().count(b'{"line"')
    assert recorded >= 15 - CONCURRENCY
    await run("purge", "--admin", str(bench.nodes[0].addresses["admin"]), "--everything")
    before = asked(bench).total()
    code, out, _ = await run(*command(bench))
    assert (code, f"{recorded} were done by earlier runs" in out) == (0, True)
    assert asked(bench).total() - before == len(PROMPTS) - recorded


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_it_ends_in_order_and_says_how_to_go_on(
    bench: Bench, sign: signal.Signals
) -> None:
    bench.write(*PROMPTS)
    async with started(*command(bench, "--rate", "100/s")) as process:
        await bench.upstream.called(10)
        process.send_signal(sign)
        out, err = await process.communicate()
    assert process.returncode == 130
    assert b"stopped: the same command goes on from here" in out
    assert b"Traceback" not in err
    report = json.loads(bench.path.with_name("lines.jsonl.warm-report.json").read_text())
    assert report["stored"] == len(bench.upstream.calls)  # what was in flight was waited for
    assert report["left"] == len(PROMPTS) - report["stored"]
    assert (await run(*command(bench)))[0] == 0
    assert asked(bench).total() == len(PROMPTS)


async def test_interrupted_twice_it_ends_at_once(bench: Bench) -> None:
    bench.write(*PROMPTS)
    never = asyncio.Event()

    async def script(exchange: Exchange) -> Any:
        await never.wait()
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    async with started(*command(bench)) as process:
        await bench.upstream.called(CONCURRENCY)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"once more" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err


async def test_by_pipe_and_with_everything_said(bench: Bench, tmp_path: Path) -> None:
    lines = "".join(json.dumps(prompt) + "\n" for prompt in PROMPTS[:3])
    state, report = tmp_path / "state", tmp_path / "report.json"
    arguments = [
        *("warm", "-", "--node", bench.asked.nodes[0], "--model", "test-model"),
        *("--system", "Be brief.", "--job", "launch", "--label", "sky", "--ttl", "7d"),
        *("--rate", "50/s", "--concurrency", "2", "--budget-tokens", "2000", "--no-pin"),
        *("--price-in", "0.5", "--price-out", "1.5", "--budget-usd", "1"),
        *("--state", str(state), "--report", str(report)),
    ]
    code, out, err = await run(*arguments, stdin=lines)
    assert (code, "3 stored" in out) == (0, True), err
    told = json.loads(report.read_text())
    assert (told["job"], told["stored"], told["asked"]) == ("launch", 3, 3)
    assert told["usd"] == pytest.approx(3 * (9 * 0.5 + 3 * 1.5) / 1e6)
    assert not state.exists()
    assert bench.upstream.calls[0].body["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_without_a_terminal_progress_is_plain_lines(bench: Bench) -> None:
    bench.write(*PROMPTS[:3])
    _, _, err = await run(*command(bench))
    assert "promptedge warm: 3/3 (100%)" in err
    assert "\r" not in err
    assert "\x1b" not in err


async def test_on_a_terminal_there_is_a_bar(bench: Bench) -> None:
    bench.write(*PROMPTS[:5])
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 120))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge", *command(bench, "--price-out", "10")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=side,
    )
    os.close(side)
    seen = b""
    with contextlib.suppress(OSError), os.fdopen(main, "rb", 0) as terminal:  # EIO: it is over
        while part := await asyncio.to_thread(terminal.read, 4096):
            seen += part
    assert await process.wait() == 0
    assert b"5/5" in seen
    assert b"5 stored" in seen
    assert b"$0.0001" in seen or b"$0.0002" in seen


WRONG: dict[str, tuple[list[str], str]] = {
    "no file": ([], "FILE"),
    "a file that is not there": (["/nowhere/x.jsonl"], "/nowhere/x.jsonl: No such file"),
    "a directory": (["/"], "/: Is a directory"),
    "a rate": (["-", "--rate", "fast"], "write 2/s, 30/min or 500/h"),
    "hours": (["-", "--between", "night"], "write 01:00-06:00"),
    "a zone": (["-", "--between", "01:00-02:00", "--timezone", "Berlin"], "not known"),
    "a zone without hours": (["-", "--timezone", "Europe/Berlin"], "--between"),
    "a life": (["-", "--ttl", "90d"], "at most 30 days"),
    "no life": (["-", "--ttl", "soon"], "write 90s, 15min, 12h or 7d"),
    "a budget without prices": (["-", "--budget-usd", "1"], "--price-in"),
    "a number": (["-", "--concurrency", "0"], "no positive number"),
    "a price": (["-", "--price-in", "cheap"], "no amount of money"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_mistyped_is_said_in_a_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, said = WRONG[name]
    try:
        code = main(["warm", *arguments])
    except SystemExit as exc:  # as argparse ends it
        code = int(exc.code or 0)
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert said in told.err


async def test_a_node_that_is_not_there_is_said_in_a_line() -> None:
    code, out, err = await run("warm", "-", "--node", "http://127.0.0.1:1", stdin='"Why?"')
    assert (code, out) == (2, "")
    assert err.startswith("promptedge: http://127.0.0.1:1 cannot be reached: ")
    assert "Traceback" not in err
