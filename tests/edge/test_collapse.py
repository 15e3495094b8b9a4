"""One fill for equal requests: nobody's leaving, slowness or failure is another's."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edge.collapse import WINDOW_BYTES, Collapse, Failed, Flight, Whole
from edge.dialects.events import DONE, Event
from edge.errors import StreamCut, UpstreamError
from edge.request import EventStream, Response
from tests.fakes.doors import JSON, Answer, chat, request_body
from tests.fakes.indoors import Exchange, Indoors, answer, down, indoors
from tests.fakes.upstream import chunk, chunks, sse


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(tmp_path) as one:
        yield one


async def turns(count: int = 20) -> None:
    """Let everybody who can go on do so. No time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


async def next_batch(reading: Any) -> list[Event]:
    batch: list[Event] = await anext(reading)
    return batch


# A flight by itself


def event(number: int, size: int = 10) -> Event:
    return Event(str(number).rjust(size, "."))


def numbers(batch: list[Event]) -> list[int]:
    return [int(one.data.strip(".")) for one in batch]


@asynccontextmanager
async def flights(held_bytes_max: int = 1_000_000) -> AsyncIterator[tuple[Collapse, set[Any]]]:
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
            task = group.create_task(work, name=name)
            running.add(task)
            task.add_done_callback(running.discard)
            return task

        yield Collapse(spawn, held_bytes_max), running
        for task in list(running):
            task.cancel()


async def test_a_late_reader_gets_everything_from_the_start() -> None:
    flight = Flight(1_000_000)
    first = flight.batches(flight.enter(), 60)
    flight.publish(event(0))
    assert numbers(await next_batch(first)) == [0]
    flight.publish(event(1))
    flight.publish(event(2))
    late = flight.batches(flight.enter(), 60)
    assert numbers(await next_batch(late)) == [0, 1, 2]
    assert numbers(await next_batch(first)) == [1, 2]
    flight.publish(DONE)
    flight.settle(Whole(b"", stored=True))
    after = flight.batches(flight.enter(), 60)
    assert (await next_batch(after))[-1] == DONE
    for reading in (first, late):
        assert await next_batch(reading) == [DONE]
        with pytest.raises(StopAsyncIteration):
            await next_batch(reading)


async def test_silence_is_an_empty_batch() -> None:
    flight = Flight(1_000_000)
    reading = flight.batches(flight.enter(), 0.001)
    assert await next_batch(reading) == []
    assert await next_batch(reading) == []
    flight.publish(event(0))
    assert numbers(await next_batch(reading)) == [0]


async def fill_for_ever(flight: Flight, size: int = 1000) -> None:
    number = 0
    while True:
        flight.publish(event(number, size))
        number += 1
        await flight.room()
        await asyncio.sleep(0)


async def test_readers_that_do_not_read_hold_the_fill_back() -> None:
    async with flights() as (collapse, _):
        flight, _ = collapse.join("k", fill_for_ever)
        flight.hold()
        stalled = [flight.enter() for _ in range(3)]
        await turns(500)
        assert flight._published_bytes <= WINDOW_BYTES + 1000
        one = flight.batches(stalled[0], 60)
        got = len(numbers(await next_batch(one)))
        await turns(500)
        assert flight._published_bytes <= 2 * WINDOW_BYTES + 2000
        assert len(numbers(await next_batch(one))) + got == flight._next


async def test_the_last_reader_that_leaves_ends_the_wait_for_room() -> None:
    async with flights() as (collapse, _):
        flight, _ = collapse.join("k", fill_for_ever)
        flight.hold()
        reader = flight.enter()
        await turns(200)
        before = flight._next
        flight.leave(reader)
        await turns(200)
        assert flight._next > before


async def test_whoever_wants_the_whole_answer_keeps_it_coming() -> None:
    async with flights() as (collapse, running):
        flight, _ = collapse.join("k", fill_for_ever)
        flight.hold()
        flight.enter()
        await turns(200)
        paused_at = flight._next
        async with asyncio.TaskGroup() as group:
            whole = group.create_task(flight.whole())
            await turns(300)
            assert flight._next > paused_at
            flight.settle(Whole(b"all", stored=False))
            (fill,) = running
            fill.cancel()
        assert whole.result() == Whole(b"all", stored=False)


