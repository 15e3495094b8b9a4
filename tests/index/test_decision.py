"""The decision: every candidate is weighed, the likeliest that may be served is, and why not."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.calibration import AGREE, RUNGS, VOTED, WORDS, Calibration
from index.codes import encoded
from index.decision import (
    COMPARED_MAX,
    REFUTED,
    VERIFIED,
    Candidate,
    Judged,
    Miss,
    Serve,
    decide,
    doubtful,
    reconsidered,
    weigh,
)

CALIBRATION = Calibration.load()
ASKED = "How do I reset my router?"
SAME = "How can I reset my router?"
OTHER_WORDS = "How do I sell my router?"
OTHER_KIND = "Why do I reset my router?"
OTHER_NUMBER = "How do I reset 2 routers?"


def cuts(**by_stratum: float) -> Callable[[str], float]:
    """A cut for each stratum that is named, and none of the others is open."""
    return lambda stratum: by_stratum.get(stratum, math.inf)


AS_NEW = cuts(agree=float(RUNGS[0]))


def decided(*candidates: Candidate, cut: Callable[[str], float] = AS_NEW) -> Serve | Miss:
    return decide(ASKED, candidates, CALIBRATION, cut)


def weighed(*candidates: Candidate) -> dict[int, Judged]:
    return {one.candidate.id: one for one in weigh(ASKED, candidates, CALIBRATION, AS_NEW)}


def chosen(decision: Serve | Miss) -> int:
    assert isinstance(decision, Serve), decision
    return decision.chosen.candidate.id


def reason(decision: Serve | Miss) -> str:
    assert isinstance(decision, Miss), decision
    return decision.reason


def test_without_candidates_there_is_nothing_to_weigh() -> None:
    assert decided() == Miss("no-candidate")


def test_of_all_candidates_one_that_passes_is_served_though_a_nearer_one_does_not() -> None:
    nearer = [Candidate(number, OTHER_WORDS, 0.99) for number in range(1, 4)]
    decision = decided(*nearer, Candidate(4, SAME, 0.97))
    assert chosen(decision) == 4
    assert len(decision.judged) == 4


def test_the_words_of_the_nearest_are_compared_and_the_others_vote() -> None:
    crowd = [Candidate(at, OTHER_WORDS, 0.9 - at / 100, answer=7) for at in range(8)]
    found = weighed(*reversed(crowd))
    assert sorted(found) == list(range(COMPARED_MAX))
    assert found[0].score > weighed(*crowd[:COMPARED_MAX])[0].score
    assert isinstance(decided(*crowd, Candidate(9, SAME, 0.5)), Miss)


def group(cosine: float, *, known: int = 3) -> list[Candidate]:
    """Three with one answer, as near to the question, and of which each two have that cosine."""
    vectors = np.eye(4, dtype=np.float32)[:3] * math.sqrt(1 - cosine)
    vectors[:, 3] = math.sqrt(cosine)
    return [
        Candidate(at, OTHER_WORDS, 0.8, answer=7, codes=codes if at < known else None)
        for at, codes in enumerate(encoded(vectors))
    ]


def test_as_near_to_a_tight_group_the_question_is_more_likely_outside_of_it() -> None:
    tight, level, loose = (weighed(*group(cosine))[0].score for cosine in (0.95, 0.8, 0.65))
    assert tight < level < loose


def test_how_tight_a_group_is_is_not_guessed_from_a_part_of_it() -> None:
    without = weighed(*group(0.95, known=0))[0].score
    assert weighed(*group(0.95, known=2))[0].score == without
    assert weighed(*group(0.95))[0].score < without


def test_vectors_are_let_go_of_once_they_were_weighed() -> None:
    assert all(one.candidate.codes is None for one in weighed(*group(0.8)).values())


def test_a_crowd_of_rivals_is_a_reason_to_doubt() -> None:
    def score(rivals: int, similarity: float) -> float:
        crowd = [Candidate(number, OTHER_WORDS, similarity) for number in range(1, 1 + rivals)]
        return weighed(Candidate(9, SAME, 0.9), *crowd)[9].score

    assert score(0, 0.9) > score(1, 0.7) > score(3, 0.7) > score(3, 0.85) > score(3, 0.95)


def test_of_several_that_pass_the_likeliest_is_served_in_whatever_order_they_come() -> None:
    near, far = Candidate(1, SAME, 0.95), Candidate(2, ASKED, 0.85)
    assert chosen(decided(near, far)) == chosen(decided(far, near)) == 1


@pytest.mark.parametrize(
    ("text", "stratum"),
    [
        (SAME, AGREE),
        (OTHER_WORDS, WORDS),
        ("How do I reset my new router?", WORDS),
        (OTHER_KIND, "question"),
        (OTHER_NUMBER, "number"),
    ],
)
def test_the_guard_names_the_stratum_and_the_stratum_has_its_own_cut(
    text: str, stratum: str
) -> None:
    one = Candidate(1, text, 0.97)
    assert weighed(one)[1].stratum == stratum
    assert chosen(decided(one, cut=cuts(**{stratum: -math.inf}))) == 1
    everything_else = {AGREE, WORDS, VOTED, "question", "number"} - {stratum}
    closed = decided(one, cut=cuts(**dict.fromkeys(everything_else, -math.inf)))
    assert isinstance(closed, Miss)


def test_neighbours_that_have_its_answer_vote_for_a_candidate() -> None:
    one = Candidate(1, OTHER_WORDS, 0.9, answer=7)
    alike = [Candidate(number, f"How do I sell router {number}?", 0.88) for number in (2, 3)]
    alone = weighed(one, *alike)[1]
    voted = weighed(one, *(replace(other, answer=7) for other in alike))[1]
    opposed = weighed(one, *(replace(other, answer=8) for other in alike))[1]
    assert (alone.stratum, voted.stratum, opposed.stratum) == (WORDS, VOTED, WORDS)
    assert voted.score > alone.score == opposed.score


def test_answers_that_nobody_compared_are_not_the_same_answer() -> None:
    """Nought is no number: two that have it are not known to agree."""
    both = weighed(Candidate(1, OTHER_WORDS, 0.9), Candidate(2, "How do I move my router?", 0.9))
    assert {one.stratum for one in both.values()} == {WORDS}


def test_votes_do_not_lift_a_typed_veto() -> None:
    one = Candidate(1, OTHER_NUMBER, 0.9, answer=7)
    assert weighed(one, Candidate(2, SAME, 0.9, answer=7))[1].stratum == "number"


def test_its_own_record_moves_a_candidate_as_far_as_it_is_long() -> None:
    def score(right: int = 0, wrong: int = 0) -> float:
        return weighed(Candidate(1, SAME, 0.9, right=right, wrong=wrong))[1].score

    assert score() > score(right=1, wrong=1) > score(wrong=1) > score(wrong=3)
    assert score(right=500) > score(right=1) > score()
    assert score() - score(right=100, wrong=1) < score() - score(right=10, wrong=1)


def test_a_candidate_that_erred_gives_way_to_one_that_did_not() -> None:
    erring, other = Candidate(1, SAME, 0.95, wrong=2), Candidate(2, ASKED, 0.93)
    assert chosen(decided(erring, other)) == 2
    assert chosen(decided(replace(erring, wrong=0), other)) == 1


def test_what_was_proven_wrong_is_never_served_whatever_the_cuts_say() -> None:
    wrong = Candidate(1, ASKED, 1.0, right=1_000, refuted=True)
    decision = decided(wrong, cut=lambda _stratum: -math.inf)
    assert reason(decision) == REFUTED
    assert decision.judged[0].cut == math.inf
    assert chosen(decided(wrong, Candidate(2, SAME, 0.9))) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OTHER_WORDS, "veto:content"),
        ("How do I reset my new router?", "veto:detail"),
        (OTHER_NUMBER, "veto:number"),
        (OTHER_KIND, "veto:question"),
    ],
)
def test_the_reason_is_the_veto_of_the_best_candidate(text: str, expected: str) -> None:
    assert reason(decided(Candidate(1, text, 0.95))) == expected


def test_where_words_agree_and_the_score_is_too_low_the_cut_is_the_reason() -> None:
    one = Candidate(1, SAME, 0.9)
    score = weighed(one)[1].score
    assert reason(decided(one, cut=cuts(agree=score + 0.01))) == "below-cut"
    assert chosen(decided(one, cut=cuts(agree=score))) == 1


def test_they_are_judged_agreeing_ones_first_and_then_by_score() -> None:
    decision = decided(
        Candidate(1, OTHER_WORDS, 0.99),
        Candidate(2, OTHER_KIND, 0.8),
        Candidate(3, SAME, 0.7),
        Candidate(4, ASKED, 0.9),
        cut=cuts(),
    )
    assert [one.candidate.id for one in decision.judged[:2]] == [4, 3]
    scores = [one.score for one in decision.judged[2:]]
    assert scores == sorted(scores, reverse=True)


def test_a_similarity_that_is_no_number_serves_nothing() -> None:
    assert isinstance(decided(Candidate(1, ASKED, math.nan)), Miss)


def test_nearer_is_likelier_over_the_whole_range() -> None:
    near = [at / 20 for at in range(-20, 21)]
    scores = [weighed(Candidate(1, SAME, similarity))[1].score for similarity in near]
    assert scores == sorted(scores)


TEXTS = [SAME, OTHER_WORDS, OTHER_NUMBER, OTHER_KIND, "How do I reset your router?"]
candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 99),
        st.sampled_from(TEXTS),
        st.floats(allow_nan=True),
        answer=st.integers(0, 2),
        right=st.integers(0, 50),
        wrong=st.integers(0, 50),
        refuted=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.id,
)


@settings(deadline=None)
@given(candidates)
def test_only_what_the_guard_passes_is_ever_served_by_a_new_node(found: list[Candidate]) -> None:
    decision = decided(*found)
    assert {one.candidate for one in decision.judged} <= set(found)
    assert len(decision.judged) == min(len(found), COMPARED_MAX)
    if isinstance(decision, Serve):
        assert decision.chosen.candidate.text == SAME
        assert not decision.chosen.candidate.refuted


# A second opinion.


def missed(*found: Candidate) -> Miss:
    decision = decided(*found)
    assert isinstance(decision, Miss)
    return decision


def test_only_candidates_that_differ_in_mere_words_are_worth_a_second_opinion() -> None:
    miss = missed(
        Candidate(1, OTHER_NUMBER, 0.99),
        Candidate(2, OTHER_WORDS, 0.9),
        Candidate(3, "How do I move my router?", 0.8),
        Candidate(4, "How do I mend my router?", 0.7),
        Candidate(5, "How do I paint my router?", 0.95, refuted=True),
    )
    assert [one.candidate.id for one in doubtful(miss, 2)] == [2, 3]


def test_a_second_opinion_is_served_from_its_own_cut_on_and_never_unasked() -> None:
    miss = missed(Candidate(1, OTHER_WORDS, 0.9), Candidate(2, "How do I move my router?", 0.8))
    doubts = doubtful(miss, 2)
    again = reconsidered(miss, doubts, [0.5, 0.99], cuts(verified=2.0))
    assert chosen(again) == 2
    assert again.judged[0].stratum == VERIFIED
    assert again.judged[0].probability == pytest.approx(0.99)
    still = reconsidered(miss, doubts, [0.5, 0.8], cuts(verified=2.0))
    assert reason(still) == miss.reason
    assert isinstance(reconsidered(miss, doubts, [1.0, 1.0], AS_NEW), Miss)
