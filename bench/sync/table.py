"""What was measured, both transports side by side, against what was to be reached."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from bench.sync.fleet import PATH_MS
from bench.sync.measure import CaughtUp, Late

T = TypeVar("T")

TRANSPORTS = ("feed", "nats")
LATE_P50_MS, LATE_P99_MS = 10.0, 50.0
"""Beyond the path, of 1 kB, where nothing is lost."""
LOSSY_P99_MS = 1_000.0
"""The path included, of 1 kB, with one packet in a hundred lost."""
APPLIED_PER_S = 5_000.0
"""By one core."""
JUDGED = ("answer, 1 kB", "purge")


@dataclass(slots=True)
class Found:
    late: dict[tuple[float, str], dict[str, dict[str, Late]]] = field(default_factory=dict)
    """By loss and congestion control, then transport, then what was told."""
    caught_up: dict[bool, dict[str, CaughtUp]] = field(default_factory=dict)
    """By whether there was a distance, then transport."""


def written(found: Found) -> Iterator[str]:
    """Lines."""
    if found.late:
        yield from _delays(found)
    yield from _costs(found)


def _delays(found: Found) -> Iterator[str]:
    heads = [f"{name}, {PATH_MS[name]:.0f} ms away" for name in TRANSPORTS]
    yield f"{'':<22}" + "".join(f"{head:<28}" for head in heads) + "goal"
    yield "ms beyond the path    " + f"{'p50':>6}{'p99':>8}{'max':>8}      " * 2
    for (loss, congestion), by_transport in found.late.items():
        yield f"{loss:.0%} of packets lost, {congestion}"
        for what in next(iter(by_transport.values())):
            yield _late_line(what, loss, by_transport)


def _late_line(what: str, loss: float, by_transport: Mapping[str, Mapping[str, Late]]) -> str:
    cells, reached = "", {}
    for name in TRANSPORTS:
        if (late := by_transport.get(name, {}).get(what)) is None:
            cells += " " * 28
            continue
        beyond = late.p50, late.p99, late.most
        figures = "".join(
            f"{value:>+{wide}.1f}" for value, wide in zip(beyond, (6, 8, 8), strict=True)
        )
        cells += f"{figures}{f' {late.lost} lost' if late.lost else '':<6}"
        if loss:
            reached[name] = PATH_MS[name] + late.p99 < LOSSY_P99_MS
        else:
            reached[name] = late.p50 <= LATE_P50_MS and late.p99 <= LATE_P99_MS
    goal = f"p99 in {LOSSY_P99_MS:.0f} ms" if loss else f"{LATE_P50_MS:+.0f}, {LATE_P99_MS:+.0f}"
    verdict = f"{goal}: {_verdict(reached)}" if what in JUDGED else ""
    return f"  {what:<20}{cells}{verdict}".rstrip()


def _verdict(reached: Mapping[str, bool]) -> str:
    missed = [name for name, well in reached.items() if not well]
    return f"MISSED by {' and '.join(missed)}" if missed else "reached"


CAUGHT_UP: tuple[tuple[str, Callable[[CaughtUp], str]], ...] = (
    ("  answers", lambda one: f"{one.count:,}"),
    ("  seconds", lambda one: f"{one.rest_s:.1f}"),
    ("  answers a second", lambda one: f"{one.count / one.rest_s:,.0f}"),
    ("  seconds from its start to the first", lambda one: f"{one.first_s:.1f}"),
    ("  bytes on the wire, each", lambda one: f"{one.octets:,.0f}"),
    ("  CPU ms per 1,000, all threads", lambda one: f"{1e6 * one.cpu_s / one.count:,.0f}"),
    ("  of it on the event loop", lambda one: f"{1e6 * one.loop_s / one.count:,.0f}"),
)
PER_CORE = "  applied a second by one core"


def _costs(found: Found) -> Iterator[str]:
    yield _line("", TRANSPORTS)
    if quiet := next((one for (loss, _), one in found.late.items() if not loss), None):
        yield "bytes on the wire, all paths"
        for what in next(iter(quiet.values())):
            octets = {name: late[what].octets for name, late in quiet.items()}
            if any(octets.values()):
                yield _line(f"  {what}", _each(octets, lambda value: f"{value:,.0f}"))
        small = _each(quiet, lambda late: f"{1e3 * late[JUDGED[0]].cpu_ms:,.0f}")
        yield _line("CPU ms per 1,000 of 1 kB, told one by one", small)
    for far, one in found.caught_up.items():
        yield f"catching up with answers of 1 kB, {'over that path' if far else 'no distance'}"
        for what, shown in CAUGHT_UP:
            yield _line(what, _each(one, shown))
        applied = {name: caught.count / caught.cpu_s for name, caught in one.items()}
        per_core = _each(applied, lambda value: f"{value:,.0f}")
        verdict = _verdict({name: value >= APPLIED_PER_S for name, value in applied.items()})
        yield f"{_line(PER_CORE, per_core)}  {APPLIED_PER_S:,.0f}: {verdict}"


def _each(by_transport: Mapping[str, T], shown: Callable[[T], str]) -> list[str]:
    return [shown(by_transport[name]) if name in by_transport else "" for name in TRANSPORTS]


def _line(what: str, cells: Iterable[str]) -> str:
    return f"{what:<44}" + "".join(f"{cell:>10}" for cell in cells)
