"""What answers by meaning need before there are any, made behind the open listeners: the encoder, a
second opinion, and the vectors of what is stored."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from edge.batcher import Batcher
from index import embedding, verifier
from index.answers import Answers
from index.embedding import EmbeddingSettings
from index.entry import Question
from index.model_files import ModelError
from index.verifier import VerifierSettings

log = logging.getLogger("meaning")

EMBEDDED_AT_ONCE = 4
"""A prompt that comes meanwhile waits for these: some 10 ms."""
EMBED_PAUSE_S = 0.05
EMBED_LOOK_S = 2.0


class Meaning:
    def __init__(
        self,
        answers: Answers,
        batcher: Batcher,
        encoder: EmbeddingSettings,
        second: VerifierSettings,
        directory: Path,
        embedding_worker: Executor,
        reader: Executor,
        on_encoder: Callable[[str], None],
    ) -> None:
        """`on_encoder` is told the fingerprint of the encoder once it is loaded."""
        self._answers = answers
        self._batcher = batcher
        self._encoder = encoder
        self._verifier = second
        self._directory = directory
        self._embedding_worker = embedding_worker
        self._reader = reader
        self._on_encoder = on_encoder
        self.state = "off"
        self.settled = asyncio.Event()
        """Set once meaning answers, or never will."""

    async def run(self) -> None:
        self.state = "loading"
        loop = asyncio.get_running_loop()
        try:
            embedder = await loop.run_in_executor(
                self._embedding_worker, embedding.load, self._encoder, self._directory
            )
        except ModelError as exc:
            self.state = "unavailable"
            self.settled.set()
            log.error("event=embedder_unavailable why=%s", exc)
            return
        self.state = "warming"
        self._batcher.load(embedder)
        self._on_encoder(embedder.fingerprint)
        await self._load_verifier()
        await loop.run_in_executor(
            self._reader, self._answers.similar.load, embedder.fingerprint, embedder.dimensions
        )
        self.state = "ready"
        self.settled.set()
        log.info("event=semantic_ready model=%s", self._encoder.model)
        await self._embed_idly()

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield "semantic_ready", "1 once meaning answers.", lambda: self.state == "ready"

    async def _load_verifier(self) -> None:
        """A second opinion, if there is one: without it there are fewer hits, and none is wrong."""
        if not self._verifier.model:
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._embedding_worker, verifier.load, self._verifier, self._directory
            )
        except ModelError as exc:
            log.error("event=verifier_unavailable why=%s", exc)
            return
        if found is None:
            log.warning("event=verifier_off why=no weights in %s", self._verifier.model)
            return
        self._batcher.use(found, self._verifier.deadline_s)
        log.info("event=verifier_ready model=%s", self._verifier.model)

    async def _embed_idly(self) -> None:
        """Give stored questions without a vector one, when nobody waits: those that came from nodes
        with another encoder, and those that were embedded by another of ours."""
        loop = asyncio.get_running_loop()
        waiting: list[tuple[int, Question]] = []
        while True:
            if not waiting:
                waiting = await loop.run_in_executor(
                    self._reader, self._answers.similar.unembedded, EMBEDDED_AT_ONCE
                )
            made = await self._batcher.embed_idly([asked for _, asked in waiting])
            if made is not None:
                for (id_, asked), vector in zip(waiting, made, strict=True):
                    if vector is not None:
                        self._answers.similar.embedded(id_, asked, vector)
            pause_s = EMBED_PAUSE_S if waiting else EMBED_LOOK_S
            waiting = [] if made is not None else waiting
            await asyncio.sleep(pause_s)
