"""A job on real nodes: what is asked, when, how often, and what becomes of it."""

import asyncio
import datetime as dt
import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web

from index.entry import Purge
from sync.warmup.job import Order
from sync.warmup.journal import JournalError
from sync.warmup.plan import Budget, Prices, QuietHours, Rate
from sync.warmup.report import Estimate
from sync.warmup.run import WarmupError
from tests.fakes.clocks import SleepersClock
from tests.fakes.doors import chat
from tests.fakes.upstream import Exchange, completion
from tests.sync.warmup.conftest import Bench

SKY = "Why is the sky blue?"
SEA = "Why is the sea salty?"
SUN = "Why is the sun hot?"
TOKENS = 12
"""Of a scripted answer and its prompt."""


class PatientClock(SleepersClock):
    """Whoever sleeps does so."""

    async def sleep(self, seconds: float, unless: asyncio.Event) -> None:
        await super().sleep(seconds, unless)
        await asyncio.sleep(seconds)


async def test_prompts_become_hits_and_the_upstream_was_asked_once_each(bench: Bench) -> None:
    bench.write(SKY, {"prompt": SEA}, chat(SUN), SKY)
    done = await bench.warm()
    assert (done.exit_code, done.outcomes, done.asked) == (0, {"stored": 3}, 3)
    assert (done.survey.repeated, done.left) == (1, 0)
    for prompt in (SKY, SEA, SUN):
        assert (await bench.ask(prompt)).cache["hit"] is True
    assert len(bench.upstream.calls) == 3


async def test_what_is_there_already_is_skipped_unless_it_is_to_be_refreshed(bench: Bench) -> None:
    await bench.ask(SKY)
    bench.write(SKY, SEA)
    done = await bench.warm()
    assert (done.outcomes, done.asked) == ({"present": 1, "stored": 1}, 1)
    done = await bench.warm(order=Order(refresh=True))
    assert (done.outcomes, done.asked) == ({"stored": 2}, 2)


async def test_several_nodes_get_the_answers_and_the_upstream_is_asked_once(bench: Bench) -> None:
    bench.write(SKY, SEA)
    done = await bench.warm(nodes=bench.both)
    assert (done.exit_code, len(bench.upstream.calls)) == (0, 2)
    first, second = await bench.ask(SKY, 0), await bench.ask(SKY, 1)
    assert second.cache["hit"] is True
    assert (first.body, first.headers["etag"]) == (second.body, second.headers["etag"])


async def test_a_node_that_has_it_gives_it_to_one_that_has_not(bench: Bench) -> None:
    await bench.ask(SKY, 0)
    bench.write(SKY)
    await bench.warm(nodes=bench.both)
    assert (await bench.ask(SKY, 1)).cache["hit"] is True
    assert len(bench.upstream.calls) == 1


@pytest.mark.parametrize("purged_on", [0, 1])
async def test_a_purge_while_the_upstream_answers_holds_on_every_node(
    bench: Bench, purged_on: int
) -> None:
    async def answer(exchange: Exchange) -> web.StreamResponse:
        await bench.nodes[purged_on].purges.purge(Purge())
        return await exchange.json(completion("An answer from before the purge."))

    bench.upstream.script = answer
    bench.write(SKY)
    await bench.warm(nodes=bench.both)
    assert "hit" not in (await bench.ask(SKY, purged_on)).cache


async def test_purges_of_before_do_not_keep_an_answer_from_any_node(bench: Bench) -> None:
    for node in bench.nodes:
        await node.purges.purge(Purge())
    bench.write(SKY)
    await bench.warm(nodes=bench.both)
    assert (await bench.ask(SKY, 0)).cache["hit"] is True
    assert (await bench.ask(SKY, 1)).cache["hit"] is True


async def test_a_finished_batch_is_imported_without_asking(bench: Bench, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": chat(text)}
        for name, text in (("a", SKY), ("b", SEA))
    ]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer = completion("Rayleigh.", created=4_000_000_000)  # so far ahead: it is of now
    bench.write(
        {"custom_id": "a", "response": {"status_code": 200, "body": answer}, "error": None},
        {"custom_id": "b", "response": None, "error": {"code": "batch_expired"}},
        {"custom_id": "c", "response": {"status_code": 200, "body": answer}, "error": None},
    )
    done = await bench.warm(requests=requests, nodes=bench.both)
    assert (done.exit_code, done.outcomes, done.survey.bad) == (1, {"stored": 1}, 2)
    assert [flaw.number for flaw in done.survey.flaws] == [2, 3]
    for node in (0, 1):
        assert (await bench.ask(SKY, node)).text == "Rayleigh."
    assert bench.upstream.calls == []


async def test_the_input_of_a_batch_is_asked(bench: Bench) -> None:
    line = {"method": "POST", "url": "/v1/chat/completions", "body": chat(SKY)}
    bench.write({"custom_id": "a", **line}, {"custom_id": "b", **line, "url": "/v1/embeddings"})
    done = await bench.warm()
    assert (done.exit_code, done.outcomes, done.survey.bad) == (1, {"stored": 1}, 1)


