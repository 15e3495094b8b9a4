"""When to come: the calm hours among those to come, joined to spans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edge.outlook.history import Expected
from index.entry import Timestamp

CALM = 0.6
"""Up to here nobody waits, bursts included."""
CLOSE = 0.05
"""Where no hour is calm, those about as good as the best will do."""


@dataclass(frozen=True, slots=True)
class Span:
    begins: Timestamp
    ends: Timestamp
    utilisation: float
    """What is expected, on average."""


def quiet(hours: Sequence[Expected]) -> list[Span] | None:
    """The calm ones or else the least busy, soonest first; None if nothing is known of any."""
    known = [one.utilisation for one in hours if one.utilisation is not None]
    if not known:
        return None
    lowest = min(known)
    below = CALM if lowest < CALM else lowest + CLOSE
    return list(_spans(hours, below))


def calmest(hours: Iterable[Expected]) -> Expected | None:
    """The one hour; of several the soonest."""
    known = ((one.utilisation, one.begins, one) for one in hours if one.utilisation is not None)
    return min(known, default=(None, None, None))[-1]


def _spans(hours: Iterable[Expected], below: float) -> Iterable[Span]:
    def calm(one: Expected) -> bool:
        return one.utilisation is not None and one.utilisation < below

    for is_calm, group in groupby(hours, calm):
        if is_calm:
            run = list(group)
            mean = sum(one.utilisation or 0.0 for one in run) / len(run)
            yield Span(run[0].begins, run[-1].ends, mean)
