"""What is shown of a node: to operators, to probes and to monitors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.admission.keys import KeyRing
from edge.advice import advice
from edge.batcher import Batcher
from edge.config import Config
from edge.door import Door
from edge.fleet import Fleet
from edge.insight import Insight
from edge.large_bodies import LargeBodies
from edge.line import Line
from edge.listeners import Listeners
from edge.meaning import Meaning
from edge.metrics import Metrics, or_nan
from edge.models import Models
from edge.outlook.board import Board
from edge.preflight import reaches
from edge.regional.strict import StrictQuotas
from edge.regional.tier import RegionalTier
from edge.routing import report
from edge.routing.pool import Pool
from index.answers import Answers
from index.entry import Instant, Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All that it looks at. Implements `edge.console.admin.Operated`."""

    config: Config
    state: Callable[[], str]
    """starting, ready, draining or stopped."""
    answers: Answers
    batcher: Batcher
    board: Board
    door: Door
    fleet: Fleet
    insight: Insight
    keys: KeyRing
    large: LargeBodies
    line: Line
    listeners: Listeners
    meaning: Meaning
    metrics: Metrics
    models: Models
    pool: Pool
    regional: RegionalTier | None
    strict: StrictQuotas | None
    wall: Callable[[], Timestamp]
    monotonic: Callable[[], Instant]

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        filled, lost = self.fleet.filled.is_set(), self.keys.lost
        resting = self.pool.resting(self.wall())
        facts = {
            "state": self.state(),
            "name": self.config.node.name,
            "semantic": self.meaning.state,
            "local_model": self.models.local,
            "fleet": "ready" if filled else "filling",
            "others": self.fleet.report.members(),
            "keys": "lost" if lost else "ready",
            "upstreams": {
                upstream.name: report.state(upstream, self.monotonic(), resting)
                for upstream in self.pool.upstreams
            },
        }
        serves = self.state() == "ready" and self.models.local != "not installed"
        return serves and filled and not lost, facts

    def status(self) -> Mapping[str, Any]:
        _, facts = self.readiness()
        return {
            **facts,
            "addresses": {name: str(at) for name, at in self.listeners.addresses.items()},
            "requests": self.metrics.totals(),
            "cache": self.answers.report(),
            "bounds": self.insight.bounds(),
            "upstream_calls": {
                "running": self.line.running,
                "at_a_time": self.line.room(tuple(self.pool.upstreams)),
                "waiting": len(self.line),
            },
            "connections": self.listeners.connections,
            "protection": {**self.door.facts(), "refused": self.listeners.refused},
            "fleet": {**self.fleet.report.facts(), "advice": self.advice()},
            "redis": self.regional.facts() if self.regional is not None else None,
            "routing": report.told(self.pool, self.monotonic(), self.wall()),
            "maintenance": report.maintenance(self.pool, self.wall()),
            "public": self.board.told(),
        }

    def watch(self) -> None:
        """Have monitors see all of it. Once."""
        metrics = self.metrics
        metrics.watch(
            "ready", "1 while new users may be sent here.", lambda: float(self.readiness()[0])
        )
        parts = (
            self.listeners,
            self.answers,
            self.meaning,
            self.batcher,
            self.door,
            self.line,
            self.large,
            self.board,
            self.fleet.report,
            self.regional,
            self.strict,
        )
        for part in [one for one in parts if one is not None]:
            for name, what, read in part.gauges():
                metrics.watch(name, what, read)
        metrics.watch_waits(
            lambda: ((one.plan or "", or_nan(one.predicted_s)) for one in self.board.waits())
        )
        metrics.watch_classes(self.insight.gauges)
        metrics.watch_fleet(self.fleet.report.lags)
        metrics.watch_upstreams(lambda: report.facts(self.pool, self.monotonic(), self.wall()))

    def advice(self) -> list[str]:
        return advice(self.fleet.report.standing(reaches(self.config, keys=bool(len(self.keys)))))