async def test_a_fast_reader_and_a_slow_one_share_a_call_until_one_is_too_far_behind() -> None:
    """Up to what is held for the store everything is there for all; then the slow one is cut."""
    held_max = 200_000
    async with flights(held_max) as (collapse, _):
        flight, _ = collapse.join("k", fill_for_ever)
        flight.hold()
        fast, slow = flight.batches(flight.enter(), 60), flight.batches(flight.enter(), 60)
        seen: list[int] = []
        while flight.storable:
            seen += numbers(await next_batch(fast))
            await turns(3)
        assert not flight.joinable
        assert collapse.join("k", fill_for_ever)[0] is not flight
        for _ in range(100):
            seen += numbers(await next_batch(fast))
            await turns(3)
            assert flight._held_bytes <= held_max
        assert seen == list(range(len(seen)))
        with pytest.raises(StreamCut, match="too slow"):
            await next_batch(slow)


async def test_a_reader_not_quite_so_slow_survives_a_huge_answer() -> None:
    async with flights(200_000) as (collapse, _):
        flight, _ = collapse.join("k", fill_for_ever)
        flight.hold()
        fast, slow = flight.batches(flight.enter(), 60), flight.batches(flight.enter(), 60)
        seen: list[int] = []
        for step in range(3000):
            await next_batch(fast)
            await turns(2)
            if step % 50 == 0:
                seen += numbers(await next_batch(slow))
        assert not flight.storable
        assert seen == list(range(len(seen)))
        assert len(seen) * 1000 > 2 * 200_000


async def test_one_event_larger_than_all_that_is_held_reaches_its_readers() -> None:
    async def large(flight: Flight) -> None:
        for number in range(5):
            flight.publish(event(number, 300_000))
            await flight.room()
        flight.settle(Whole(b"", stored=False))

    async with flights(200_000) as (collapse, _):
        flight, _ = collapse.join("k", large)
        flight.hold()
        reading = flight.batches(flight.enter(), 60)
        seen: list[int] = []
        async for batch in reading:
            seen += numbers(batch)
        assert seen == [0, 1, 2, 3, 4]


async def test_memory_is_bounded_also_while_somebody_wants_the_whole_answer() -> None:
    async with flights(200_000) as (collapse, running):
        flight, _ = collapse.join("k", fill_for_ever)
        flight.hold()
        stalled = flight.batches(flight.enter(), 60)
        async with asyncio.TaskGroup() as group:
            group.create_task(flight.whole())
            await turns(500)
            assert flight._held_bytes <= 200_000
            with pytest.raises(StreamCut):
                await next_batch(stalled)
            flight.settle(Whole(b"all", stored=False))
            (fill,) = running
            fill.cancel()


async def test_nobody_joins_what_is_being_cancelled() -> None:
    """a waits, a leaves; before the call has unwound b comes: it must not get a's cancellation."""
    unwinding = asyncio.Event()

    async def slow_to_stop(flight: Flight) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await unwinding.wait()

    async with flights() as (collapse, _):
        a, led = collapse.join("k", slow_to_stop)
        assert led
        a.hold()
        await turns()
        a.release()
        await turns()
        b, led = collapse.join("k", slow_to_stop)
        assert led
        assert b is not a
        b.hold()
        unwinding.set()
        await turns()
        assert len(collapse) == 1
        assert collapse.join("k", slow_to_stop) == (b, False)


@pytest.mark.parametrize("outcome", [Failed(down()), Whole(b"", stored=True)])
async def test_nobody_joins_what_is_over(outcome: Failed | Whole) -> None:
    async def end(flight: Flight) -> None:
        flight.settle(outcome)

    async with flights() as (collapse, _):
        flight, _ = collapse.join("k", end)
        with suppress(UpstreamError):
            await flight.whole()
        assert collapse.join("k", end)[1]


async def test_without_a_key_everyone_flies_alone() -> None:
    async with flights() as (collapse, _):
        flying = [collapse.join(None, fill_for_ever) for _ in range(3)]
        assert len({id(flight) for flight, _ in flying}) == 3
        assert all(led for _, led in flying)
        assert len(collapse) == 0


# Through the handler


def held(gate: asyncio.Event) -> Any:
    """An upstream that answers when `gate` opens."""

    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in answer(exchange):
            yield piece

    return script


def body(text: str, stream: bool = False) -> bytes:
    return request_body(chat(text, stream=stream))


def said(got: Answer) -> str:
    """The model's words, whichever form they came in."""
    if not got.body.startswith(b"data:"):
        return got.text
    deltas = [json.loads(data)["choices"] for data in got.events[:-1]]
    assert got.events[-1] == "[DONE]"
    return "".join(choices[0]["delta"].get("content") or "" for choices in deltas if choices)


