"""What an address may do: requests without a key, and wrong keys."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from edge.admission import key_format
from edge.config import ConfigError
from edge.log import LineFormatter
from edge.protection.settings import ProtectionSettings
from edge.request import Head
from tests.fakes.doors import CHAT
from tests.fakes.indoors import Indoors, indoors
from tests.fakes.node import running_node

HOME, OFFICE = "203.0.113.7", "2001:db8:1:2::3"
MADE = key_format.make(Random(1).choice)
KEYS = {"key-of-acme": "acme", "key-of-beta": "beta", MADE: "gamma"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def guarded(
    data: Path, keys: dict[str, str] | None = None, **limits: int
) -> AsyncIterator[Indoors]:
    protection = ProtectionSettings(**limits)  # type: ignore[arg-type]
    async with indoors(data, keys=keys, protection=protection) as node:
        node.peer = HOME
        yield node


async def status(node: Indoors, key: str | None = None) -> int:
    return (await node.ask("hello", **(bearer(key) if key else {}))).status


# Requests without a key


async def test_an_address_without_a_key_may_ask_so_often(tmp_path: Path) -> None:
    async with guarded(tmp_path, anonymous_requests_per_minute=3) as node:
        assert [await status(node) for _ in range(3)] == [200] * 3
        refused = await node.ask("hello")
        assert refused.status == 429
        assert refused.json["error"]["code"] == "rate_limit_exceeded"
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert 20 <= int(refused.headers["retry-after"]) <= 30
        assert f"in {refused.headers['retry-after']} s" in refused.json["error"]["message"]
        assert b'turned_away_total{reason="address"} 1.0' in node.metrics.render()
        node.peer = OFFICE
        assert await status(node) == 200
        node.peer, node.clock.now = HOME, node.clock.now + 20
        assert [await status(node) for _ in range(2)] == [200, 429]


async def test_who_brings_a_key_has_a_plan_instead(tmp_path: Path) -> None:
    async with guarded(tmp_path, KEYS, anonymous_requests_per_minute=2) as node:
        assert [await status(node, "key-of-acme") for _ in range(5)] == [200] * 5
        assert [await status(node) for _ in range(3)] == [401, 401, 429]
        assert await status(node, "key-of-acme") == 200


async def test_a_header_that_looks_like_a_key_lifts_no_limit_where_there_are_none(
    tmp_path: Path,
) -> None:
    async with guarded(tmp_path, anonymous_requests_per_minute=2) as node:
        assert [await status(node, "whatever") for _ in range(3)] == [200, 200, 429]


async def test_who_is_trusted_is_not_counted(tmp_path: Path) -> None:
    async with guarded(tmp_path, anonymous_requests_per_minute=1) as node:
        for node.peer in ("127.0.0.1", "::1"):
            assert [await status(node) for _ in range(3)] == [200] * 3


async def test_case_13_where_a_request_says_it_is_from_is_not_believed(tmp_path: Path) -> None:
    async with guarded(tmp_path, anonymous_requests_per_minute=1) as node:
        assert await status(node) == 200
        for claim in ("127.0.0.1", "203.0.113.99"):
            answer = await node.ask("hello", x_forwarded_for=claim, forwarded=f"for={claim}")
            assert answer.status == 429


# Wrong keys


async def test_guesses_end_in_a_lockout_and_in_nothing_else(tmp_path: Path) -> None:
    async with guarded(tmp_path, KEYS) as node:
        assert [await status(node, f"guess-{n}") for n in range(13)] == [401] * 11 + [429] * 2
        refused = await node.ask("hello", **bearer("guess"))
        assert 300 <= int(refused.headers["retry-after"]) <= 450
        node.clock.now += 301
        assert await status(node, "guess") == 401
        assert await status(node, "key-of-acme") == 200


async def test_a_right_guess_looks_like_a_wrong_one_while_locked_out(tmp_path: Path) -> None:
    async with guarded(tmp_path, KEYS) as node:
        for n in range(11):
            await status(node, f"guess-{n}")
        wrong = await node.ask("hello", **bearer("guess"))
        right = await node.ask("hello", **bearer("key-of-acme"))
        assert (right.status, right.body) == (wrong.status, wrong.body)
        assert right.headers.keys() == wrong.headers.keys()


async def test_others_behind_the_same_address_are_not_locked_out(tmp_path: Path) -> None:
    async with guarded(tmp_path, KEYS) as node:
        assert await status(node, "key-of-acme") == 200  # before it begins
        for n in range(20):
            await status(node, f"guess-{n}")
        assert await status(node, "key-of-acme") == 200
        assert await status(node, MADE) == 200  # nobody guesses this one
        assert await status(node, "key-of-beta") == 429
        node.peer = "203.0.113.8"
        assert await status(node, "key-of-beta") == 200


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", CHAT), ("GET", "/v1/status")])
async def test_a_guess_where_no_key_is_asked_for_opens_nothing(
    tmp_path: Path, method: str, path: str
) -> None:
    async with guarded(tmp_path, KEYS) as node:
        for key in KEYS:
            answer = node.handler.admit(Head(method, path, "", "edge.example", bearer(key)), HOME)
            assert answer is not None
            assert answer.status < 300
        for n in range(11):
            await status(node, f"guess-{n}")
        assert await status(node, "key-of-acme") == 429


async def test_who_brings_no_key_does_not_guess(tmp_path: Path) -> None:
    async with guarded(tmp_path, KEYS) as node:
        assert [await status(node) for _ in range(50)] == [401] * 50
        assert await status(node, "key-of-beta") == 200


async def test_nobody_trusted_is_locked_out(tmp_path: Path) -> None:
    async with guarded(tmp_path, KEYS) as node:
        node.peer = "127.0.0.1"
        assert [await status(node, f"guess-{n}") for n in range(50)] == [401] * 50


# The log


async def test_case_17_each_wrong_key_is_a_line_that_fail2ban_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with guarded(tmp_path, KEYS) as node:
        await status(node, "' OR 1=1--")
        node.peer = OFFICE
        await status(node, MADE[:-1] + "x")
        await status(node, "k" * 100_000)
        await status(node)
        node.peer = "127.0.0.1"
        await status(node, "guess")
    lines = [LineFormatter().format(one) for one in caplog.records if one.name == "auth"]
    what = "event=auth_fail kind=api_key"
    assert [line.partition("Z ")[2] for line in lines] == [
        f"WARNING auth {what} src={HOME} key_id=- reason=unknown",
        f"WARNING auth {what} src={OFFICE} key_id=- reason=malformed",
        f"WARNING auth {what} src={OFFICE} key_id=- reason=malformed",
        f"INFO auth {what} src={OFFICE} key_id=- reason=missing",
        f"INFO auth {what} src=127.0.0.1 key_id=- reason=unknown",
    ]


async def test_a_guesser_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with guarded(tmp_path, KEYS) as node:
        for n in range(500):
            await status(node, f"guess-{n}")
    lines = [one.getMessage() for one in caplog.records if one.name in ("auth", "http")]
    assert sum("event=auth_fail" in line for line in lines) == 11
    assert sum("event=refused" in line for line in lines) == 11
    assert lines.count(f"event=lockout kind=api_key src={HOME} seconds=300") == 1
    assert len(lines) == 23


async def test_who_asks_too_often_is_told_of_once_a_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with guarded(tmp_path, anonymous_requests_per_minute=1) as node:
        for _ in range(100):
            await status(node)
        node.clock.now += 1
        await status(node)
    lines = [one.getMessage() for one in caplog.records if one.name in ("auth", "http")]
    assert lines == [f"event=too_many_requests src={HOME} see=protection.trusted"] * 2


# A whole node


async def test_trusted_networks_are_checked_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"protection\.trusted: .*10\.0\.0\.1/8"):
        async with running_node(tmp_path, protection={"trusted": ["10.0.0.1/8"]}):
            pass
