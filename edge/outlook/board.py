"""The public's board: looks at the node each second, remembers the hours, and tells.

What is told is made at most every `FRESH_S`, however often it is asked for, so that a crowd which
looks at it costs no more than its bytes.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from edge.admission.plans import PlanSettings
from edge.documents import Document
from edge.gate import WEIGHT
from edge.kept import Kept
from edge.line import PRUDENCE, AdmissionSettings, Line
from edge.metrics import or_nan
from edge.outlook.facts import Facts, Wait, document, guidance
from edge.outlook.health import Healths
from edge.outlook.history import History, Learned
from edge.outlook.load import Calls, Peak, utilisation
from edge.outlook.page import POLICY, page
from edge.outlook.settings import StatusSettings
from edge.request import Fields
from edge.routing.pool import Pool
from index.entry import Instant, Timestamp

log = logging.getLogger("status")

LOOK_S = 1.0
KEEP_S = 300.0
"""What is lost at most when the process is killed: a twelfth of one hour."""
FILE = "hours.json"
"""In the data directory."""
FRESH_S = 2.0
_CACHED = ("cache-control", "public, max-age=5")
_JSON: Fields = (("content-type", "application/json"), _CACHED)
_HTML: Fields = (
    ("content-type", "text/html; charset=utf-8"),
    _CACHED,
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)


class Board:
    def __init__(
        self,
        node: str,
        region: str,
        settings: StatusSettings,
        pool: Pool,
        line: Line,
        admission: AdmissionSettings,
        plans: Iterable[PlanSettings],
        history: History,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
    ) -> None:
        self._node = node
        self._region = region
        self._pool = pool
        self._line = line
        self._most = admission.concurrency
        self._plans = _waits(plans, admission.queue_s, named=settings.names)
        self.history = history
        self._wall = wall
        self._monotonic = monotonic
        self._peak = Peak()
        self._healths = Healths(settings.names)
        self._made: tuple[Instant, Facts] | None = None
        self._guidance: tuple[float, Mapping[str, Any]] = (-1.0, {})
        self._documents: dict[str, tuple[Facts, Document]] = {}
        self.public: dict[str, Callable[[], Document]] = {}
        """What is served to everybody, by path."""
        if settings.public:
            self.public = {"/v1/status": self._json, "/status": self._page}

    async def run(self, kept: Kept[Learned], disk: Executor) -> None:
        """Look, and keep what is learned; once more when cancelled."""
        kept_at = self._monotonic()
        try:
            while True:
                self.look()
                if self._monotonic() - kept_at >= KEEP_S:
                    kept_at = self._monotonic()
                    await self._keep(kept, disk)
                await asyncio.sleep(LOOK_S)
        finally:
            await self._keep(kept, disk)

    async def _keep(self, kept: Kept[Learned], disk: Executor) -> None:
        content = kept.written(self.history.learned)
        try:
            await asyncio.get_running_loop().run_in_executor(disk, kept.keep, content)
        except OSError as exc:
            log.error("event=hours_not_kept why=%s", exc)

    def look(self) -> None:
        now, wall = self._monotonic(), self._wall()
        load = self.load()
        self._peak.note(load, now)
        self.history.note(load, wall)
        self._healths.of(self._pool.upstreams, self._pool.resting(wall), now, wall)

    # What is told.

    def load(self) -> float | None:
        """As it is this moment; None: there is no upstream to be asked."""
        calls = Calls(self._line.running, len(self._line), self._most)
        return utilisation(self._pool, calls, self._monotonic(), self._wall())

    def expected(self) -> float | None:
        """Of this hour."""
        return self.history.next(self._wall(), 1)[0].utilisation

    def waits(self) -> list[Wait]:
        """Of each plan, and of none."""
        if self.load() is None:
            return self._plans
        foreseen = [self._line.foreseen_s(one.weight) for one in self._plans]
        return [
            replace(one, predicted_s=seconds)
            for one, seconds in zip(self._plans, foreseen, strict=True)
        ]

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield (
            "utilisation",
            "Share of what can be asked of upstreams at a time; NaN: none can be asked.",
            lambda: or_nan(self.load()),
        )
        yield (
            "expected_utilisation",
            "The same, as expected of this hour of the week; NaN: not known yet.",
            lambda: or_nan(self.expected()),
        )

    def facts(self) -> Facts:
        now = self._monotonic()
        if self._made is None or not 0 <= now - self._made[0] < FRESH_S:
            self._made = now, self._look_up(now, self._wall())
        return self._made[1]

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return document(self.facts())

    def guidance(self) -> Mapping[str, Any]:
        """What belongs into refusals. Changes with the hour."""
        wall = self._wall()
        hour = wall // 3600
        if self._guidance[0] != hour:
            self._guidance = hour, guidance(self.history.next(wall))
        return self._guidance[1]

    def _look_up(self, now: Instant, wall: Timestamp) -> Facts:
        pool = self._pool
        load = self.load()
        self._peak.note(load, now)
        names = self._healths.names(pool.upstreams)
        return Facts(
            node=self._node,
            region=self._region,
            at=wall,
            load=self._peak.value,
            waiting=len(self._line),
            waits=self.waits(),
            upstreams=self._healths.of(pool.upstreams, pool.resting(wall), now, wall),
            maintenance=[
                replace(one, upstream=names[one.upstream])
                for one in pool.windows(wall)
                if one.upstream in names
            ],
            hours=self.history.next(wall),
        )

    def _json(self) -> Document:
        return self._document("json", _JSON, _dumps)

    def _page(self) -> Document:
        return self._document("page", _HTML, page)

    def _document(self, form: str, fields: Fields, write: Callable[[Facts], str]) -> Document:
        facts = self.facts()
        of, made = self._documents.get(form, (None, None))
        if made is None or of is not facts:
            made = Document(fields, write(facts).encode())
            self._documents[form] = facts, made
        return made


def _dumps(facts: Facts) -> str:
    return json.dumps(document(facts), separators=(",", ":"))


def _waits(plans: Iterable[PlanSettings], queue_s: float, *, named: bool) -> list[Wait]:
    """Who may wait how long; what to expect is filled in when it is asked."""
    return [
        Wait(None, WEIGHT, None, PRUDENCE * queue_s),
        *(
            Wait(
                plan.name if named else f"plan {at}",
                plan.weight,
                None,
                PRUDENCE * (queue_s if plan.queue_s is None else plan.queue_s),
            )
            for at, plan in enumerate(plans, 1)
        ),
    ]