@pytest.mark.parametrize("stream", [False, True])
async def test_row_24_a_thousand_equal_cold_requests_make_one_call(
    house: Indoors, stream: bool
) -> None:
    gate = asyncio.Event()
    house.upstreams.script = held(gate)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(house.request(JSON, body("x", stream))) for _ in range(1000)]
        await house.upstreams.called(1)
        gate.set()
    answers = [task.result() for task in asked]
    assert len(house.upstreams.calls) == 1
    assert {said(one) for one in answers} == {"answer 1 to: x"}
    assert len({one.body for one in answers}) == 1
    assert sum("collapsed" not in one.headers["cache-status"] for one in answers) == 1
    totals = house.metrics.totals()
    assert (totals["miss"], totals["collapsed"]) == (1, 999)


async def test_case_26_one_call_also_after_its_first_client_has_left(house: Indoors) -> None:
    gate = asyncio.Event()
    house.upstreams.script = held(gate)
    loop = asyncio.get_running_loop()
    asked = [loop.create_task(house.request(JSON, body("x", n % 2 == 0))) for n in range(1000)]
    await house.upstreams.called(1)
    for leaving in asked[:500]:
        leaving.cancel()
    await turns()
    gate.set()
    answers = await asyncio.gather(*asked[500:])
    await asyncio.gather(*asked[:500], return_exceptions=True)
    assert {said(one) for one in answers} == {"answer 1 to: x"}
    assert len(house.upstreams.calls) == 1
    await turns()
    assert house.at_rest()


async def test_row_24_a_streaming_follower_has_each_event_as_soon_as_its_leader(
    house: Indoors,
) -> None:
    step = asyncio.Semaphore(0)

    async def one_by_one(exchange: Exchange) -> AsyncIterator[bytes]:
        for data in chunks("one two three"):
            await step.acquire()
            yield sse(data)

    house.upstreams.script = one_by_one
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(house.stream("x")) for _ in range(2)]
        for _ in range(2):  # who speaks is no word yet
            step.release()
    leader, follower = (task.result().chunks for task in opening)
    late: Any = None
    for word in (b'"one "', b'"two "', b'"three"'):
        got = [await anext(leader), await anext(follower)]
        assert got[0] == got[1]
        assert word in got[0]
        if word == b'"one "':
            late = (await house.stream("x")).chunks
            assert b'"one "' in await anext(late)
        step.release()
    for _ in range(2):
        step.release()
    rest = [b"".join([part async for part in one]) for one in (leader, follower, late)]
    assert all(one.endswith(b"data: [DONE]\n\n") for one in rest)
    assert len(house.upstreams.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_row_25_one_retry_for_all_who_followed_a_leader_that_failed(
    house: Indoors, stream: bool
) -> None:
    gate = asyncio.Event()

    async def fail_once(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        if exchange.number == 1:
            raise down()
        async for piece in answer(exchange):
            yield piece

    house.upstreams.script = fail_once
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(house.request(JSON, body("x", stream))) for _ in range(50)]
        await house.upstreams.called(1)
        gate.set()
    answers = [task.result() for task in asked]
    assert [one.status for one in answers].count(502) == 1
    assert answers[0].status == 502
    assert {said(one) for one in answers[1:]} == {"answer 2 to: x"}
    assert len(house.upstreams.calls) == 2


async def test_row_25_when_the_retry_fails_as_well_nobody_hangs_and_nobody_stampedes(
    house: Indoors,
) -> None:
    gate = asyncio.Event()

    async def fail(_exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        raise down()
        yield b""

    house.upstreams.script = fail
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(house.request(JSON, body("x"))) for _ in range(50)]
        await house.upstreams.called(1)
        gate.set()
    assert {task.result().status for task in asked} == {502}
    assert len(house.upstreams.calls) == 2
    assert house.at_rest()


async def test_row_25_whoever_wants_json_is_not_lost_with_a_stream_that_was_cut(
    house: Indoors,
) -> None:
    """The stream's readers have seen a part of it; those who have seen nothing may try again."""

    async def cut_once(exchange: Exchange) -> AsyncIterator[bytes]:
        if exchange.number > 1:
            async for piece in answer(exchange):
                yield piece
            return
        yield sse(chunk({"content": "one"}))
        await opened.wait()

    opened = asyncio.Event()
    house.upstreams.script = cut_once
    reading = (await house.stream("x")).chunks
    async with asyncio.TaskGroup() as group:
        whole = group.create_task(house.ask("x"))
        await turns()
        opened.set()
        with pytest.raises(StreamCut):
            async for _ in reading:
                pass
    assert whole.result().text == "answer 2 to: x"


@pytest.mark.parametrize("leader_streams", [False, True])
@pytest.mark.parametrize("step", range(32))
async def test_a_client_may_leave_at_every_await(
    tmp_path: Path, step: int, leader_streams: bool
) -> None:
    """Three wait for one answer. The first leaves after `step` turns; two are served."""
    async with indoors(tmp_path) as house:
        loop = asyncio.get_running_loop()
        leaving = loop.create_task(house.request(JSON, body("x", leader_streams)))
        await turns(min(step, 3))
        staying = [loop.create_task(house.request(JSON, body("x", s))) for s in (False, True)]
        await turns(step)
        leaving.cancel()
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*staying)
        await asyncio.gather(leaving, return_exceptions=True)
        assert len({said(one) for one in answers}) == 1
        assert said(answers[0]) in ("answer 1 to: x", "answer 2 to: x")
        await turns()
        assert house.at_rest()
        assert all(call.left for call in house.upstreams.calls)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_when_all_have_left_the_call_is_over(tmp_path: Path, step: int) -> None:
    async def endless(exchange: Exchange) -> AsyncIterator[bytes]:
        yield sse(chunk({"content": "one"}))
        await asyncio.Event().wait()

    async with indoors(tmp_path) as house:
        house.upstreams.script = endless
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(house.request(JSON, body("x", s))) for s in (True, False, True)]
        await turns(step)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        while house.running:
            await asyncio.wait(house.running)
        await turns()
        assert house.at_rest()
        assert all(call.left for call in house.upstreams.calls)


