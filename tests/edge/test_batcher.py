"""Prompts that arrive together are embedded in one call, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.batcher import BATCH_MAX, QUEUE_MAX, Batcher, Verdict
from index.decision import Match, Miss
from index.embedding import Tokens
from index.entry import PartitionKey, Question, Scope, Timestamp
from index.similar import Embed, Opinion
from tests.fakes.entries import DIMENSIONS, entry

SCOPE = Scope("shared")
KIND = "shared|*|semantic"


@dataclass
class Encoder:
    """Embeds a text of n letters as n in every dimension; waits at the gate, breaks when told."""

    fingerprint: str = "test"
    dimensions: int = DIMENSIONS
    gate: Event = field(default_factory=Event)
    calls: list[int] = field(default_factory=list)
    broken: bool = False

    def read(self, text: str) -> Tokens:
        if text == "unknown":
            return Tokens((), "unknown-token")
        return Tokens((len(text),), None)

    def embed_tokens(self, texts: Sequence[Tokens]) -> NDArray[np.float32]:
        assert self.gate.wait(20)
        if self.broken:
            raise RuntimeError("the encoder fell over")
        self.calls.append(len(texts))
        return np.array([[text.ids[0]] * self.dimensions for text in texts], dtype=np.float32)

    def inspect(self, text: str) -> str | None:
        return self.read(text).reason

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed_tokens([self.read(text) for text in texts])


def similar(
    scope: Scope,
    question: Question,
    vector: NDArray[np.float32],
    now: Timestamp,
    kind: str,
    opinion: Opinion | None = None,
    embed: Embed | None = None,
) -> Match | Miss:
    assert kind == KIND
    if question.text == "found":
        return Match(entry("found"), "semantic")
    return Miss(f"saw {int(vector[0])}")


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
async def batcher(encoder: Encoder) -> AsyncIterator[Batcher]:
    worker = ThreadPoolExecutor(1)
    made = Batcher(similar, worker, lambda: Timestamp(0.0), lambda: 0.0)
    made.load(encoder)
    try:
        yield made
    finally:
        encoder.gate.set()
        worker.shutdown()


def asking(batcher: Batcher, text: str, *, hurry: bool = False) -> asyncio.Task[Verdict]:
    question = Question(PartitionKey(b"p" * 32), text)
    return asyncio.get_running_loop().create_task(
        batcher.similar(SCOPE, question, KIND, hurry=hurry)
    )


async def reasons(*asked: asyncio.Task[Verdict]) -> list[str]:
    async with asyncio.timeout(20):
        verdicts = await asyncio.gather(*asked)
    return [v.found.reason if isinstance(v.found, Miss) else v.found.kind for v in verdicts]


async def begun(batcher: Batcher) -> None:
    """Until what was just asked is with the encoder."""
    await asyncio.sleep(0)
    assert batcher._busy


async def test_a_lone_prompt_goes_at_once_and_those_behind_it_go_together(
    batcher: Batcher, encoder: Encoder
) -> None:
    first = asking(batcher, "a")
    await begun(batcher)
    rest = [asking(batcher, "x" * n) for n in range(2, 22)]
    await asyncio.sleep(0)
    encoder.gate.set()
    assert await reasons(first, *rest) == [f"saw {n}" for n in range(1, 22)]
    assert encoder.calls == [1, BATCH_MAX, BATCH_MAX, 4]
    assert (batcher.batches, batcher.embedded) == (4, 21)


async def test_each_gets_its_own_vector_also_beside_one_that_cannot_be_read(
    batcher: Batcher, encoder: Encoder
) -> None:
    first = asking(batcher, "a")
    await begun(batcher)
    rest = [asking(batcher, text) for text in ("xx", "unknown", "found", "xxxx")]
    await asyncio.sleep(0)
    encoder.gate.set()
    assert await reasons(first, *rest) == ["saw 1", "saw 2", "unknown-token", "semantic", "saw 4"]
    assert encoder.calls == [1, 3]
    assert rest[1].result().vector is None
    vector = rest[3].result().vector
    assert vector is not None
    assert vector[0] == 4


async def test_the_cancelled_are_passed_by_and_strand_nobody(
    batcher: Batcher, encoder: Encoder
) -> None:
    """More than a batch of them in front of one who waits: it must go, and nothing for them."""
    first = asking(batcher, "a")
    await begun(batcher)
    leaving = [asking(batcher, "leaving") for _ in range(BATCH_MAX + 3)]
    staying = asking(batcher, "xx")
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.sleep(0)
    encoder.gate.set()
    assert await reasons(first, staying) == ["saw 1", "saw 2"]
    assert encoder.calls == [1, 1]


async def test_cancelled_while_it_is_embedded(batcher: Batcher, encoder: Encoder) -> None:
    leaving = asking(batcher, "a")
    await begun(batcher)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    encoder.gate.set()
    assert await reasons(asking(batcher, "xx")) == ["saw 2"]


async def test_an_encoder_that_breaks_is_a_miss_and_is_asked_again(
    batcher: Batcher, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    encoder.gate.set()
    encoder.broken = True
    assert await reasons(asking(batcher, "a"), asking(batcher, "b")) == ["failed", "failed"]
    assert "event=bug part=batcher" in caplog.text
    encoder.broken = False
    assert await reasons(asking(batcher, "a")) == ["saw 1"]


async def test_before_it_is_loaded_and_when_too_many_wait_it_is_a_miss(
    batcher: Batcher, encoder: Encoder
) -> None:
    first = asking(batcher, "a")
    await begun(batcher)
    waiting = [asking(batcher, "xx") for _ in range(QUEUE_MAX)]
    await asyncio.sleep(0)
    assert await reasons(asking(batcher, "one more")) == ["busy"]
    encoder.gate.set()
    assert set(await reasons(first, *waiting)) == {"saw 1", "saw 2"}
    cold = Batcher(similar, ThreadPoolExecutor(1), lambda: Timestamp(0.0), lambda: 0.0)
    assert not cold.ready
    assert cold.fingerprint == ""
    assert await reasons(asking(cold, "a")) == ["warming"]


async def test_who_is_in_a_hurry_waits_for_nobody_and_leaves_the_worker_half_of_its_time(
    encoder: Encoder,
) -> None:
    now = 0.0
    with ThreadPoolExecutor(1) as worker:
        batcher = Batcher(similar, worker, lambda: Timestamp(0.0), lambda: now)
        batcher.load(encoder)
        first = asking(batcher, "a", hurry=True)
        await begun(batcher)
        assert await reasons(asking(batcher, "xx", hurry=True)) == ["busy"]
        now = 3.0
        encoder.gate.set()
        assert await reasons(first) == ["saw 1"]
        assert await reasons(asking(batcher, "xx", hurry=True)) == ["busy"]
        now = 6.0
        assert await reasons(asking(batcher, "xx", hurry=True)) == ["saw 2"]
        assert await reasons(asking(batcher, "xxx")) == ["saw 3"]


async def test_without_a_search_only_the_vector_is_made(batcher: Batcher, encoder: Encoder) -> None:
    encoder.gate.set()
    question = Question(PartitionKey(b"p" * 32), "found")
    verdict = await batcher.similar(SCOPE, question, KIND, search=False)
    assert verdict.found == Miss("not-asked")
    assert verdict.vector is not None


async def test_stored_questions_are_embedded_while_nobody_waits(
    batcher: Batcher, encoder: Encoder
) -> None:
    stored = [Question(PartitionKey(b"p" * 32), text) for text in ("abc", "unknown")]
    first = asking(batcher, "a")
    await begun(batcher)
    assert await batcher.embed_idly(stored) is None
    encoder.gate.set()
    await first
    made = await batcher.embed_idly(stored)
    assert made is not None
    assert [None if vector is None else int(vector[0]) for vector in made] == [3, None]
