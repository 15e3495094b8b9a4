"""The decision: candidates best first, guard before threshold, the most telling reason."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.decision import COMPARED_MAX, Candidate, DecisionSettings, Miss, Serve, decide

SETTINGS = DecisionSettings()
ASKED = "How do I reset my router?"
SAME = "How can I reset my router?"
OTHER = "How do I sell my router?"


def test_without_candidates_there_is_nothing_to_weigh() -> None:
    assert decide(ASKED, [], SETTINGS) == Miss("no-candidate")


def test_the_first_that_passes_is_served_though_a_nearer_one_is_vetoed() -> None:
    candidates = [Candidate(1, OTHER, 0.99), Candidate(2, SAME, 0.97), Candidate(3, ASKED, 0.9)]
    assert decide(ASKED, candidates, SETTINGS) == Serve(2, 0.97)


def test_candidates_are_taken_best_first_in_whatever_order_they_come() -> None:
    candidates = [Candidate(1, SAME, 0.7), Candidate(2, SAME, 0.8)]
    assert decide(ASKED, candidates, SETTINGS) == Serve(2, 0.8)


def test_the_reason_is_the_veto_of_the_best_candidate() -> None:
    candidates = [Candidate(1, OTHER, 0.9), Candidate(2, "Why do I reset my router?", 0.8)]
    assert decide(ASKED, candidates, SETTINGS) == Miss("veto:content")


def test_nothing_is_served_from_too_far_however_the_words_agree() -> None:
    assert decide(ASKED, [Candidate(1, SAME, 0.5)], SETTINGS) == Miss("below-threshold")


def test_the_threshold_itself_is_enough() -> None:
    assert decide(ASKED, [Candidate(1, SAME, SETTINGS.similarity_min)], SETTINGS) == Serve(1, 0.55)


def test_an_optional_word_more_needs_more_similarity() -> None:
    asked, cached = "Is Wi-Fi on the flight?", "Is Wi-Fi available on the flight?"
    near = SETTINGS.similarity_min_partial
    assert decide(asked, [Candidate(1, cached, near)], SETTINGS) == Serve(1, near)
    assert decide(asked, [Candidate(1, cached, near - 0.01)], SETTINGS) == Miss("below-threshold")


@pytest.mark.parametrize("similarity", [math.nan, -1.0, 0.0])
def test_a_similarity_that_says_nothing_serves_nothing(similarity: float) -> None:
    assert decide(ASKED, [Candidate(1, ASKED, similarity)], SETTINGS) == Miss("below-threshold")


TEXTS = [SAME, OTHER, "How do I reset 2 routers?", "How do I reset your router?"]
similarities = st.floats(allow_nan=True)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TEXTS), similarities), max_size=8))
def test_only_what_the_guard_passes_is_ever_served(found: list[tuple[str, float]]) -> None:
    candidates = [Candidate(id, text, near) for id, (text, near) in enumerate(found)]
    decision = decide(ASKED, candidates, SETTINGS)
    near = [c for c in candidates if c.similarity >= SETTINGS.similarity_min]
    compared = sorted(near, key=lambda c: c.similarity, reverse=True)[:COMPARED_MAX]
    passing = [c for c in compared if c.text == SAME]
    assert isinstance(decision, Serve) == bool(passing)
    if isinstance(decision, Serve):
        assert decision.similarity == max(c.similarity for c in passing)
