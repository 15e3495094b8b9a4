"""Answers put into the cache on purpose: what a warm-up job orders, one request at a time.

An order goes the way of any prompt, through intake, a flight and the fill, so that what may be
stored, for how long and under which key is decided where it always is. It differs in what it asks
of memory (the very answer, none that means the same), in what becomes of the entry (labels, a pin,
a life of its own), and in that it may bring the answer along. What will not be stored anyhow is not
asked for: that would cost tokens and keep nothing.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

from edge.ask import Ask, Curation, Given, Query
from edge.collapse import Collapse, Flight, Whole
from edge.errors import ClientError, EdgeError
from edge.intake import Intake
from index import prompt
from index.answers import Answers
from index.eligibility import PromptClass
from index.entry import LABELS_MAX, Entry, Instant, Seen, Timestamp

CHARS_A_TOKEN = 4
"""About, for upstreams that do not count."""


@dataclass(frozen=True, slots=True)
class Order:
    """One request, and what is to become of its answer."""

    body: bytes
    tenant: str | None = None
    labels: tuple[str, ...] = ()
    ttl_s: float | None = None
    """None: as the route has it."""
    pin: bool = False
    refresh: bool = False
    """Ask again even for what is there."""
    dry_run: bool = False
    answer: bytes | str | None = None
    """The answer as JSON, to be kept byte for byte, or its words; None: the upstream is asked."""
    generated_at: Timestamp | None = None
    """When it was generated, if it does not say itself."""
    seen: Seen | None = None
    """The purges that were known when it was fetched; None: those that are known now."""


@dataclass(frozen=True, slots=True)
class Curated:
    """What became of an order."""

    outcome: str
    """`stored`, `present` or `refused`; of a dry run `would-ask` or `would-store`."""
    reason: str = ""
    asked: bool = False
    """Whether the upstream was asked."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    entry: Entry | None = field(default=None, repr=False)
    """What is in the cache now."""


class Curate:
    def __init__(
        self,
        intake: Intake,
        answers: Answers,
        collapse: Collapse,
        fill: Callable[[Ask, Flight], Coroutine[Any, Any, None]],
        reader: Executor,
        secret: bytes,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
        new_id: Callable[[], str],
    ) -> None:
        self._intake = intake
        self._answers = answers
        self._collapse = collapse
        self._fill = fill
        self._reader = reader
        self._secret = secret
        self._wall = wall
        self._monotonic = monotonic
        self._new_id = new_id

    @property
    def seen(self) -> Seen:
        """The purges that are known here."""
        return self._answers.seen

    async def __call__(self, order: Order) -> Curated:
        """Raises EdgeError: the request is at fault, or no upstream has an answer."""
        query = await asyncio.to_thread(self._intake.order, order.body, order.tenant)
        query = self._curated(query, order)
        if reason := self._never(query):
            return Curated("refused", reason)
        held = None if order.refresh else await self._held(query)
        if held is not None:
            return await self._present(query, order, held)
        if order.dry_run:
            return Curated("would-ask" if order.answer is None else "would-store")
        return await self._filled(query, asked=order.answer is None)

    def _curated(self, query: Query, order: Order) -> Query:
        """The query of an order: nothing is looked up, what comes is kept as ordered."""
        route = query.route
        if order.ttl_s is not None:
            route = replace(route, ttl_s=order.ttl_s)
        given = None
        if order.answer is not None:
            given = self._given(query, order.answer, order)
        return replace(
            query,
            call=replace(query.call, stream=False),
            allowed=replace(query.allowed, lookup=False),
            route=route,
            curation=Curation(order.labels, order.pin, given),
        )

    def _given(self, query: Query, answer: bytes | str, order: Order) -> Given:
        """Raises ClientError for what is no answer."""
        now, generated_at = self._wall(), order.generated_at
        if isinstance(answer, str):
            model = query.call.prompt.model
            answer = query.dialect.written(model, answer, generated_at or now)
        try:
            document = json.loads(answer)
            query.dialect.check(document if isinstance(document, dict) else {})
        except (ValueError, RecursionError, EdgeError) as exc:
            raise ClientError("The answer given is not a chat completion.", param="answer") from exc
        made_at = generated_at or query.dialect.generated_at(document) or now
        return Given(answer, Timestamp(min(made_at, now)), seen=order.seen)

    def _never(self, query: Query) -> str:
        """Why its answer would not be stored, whatever it is; "" if it might."""
        if query.bypass:
            return query.bypass
        if not query.allowed.store:  # there is no region where it could be kept
            return "not-wanted"
        asked = query.call.prompt
        routed = prompt.route(asked, query.scope, self._secret, query.route.classes)
        return routed.reason or "bypass" if routed.cls == PromptClass.BYPASS else ""

    async def _held(self, query: Query) -> Entry | None:
        now = self._wall()
        hot = self._answers.recall(query.scope, query.key, now)
        if hot is not None:
            return hot.entry
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._answers.fetch, query.scope, query.key, now
        )

    async def _present(self, query: Query, order: Order, held: Entry) -> Curated:
        """It is there. If it is not labelled and pinned as ordered, it is put once more, as old as
        it is, to live as long as it would have, and to be purged by what would have purged it."""
        labels = tuple(sorted({*held.labels, *order.labels}))
        if len(labels) > LABELS_MAX:
            raise ClientError(f"It would have more than {LABELS_MAX} labels.", param="labels")
        pinned = held.pinned or order.pin
        if order.dry_run or (labels == held.labels and pinned == held.pinned):
            return Curated("present", entry=held)
        given = Given(held.body, held.stored_at, held.expires_at, held.seen, held.stored_by)
        again = replace(query, curation=Curation(labels, pinned, given))
        done = await self._filled(again, asked=False)
        return replace(done, outcome="present") if done.outcome == "stored" else done

    async def _filled(self, query: Query, *, asked: bool) -> Curated:
        ask = Ask(query, self._monotonic(), self._new_id())
        flight, _ = self._collapse.join(None, lambda one: self._fill(ask, one))
        outcome = await flight.held()
        assert isinstance(outcome, Whole), "it was not looked up"
        spent = self._spent(query, outcome.body) if asked else (0, 0)
        if not outcome.stored:
            return Curated("refused", outcome.why, asked, *spent)
        hot = self._answers.recall(query.scope, query.key, self._wall())
        return Curated("stored", "", asked, *spent, entry=hot.entry if hot else None)

    def _spent(self, query: Query, body: bytes) -> tuple[int, int]:
        """Tokens of the prompt and of the answer."""
        answer = json.loads(body)
        counted = query.dialect.usage(answer)
        if any(counted):
            return counted
        words = query.dialect.words(answer)
        return len(query.body) // CHARS_A_TOKEN, len(words) // CHARS_A_TOKEN
