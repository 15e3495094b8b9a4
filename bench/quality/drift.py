"""The same texts as a year would bring them: topics come and go, answers change, upstreams waver.

Made of the utterances of CLINC150, so that what is near what is real; what happens to them is
seeded. (Not of BANKING77 as well: the two ask many of the same questions and name their answers
differently.) Each stream departs from the steady one in one way, and the last in all.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import TypeVar

from bench.quality.sets import Asked, Stream

_T = TypeVar("_T")

PHASES = 6
"""A topic's utterances come mostly in one of them."""
AT_HOME = 0.8
"""The share of a topic's utterances that keep to its phase."""
CHANGING = 0.3
"""The share of topics whose answer changes, once, at a moment of its own."""
DISAGREEMENT = 0.05


def streams(steady: Stream, seed: int) -> Iterator[Stream]:
    asked = steady.asked
    by_phase = in_phases(asked, Random(f"phases {seed}"))
    yield Stream("drift: topics", by_phase, f"{AT_HOME:.0%} of a topic in one of {PHASES} phases")
    yield Stream(
        "drift: answers",
        changing(asked, Random(f"changes {seed}")),
        f"{CHANGING:.0%} of the answers change once",
    )
    yield Stream(
        "drift: disagreeing upstream",
        asked,
        f"{DISAGREEMENT:.0%} of what it says agrees with nothing",
        disagreement=DISAGREEMENT,
    )
    yield Stream(
        "drift: all of it",
        changing(by_phase, Random(f"changes {seed}")),
        "topics, answers and the upstream",
        disagreement=DISAGREEMENT,
    )


def in_phases(asked: list[Asked], random: Random) -> list[Asked]:
    home = _by_answer(asked, lambda: random.randrange(PHASES))
    phases = [
        home[one.answer] if random.random() < AT_HOME else random.randrange(PHASES) for one in asked
    ]
    return [one for _, one in sorted(zip(phases, asked, strict=True), key=lambda pair: pair[0])]


def changing(asked: list[Asked], random: Random) -> list[Asked]:
    """The right answer after the change is another one; whoever still serves the old is wrong."""
    moments = _by_answer(
        asked, lambda: random.random() * len(asked) if random.random() < CHANGING else len(asked)
    )
    return [
        Asked(turn, f"{answer}, changed" if place >= moments[answer] else answer)
        for place, (turn, answer) in enumerate(asked)
    ]


def _by_answer(asked: list[Asked], draw: Callable[[], _T]) -> dict[str, _T]:
    return {answer: draw() for answer in sorted({one.answer for one in asked})}