async def test_bad_lines_are_told_and_stop_nothing_unless_strict(bench: Bench) -> None:
    bench.write(SKY, {"messages": 3}, SEA)
    with pytest.raises(WarmupError, match="1 line cannot be used; line 2: "):
        await bench.warm(strict=True)
    assert bench.upstream.calls == []
    done = await bench.warm()
    assert (done.exit_code, done.outcomes) == (1, {"stored": 2})
    assert "line 2: it is neither a prompt nor a chat request" in bench.said.getvalue()
    assert "line 2" in done.text()


async def test_what_may_not_be_cached_is_counted_with_its_reason(bench: Bench) -> None:
    bench.write(SKY, "My password is hunter2-hunter2, is it a good one?")
    done = await bench.warm()
    assert (done.exit_code, done.outcomes) == (0, {"stored": 1, "refused": 1})
    assert list(done.refused.values()) == [1]


async def test_one_line_that_fails_is_named_and_the_others_are_done(bench: Bench) -> None:
    async def script(exchange: Exchange) -> Any:
        if exchange.text == SEA:
            return await exchange.json({"error": {"message": "Too long."}}, 400)
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    bench.write(SKY, SEA, SUN)
    done = await bench.warm()
    assert (done.exit_code, done.outcomes, done.failed_count) == (1, {"stored": 2}, 1)
    assert done.document()["failures"] == [{"line": 2, "name": "", "reason": "Too long"}]
    assert bench.asked.journal is not None
    assert bench.asked.journal.exists()  # the next run tries it again
    bench.upstream.script = bench.upstream.answer
    done = await bench.warm()
    assert (done.exit_code, done.outcomes, done.resumed) == (0, {"stored": 3}, 2)
    assert not bench.asked.journal.exists()


# Time.


async def test_retry_after_is_obeyed_by_all_and_the_call_made_again(bench: Bench) -> None:
    times: list[float] = []

    async def script(exchange: Exchange) -> Any:
        times.append(bench.clock.now)
        if len(times) == 1:
            return await exchange.json({"error": {"message": "Slow."}}, 429, retry_after="1")
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    bench.clock = PatientClock()  # the node lets its upstream rest as long, by a clock of its own
    bench.write(SKY, SEA, SUN)
    began = bench.clock.now
    done = await bench.warm(concurrency=1)
    assert (done.exit_code, done.outcomes) == (0, {"stored": 3})
    assert done.errors == {"rate_limit_exceeded": 1}
    assert times[1] - began >= 1


async def test_without_retry_after_it_waits_longer_each_time(bench: Bench) -> None:
    async def script(exchange: Exchange) -> Any:
        if exchange.number < 5:
            return await exchange.json({"error": {"message": "Down."}}, 503)
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    bench.write(SKY)
    done = await bench.warm()
    assert (done.exit_code, done.outcomes) == (0, {"stored": 1})
    assert len(bench.clock.slept) == 4


async def test_when_nothing_succeeds_it_gives_up_and_goes_on_another_day(bench: Bench) -> None:
    async def script(exchange: Exchange) -> Any:
        return await exchange.json({"error": {"message": "Down."}}, 503)

    bench.upstream.script = script
    bench.write(*(f"What is the capital of country {number}?" for number in range(40)))
    done = await bench.warm(concurrency=2)
    assert (done.exit_code, done.stopped) == (3, "failing")
    assert 10 <= done.failed_count <= 12
    bench.upstream.script = bench.upstream.answer
    done = await bench.warm()
    assert (done.exit_code, done.outcomes) == (0, {"stored": 40})


async def test_no_faster_than_the_rate(bench: Bench) -> None:
    times: list[float] = []

    async def script(exchange: Exchange) -> Any:
        times.append(bench.clock.now)
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    bench.write(*(f"What is the capital of country {number}?" for number in range(10)))
    await bench.warm(rate=Rate(2.0), concurrency=1)
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))


async def test_what_is_cached_costs_no_time(bench: Bench) -> None:
    prompts = [f"What is the capital of country {number}?" for number in range(10)]
    bench.write(*prompts)
    await bench.warm()
    before = bench.clock.now
    done = await bench.warm(rate=Rate(0.01), concurrency=1)
    assert done.outcomes == {"present": 10}
    assert bench.clock.now == before


async def test_only_in_quiet_hours(bench: Bench) -> None:
    zone = ZoneInfo("Europe/Berlin")
    hours: list[int] = []

    async def script(exchange: Exchange) -> Any:
        hours.append(dt.datetime.fromtimestamp(bench.clock.now, zone).hour)
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    bench.clock.now = dt.datetime(2026, 11, 26, 20, 0, tzinfo=zone).timestamp()
    bench.write(*(f"What is the capital of country {number}?" for number in range(9)))
    quiet = QuietHours.read("01:00-03:00", zone)
    done = await bench.warm(quiet=quiet, rate=Rate(1 / 1800), concurrency=1)
    assert done.exit_code == 0
    assert set(hours) == {1, 2}
    ended = dt.datetime.fromtimestamp(bench.clock.now, zone)
    assert (ended.day, ended.hour) == (29, 1)  # four a night


