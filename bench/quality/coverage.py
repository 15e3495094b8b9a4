"""Does the interval that a node shows hold the truth? Synthetic traffic through `index.control`.

How often hits are wrong changes every `SPELL` hits, to one of `ERRORS`; the control itself says how
many are checked, fewer as it learns and more after an alarm. The truth is the share of all hits
served so far that were wrong. A run that was outside at any look (one look a label) is counted as
outside, whatever it says later: that is what is promised.
"""

from collections.abc import Iterator
from random import Random
from statistics import median
from typing import NamedTuple

from edge.checks import TWINS
from index.calibration import AGREE, Calibration
from index.control import Control
from index.decision import DecisionSettings

RUNS = 200
HITS = 30_000
SPELL = 3_000
ERRORS = (0.001, 0.003, 0.01, 0.03)
DISAGREEMENTS = (0.0, 0.02)
"""The share of answers of an upstream that agree with nothing."""

WIDTH_RUNS = 10
WIDTH_LABELS = 5_000
_KIND = "bench"
_SCORE = 6.0


class Run(NamedTuple):
    ever_outside: bool
    outside_at_end: bool
    width: float
    labels: int
    hits: int


def report(calibration: Calibration) -> Iterator[str]:
    settings = DecisionSettings()
    yield f"\n== the live interval, of {settings.confidence:.0%}, over {RUNS} seeded runs"
    yield (
        f"  {HITS} hits each; every {SPELL} the error becomes one of "
        + ", ".join(f"{error:.1%}" for error in ERRORS)
    )
    for disagreement in DISAGREEMENTS:
        runs = [drifting(seed, disagreement, calibration) for seed in range(RUNS)]
        outside = sum(one.ever_outside for one in runs)
        at_end = sum(one.outside_at_end for one in runs)
        yield (
            f"  upstream disagrees {disagreement:.0%}: the truth was inside at every look in "
            f"{RUNS - outside} of {RUNS}, at the end in {RUNS - at_end}; then "
            f"{median(one.labels for one in runs):.0f} labels, "
            f"{median(one.width for one in runs):.2%} wide (medians)"
        )
    for disagreement in DISAGREEMENTS:
        runs = [steady(seed, disagreement, calibration) for seed in range(WIDTH_RUNS)]
        widths = [one.width for one in runs]
        yield (
            f"  {settings.max_error:.0%} of the hits wrong, upstream disagrees {disagreement:.0%}: "
            f"at {WIDTH_LABELS} labels {median(widths):.2%} wide (at most {max(widths):.2%}), "
            f"after {median(one.hits for one in runs):.0f} hits"
        )


def drifting(seed: int, disagreement: float, calibration: Calibration) -> Run:
    random = Random(f"errors {seed}")
    errors = [random.choice(ERRORS) for _ in range(0, HITS, SPELL)]
    return _run([errors[hit // SPELL] for hit in range(HITS)], seed, disagreement, calibration)


def steady(seed: int, disagreement: float, calibration: Calibration) -> Run:
    """Until there are `WIDTH_LABELS`."""
    settings = DecisionSettings()
    return _run([settings.max_error] * 1_000_000, seed, disagreement, calibration, WIDTH_LABELS)


def _run(
    errors: list[float],
    seed: int,
    disagreement: float,
    calibration: Calibration,
    labels_max: int | None = None,
) -> Run:
    random = Random(f"hits {seed}")
    control = Control(DecisionSettings(), calibration)
    differ = 1 - (1 - disagreement) ** 2
    wrong_hits, ever = 0, False
    hit, shown = 0, control.error(_KIND)
    for hit, error in enumerate(errors, 1):
        wrong = random.random() < error
        wrong_hits += wrong
        probability = control.shadow_rate(_KIND)
        if random.random() >= probability:
            control.unchecked(_KIND, probability)
            continue
        seen = wrong or random.random() < differ
        control.checked(_KIND, AGREE, _SCORE, seen, probability)
        twins = control.noise(_KIND).labels
        if random.random() < max(1 / TWINS, TWINS / (TWINS + twins)):
            control.twins(_KIND, random.random() < differ)
        shown = control.error(_KIND)
        ever = ever or not shown.low <= wrong_hits / hit <= shown.high
        if labels_max and shown.labels >= labels_max:
            break
    shown = control.error(_KIND)
    outside = not shown.low <= wrong_hits / hit <= shown.high
    return Run(ever or outside, outside, shown.high - shown.low, shown.labels, hit)
