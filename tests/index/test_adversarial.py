"""Pairs written against the decision: what a new node serves of them, with the encoder it ships.

`adversarial.json` holds pairs whose answers differ, of many kinds, by an author who had not read
the rules, and rewordings of one question. The rules have been read against the wrong ones since;
the right ones keep a decision that serves nothing from passing.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from index.calibration import Calibration
from index.control import Control
from index.decision import Candidate, DecisionSettings, Serve, decide
from index.eligibility import ineligible
from index.embedding import EmbeddingSettings, load

PAIRS = json.loads((Path(__file__).parents[1] / "vectors" / "adversarial.json").read_text("utf-8"))
WRONG: list[tuple[str, str]] = [(one, other) for _, one, other in PAIRS["wrong"]]
RIGHT: list[tuple[str, str]] = [(one, other) for _, one, other in PAIRS["right"]]
CALIBRATION = Calibration.load()

Likeness = Callable[[str, str], float | None]


@pytest.fixture(scope="module")
def likeness(tmp_path_factory: pytest.TempPathFactory) -> Likeness:
    """The cosine of two questions; None if one may not be matched by meaning at all."""
    encoder = load(EmbeddingSettings(), tmp_path_factory.mktemp("models"))
    texts = sorted({text for pair in (*WRONG, *RIGHT) for text in pair})
    fit = [text for text in texts if not ineligible(text) and not encoder.inspect(text)]
    vectors = dict(
        zip(
            fit,
            np.concatenate([encoder.embed(fit[at : at + 32]) for at in range(0, len(fit), 32)]),
            strict=True,
        )
    )

    def of(one: str, other: str) -> float | None:
        if one not in vectors or other not in vectors:
            return None
        return float(vectors[one] @ vectors[other])

    return of


def served(likeness: Likeness, max_error: float, asked: str, cached: str) -> bool:
    control = Control(DecisionSettings(max_error=max_error), CALIBRATION)
    near = likeness(asked, cached)
    if near is None:
        return False
    found = [Candidate(1, cached, near)]
    decision = decide(asked, found, CALIBRATION, lambda stratum: control.cut("new", stratum))
    return isinstance(decision, Serve)


@pytest.mark.parametrize("max_error", [0.01, 0.05])
def test_no_pair_with_two_answers_is_served_whichever_is_asked(
    likeness: Likeness, max_error: float
) -> None:
    assert len(WRONG) >= 200
    both_ways = [*WRONG, *((other, one) for one, other in WRONG)]
    assert [pair for pair in both_ways if served(likeness, max_error, *pair)] == []


@pytest.mark.parametrize("max_error", [0.01, 0.05])
def test_of_rewordings_two_in_five_are_served(likeness: Likeness, max_error: float) -> None:
    hits = sum(served(likeness, max_error, *pair) for pair in RIGHT)
    assert hits >= 0.38 * len(RIGHT)