async def test_given_answers_wait_for_no_quiet_hours(bench: Bench) -> None:
    now = dt.datetime.fromtimestamp(bench.clock.now, dt.UTC)
    begin = (now + dt.timedelta(hours=2)).time()
    quiet = QuietHours(begin, (now + dt.timedelta(hours=3)).time(), ZoneInfo("UTC"))
    bench.write({"prompt": SKY, "answer": "Rayleigh."})
    await bench.warm(quiet=quiet)
    assert bench.clock.slept == []


# Money.


async def test_it_stops_before_the_budget_is_overrun_and_goes_on_with_a_larger_one(
    bench: Bench,
) -> None:
    prompts = [f"What is the capital of country {number}?" for number in range(20)]
    bench.write(*[{**chat(prompt), "max_tokens": 3} for prompt in prompts])
    estimate = 1 + len(prompts[-1]) // 4 + 3
    done = await bench.warm(budget=Budget(tokens_max=5 * TOKENS + estimate - 1))
    assert (done.exit_code, done.stopped, done.outcomes) == (3, "budget", {"stored": 5})
    assert (done.prompt_tokens, done.answer_tokens, done.left) == (45, 15, 15)
    done = await bench.warm(budget=Budget(Prices(1000.0, 1000.0), usd_max=10 * TOKENS / 1000))
    assert (done.stopped, len(bench.upstream.calls)) == ("budget", 10)
    assert done.usd == pytest.approx(10 * TOKENS / 1000)
    done = await bench.warm()
    assert (done.exit_code, done.outcomes, len(bench.upstream.calls)) == (0, {"stored": 20}, 20)


async def test_a_dry_run_tells_what_it_would_come_to_and_asks_nothing(bench: Bench) -> None:
    await bench.ask(SKY)
    bench.write(SKY, SEA, SUN, {"prompt": "Who are you?", "answer": "A shop."})
    budget = Budget(Prices(1.0, 2.0), usd_max=0.0001)
    done = await bench.warm(order=Order(dry_run=True), budget=budget, rate=Rate(0.5))
    assert done.outcomes == {"present": 1, "would-ask": 2, "would-store": 1}
    assert done.estimate is not None
    assert (done.estimate.calls, done.estimate.seconds) == (2, 4.0)
    assert (done.estimate.answer_tokens, done.estimate.affordable) == (600, False)
    assert "would ask 2 times: about" in done.text()
    assert len(bench.upstream.calls) == 1
    assert sorted(path.name for path in bench.path.parent.glob("lines*")) == ["lines.jsonl"]


def test_one_is_one_and_not_several() -> None:
    one = Estimate(1, 1, 300, None, None, affordable=True)
    assert one.text() == "would ask 1 time: about 1 token of prompts and 300 of answers"


# Going on.


async def test_a_file_that_was_edited_goes_on_where_it_is_the_same(bench: Bench) -> None:
    async def script(exchange: Exchange) -> Any:
        if exchange.text == SUN:
            return await exchange.json({"error": {"message": "Too hot."}}, 400)
        return await bench.upstream.answer(exchange)

    bench.upstream.script = script
    bench.write(SKY, SEA, SUN)
    await bench.warm()
    moon = "Why is the moon round?"
    bench.write(moon, SKY)
    done = await bench.warm()
    assert (
        "the file has changed since: 1 of its lines were done, 1 that were are not in it any more"
    ) in bench.said.getvalue()
    assert (done.exit_code, done.resumed, done.outcomes) == (0, 1, {"stored": 2})
    assert [exchange.text for exchange in bench.upstream.calls].count(SKY) == 1


async def test_other_options_are_another_job(bench: Bench) -> None:
    bench.write(SKY, SEA)
    await bench.warm(budget=Budget(tokens_max=1))
    with pytest.raises(JournalError, match="another labels"):
        await bench.warm(order=Order(labels=("other",)))
    with pytest.raises(JournalError, match="another node"):
        await bench.warm(nodes=bench.both)
    done = await bench.warm(nodes=bench.both, restart=True)
    assert done.exit_code == 0


async def test_the_report_is_written_and_tells_no_prompt(bench: Bench) -> None:
    bench.write(SKY, {"prompt": SEA, "answer": "Rivers."}, {"prompt": 3})
    done = await bench.warm()
    assert bench.asked.report_path is not None
    written = bench.asked.report_path.read_text()
    assert json.loads(written) == done.document()
    for text in (written, done.text(), bench.said.getvalue()):
        assert "sky" not in text
        assert "Rivers" not in text


async def test_a_node_that_is_not_there_is_said_before_anything_is_asked(bench: Bench) -> None:
    bench.write(SKY)
    with pytest.raises(WarmupError, match=r"127\.0\.0\.1:1 cannot be reached"):
        await bench.warm(nodes=(*bench.both, "127.0.0.1:1"))
    with pytest.raises(WarmupError, match="not the URL of an admin listener"):
        await bench.warm(nodes=("http://127.0.0.1:9090/admin",))
    plain = str(bench.nodes[0].addresses["plain"])
    with pytest.raises(WarmupError, match="not an admin listener"):
        await bench.warm(nodes=(plain,))
    assert bench.upstream.calls == []
