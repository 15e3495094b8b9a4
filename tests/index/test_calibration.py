"""The calibration is data: read strictly, moved by evidence the right way, modest about itself."""

import json
from importlib.resources import files

import pytest

from index.calibration import (
    AGREE,
    FEATURES,
    RUNGS,
    SHIPPED,
    VOTED,
    WORDS,
    Calibration,
    Company,
    features,
    margin,
    probability,
    stratum,
)
from index.guard import Evidence

TEXT = (files("index") / "calibration.json").read_text("utf-8")
SHIPPED_ONE = Calibration.read(TEXT)
ALONE = Company(margin(0.9, None), votes=0, rivals=0)
SAME = Evidence(None, matched=4)


def score(similarity: float = 0.9, company: Company = ALONE, evidence: Evidence = SAME) -> float:
    return SHIPPED_ONE.score(features(similarity, company, evidence))


def test_the_file_says_how_it_was_made() -> None:
    document = json.loads(TEXT)
    assert "scripts/fit_calibration" in document["recipe"]
    assert "PAWS" not in document["recipe"]
    assert document["pairs"] > 10_000


@pytest.mark.parametrize("part", ["weights", "rungs"])
def test_one_that_was_fitted_to_other_features_or_rungs_is_refused(part: str) -> None:
    document = json.loads(TEXT)
    values = document[part]
    document[part] = dict(list(values.items())[1:]) if part == "weights" else values[1:]
    with pytest.raises(ValueError, match="fit it again"):
        Calibration.read(json.dumps(document))


def test_the_order_of_features_is_part_of_them() -> None:
    document = json.loads(TEXT)
    document["weights"] = dict(reversed(document["weights"].items()))
    with pytest.raises(ValueError, match="fit it again"):
        Calibration.read(json.dumps(document))


def test_what_was_counted_falls_from_rung_to_rung() -> None:
    """Counts are of pairs that score at least so much, for each stratum that begins open."""
    assert set(SHIPPED) <= SHIPPED_ONE.seen.keys()
    for counted in SHIPPED_ONE.seen.values():
        for counts in (counted.right, counted.wrong):
            assert len(counts) == len(RUNGS)
            assert (counts[1:] <= counts[:-1]).all()


def test_features_are_numbers_whatever_the_evidence() -> None:
    for evidence in (Evidence(None), Evidence("wording"), SAME):
        for company in (ALONE, Company(-2.0, 7, 0, -2.0), Company(0.0, 0, 7, 2.0)):
            found = features(1.0000001, company, evidence)
            assert len(found) == len(FEATURES)
            assert all(-10 < number < 10 for number in found)


def test_nearer_is_likelier() -> None:
    scores = [score(similarity) for similarity in (-1.0, 0.0, 0.5, 0.7, 0.9, 0.97, 1.0)]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)


def test_rivals_speak_against_it_the_more_the_nearer_they_are() -> None:
    def beside(rivals: int, rival: float) -> float:
        return score(company=Company(margin(0.9, rival), 0, rivals))

    assert beside(1, 0.7) > beside(1, 0.85) > beside(1, 0.95)
    assert beside(1, 0.85) > beside(3, 0.85)


def test_votes_speak_for_it_and_for_more_when_nobody_disagrees() -> None:
    def beside(votes: int, rivals: int) -> float:
        return score(company=Company(margin(0.9, 0.8 if rivals else None), votes, rivals))

    assert beside(7, 0) > beside(3, 0) > beside(0, 0)
    assert beside(3, 0) > beside(3, 3)


def test_who_stands_apart_from_those_with_the_answer_is_less_likely_one_of_them() -> None:
    def beside(belonging: float) -> float:
        return score(company=Company(0.1, 3, 3, belonging))

    assert beside(0.1) > beside(0.0) > beside(-0.1) > beside(-0.3) == beside(-2.0)


def test_a_margin_counts_up_to_a_limit() -> None:
    assert margin(0.9, None) == margin(0.9, 0.1) == 0.3
    assert margin(0.9, 0.85) == pytest.approx(0.05)
    assert margin(0.9, 0.95) == pytest.approx(-0.05)


@pytest.mark.parametrize(
    ("veto", "votes", "expected"),
    [
        (None, 0, AGREE),
        (None, 3, AGREE),
        ("content", 0, WORDS),
        ("detail", 0, WORDS),
        ("content", 1, VOTED),
        ("number", 0, "number"),
        ("number", 3, "number"),
        ("wording", 3, "wording"),
    ],
)
def test_votes_move_pairs_that_differ_in_words_to_another_stratum_and_no_others(
    veto: str | None, votes: int, expected: str
) -> None:
    assert stratum(Company(0.1, votes, 0), Evidence(veto)) == expected


def test_a_score_is_log_odds() -> None:
    assert probability(0.0) == 0.5
    assert probability(4.6) == pytest.approx(0.99, abs=0.001)
    assert (probability(-1e6), probability(1e6)) == (0.0, 1.0)