async def test_a8_two_thousand_requests_that_leave_at_random_never_mix_answers(
    house: Indoors,
) -> None:
    """Canaries: every body that arrives is the answer to what its own client asked."""
    random = Random(20260301)
    patiences = [None] * 8 + [2**power for power in range(9)]

    async def client(canary: str, patience: int | None, stream: bool) -> Answer | None:
        asking = asyncio.get_running_loop().create_task(house.request(JSON, body(canary, stream)))
        if patience is not None:
            await turns(patience)
            asking.cancel()
        try:
            return await asking
        except asyncio.CancelledError:
            return None

    arrived = 0
    for batch in range(40):
        canaries = [f"canary-{batch}-{random.randrange(12)}-" for _ in range(50)]
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(client(canary, random.choice(patiences), random.random() < 0.5))
                for canary in canaries
            ]
        for canary, task in zip(canaries, asked, strict=True):
            got = task.result()
            if got is not None:
                arrived += 1
                assert said(got).endswith(f"to: {canary}")
    assert arrived > 800
    await turns()
    assert house.at_rest()


# Back-pressure


async def test_row_58_a_client_that_does_not_read_holds_its_upstream_back(house: Indoors) -> None:
    async def endless(exchange: Exchange) -> AsyncIterator[bytes]:
        while True:
            yield sse(chunk({"content": "x" * 1000}))
            await asyncio.sleep(0)

    house.upstreams.script = endless
    stalled = await house.stream("x")
    await turns(2000)
    (call,) = house.upstreams.calls
    assert call.sent_bytes < WINDOW_BYTES + 4000
    for _ in range(3):
        await anext(stalled.chunks)
        await turns(500)
    assert call.sent_bytes < 4 * (WINDOW_BYTES + 4000)
    await stalled.chunks.aclose()
    await turns()
    assert house.at_rest()
    assert call.left


async def test_an_answer_too_large_to_keep_passes_in_bounded_memory(house: Indoors) -> None:
    size, pieces = 16 * 1024, 1500

    async def large(exchange: Exchange) -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield sse(chunk({"content": "x" * size}))
        yield sse(chunk({}, finish="stop"))
        yield sse("[DONE]")

    house.upstreams.script = large
    stream = await house.stream("x")
    (flight,) = house.collapse._joinable.values()
    got = 0
    async for part in stream.chunks:
        got += part.count(b"x" * size)
        assert flight._held_bytes < 4 * 1024 * 1024 + 2 * size
    assert got == pieces
    assert not flight.storable
    outcome = flight.outcome
    assert isinstance(outcome, Whole)
    assert (outcome.stored, len(outcome.body) < 1000) == (False, True)
    house.upstreams.script = answer
    again = await house.ask("x")
    assert again.cache["fwd"] == "miss"


async def test_a_stream_handed_over_and_never_begun_is_given_back(house: Indoors) -> None:
    stream = await house.stream("x")
    assert isinstance(stream, EventStream)
    await stream.chunks.aclose()
    await turns()
    assert house.at_rest()


async def test_a_hit_needs_no_task(house: Indoors) -> None:
    await house.ask("x")
    await turns()
    reply = await house.reply(JSON, body("x"))
    assert isinstance(reply, Response)
    assert house.at_rest()
