"""Cuts that are open are right, intervals cover the truth, and both are worth having."""

from random import Random

import numpy as np
import pytest

from index.betting import STAKES, Ladder, Rate

RUNGS = np.array([0.0, 1.0, 2.0])
PROOF = float(np.log(20))


def bet(ladder: Ladder, score: float, wrong: bool, alpha: float = 0.05) -> None:
    ladder.bet(score, wrong, alpha=alpha, stake=1.0, memory=1e9)


def test_a_run_without_errors_is_proof_and_for_the_cuts_below_it_alone() -> None:
    ladder = Ladder(RUNGS)
    for _ in range(150):
        bet(ladder, 1.5, wrong=False)
    assert (ladder.proof() >= PROOF).tolist() == [True, True, False]
    assert (ladder.labels, ladder.wrong) == (150, 0)


def test_few_labels_prove_nothing() -> None:
    ladder = Ladder(RUNGS)
    for _ in range(50):
        bet(ladder, 1.5, wrong=False)
    assert not (ladder.proof() >= PROOF).any()


def test_errors_undo_a_proof() -> None:
    ladder = Ladder(RUNGS)
    for _ in range(200):
        bet(ladder, 1.5, wrong=False)
    for _ in range(20):
        bet(ladder, 1.5, wrong=True)
    assert not (ladder.proof() >= PROOF).any()


@pytest.mark.parametrize("seed", range(3))
def test_what_errs_too_often_is_hardly_ever_proven(seed: int) -> None:
    """At any time: that is, over the whole of each of a hundred watches."""
    chance, alpha = Random(seed), 0.05
    fooled = 0
    for _ in range(100):
        ladder = Ladder(RUNGS[:1])
        proven = False
        for _ in range(600):
            bet(ladder, 1.0, wrong=chance.random() < alpha, alpha=alpha)
            proven |= bool(ladder.proof()[0] >= PROOF)
        fooled += proven
    assert fooled <= 10  # 5 expected at most


def test_a_small_stake_moves_little_and_forgetting_takes_proof_away() -> None:
    small, forgetful = Ladder(RUNGS[:1]), Ladder(RUNGS[:1])
    for _ in range(300):
        small.bet(1.0, False, alpha=0.05, stake=0.01, memory=1e9)
        forgetful.bet(1.0, False, alpha=0.05, stake=1.0, memory=20)
    assert small.proof()[0] < 0.2
    assert forgetful.proof()[0] < PROOF


def test_counts_from_elsewhere_weigh_as_labels_do() -> None:
    lived, told = Ladder(RUNGS), Ladder(RUNGS)
    for wrong in [False] * 100 + [True] * 2:
        bet(lived, 1.5, wrong)
    told.believe(np.array([100.0, 100, 0]), np.array([2.0, 2, 0]), alpha=0.05)
    assert lived.proof() == pytest.approx(told.proof())


def test_losses_of_others_are_a_warning_and_their_gains_no_proof() -> None:
    winner, loser, heir = Ladder(RUNGS), Ladder(RUNGS), Ladder(RUNGS)
    for _ in range(300):
        bet(winner, 1.5, wrong=False)
        bet(loser, 1.5, wrong=True)
    heir.heed(winner, 0.5)
    assert heir.proof() == pytest.approx(np.zeros(3))
    heir.heed(loser, 0.5)
    assert heir.proof()[0] < 0
    assert heir.proof()[2] == pytest.approx(0)


def test_a_ladder_goes_on_from_what_was_saved() -> None:
    one = Ladder(RUNGS)
    for _ in range(300):
        bet(one, 1.5, wrong=False)
    again = Ladder.of(RUNGS, one.state())
    assert again.proof() == pytest.approx(one.proof())
    assert again.labels == one.labels


def test_the_interval_covers_the_share_that_was_wrong_however_it_was_sampled() -> None:
    """200 streams that drift, sampled at a rate that changes; looked at all along."""
    missed = 0
    for seed in range(200):
        chance = Random(seed)
        rate, wrong, outside = Rate(), 0, False
        for step in range(1, 3_001):
            error = 0.002 if step < 1_000 else 0.03
            probability = 0.5 if step % 1_000 < 300 else 0.1
            erred = chance.random() < error
            wrong += erred
            if chance.random() < probability:
                rate.label(erred, probability)
            else:
                rate.unlabelled(probability)
            if step % 100 == 0:
                found = rate.interval()
                outside |= not found.low <= wrong / step <= found.high
        missed += outside
    assert missed <= 10


@pytest.mark.parametrize("error", [0.002, 0.01])
def test_at_five_thousand_labels_the_interval_is_useful(error: float) -> None:
    chance, rate = Random(1), Rate()
    while rate.labels < 5_000:
        if chance.random() < 0.1:
            rate.label(chance.random() < error, 0.1)
        else:
            rate.unlabelled(0.1)
    found = rate.interval()
    assert found.high - found.low <= 0.012
    assert found.low <= error <= found.high
    assert found.labels == 5_000
    assert found.served > 40_000


def test_so_it_is_where_ever_fewer_are_checked() -> None:
    chance, rate = Random(1), Rate()
    while rate.labels < 5_000:
        probability = 50 / (100 + rate.labels)
        if chance.random() < probability:
            rate.label(chance.random() < 0.01, probability)
        else:
            rate.unlabelled(probability)
    found = rate.interval()
    assert found.low <= 0.01 <= found.high
    assert found.high - found.low <= 0.015


def test_one_that_was_hardly_ever_drawn_may_be_all_that_is_wrong() -> None:
    rate = Rate()
    for _ in range(5_000):
        rate.label(False, 1.0)
    assert rate.interval().high < 0.002
    rate.unlabelled(1e-3)
    assert 0.1 < rate.interval().high <= 1
    rate.unlabelled(1e-6)
    assert rate.interval().high == 1


@pytest.mark.parametrize("wrong", [0, 1, 30, 400])
def test_the_interval_is_where_the_games_end(wrong: int) -> None:
    """Found by Newton's method in few steps: against the sums themselves."""
    rate = Rate()
    for at in range(1_000):
        rate.label(at < wrong, 0.5)
    found, proof = rate.interval(), np.log(len(STAKES) / 0.05)
    playing = STAKES < 0.5
    lost = wrong * np.log1p(-2 * STAKES[playing])
    if found.high < 1:
        against = np.exp(lost + STAKES[playing] * found.high * 1_000).sum()
        assert np.log(against) == pytest.approx(proof - np.log(0.75))
    if found.low > 0:
        on = np.exp(wrong * np.log1p(2 * STAKES) - STAKES * found.low * 1_000).sum()
        assert np.log(on) == pytest.approx(proof - np.log(0.25))
    assert found.low <= found.estimate <= found.high


def test_nothing_served_is_nothing_known() -> None:
    found = Rate().interval()
    assert (found.low, found.high, found.labels) == (0.0, 1.0, 0)
    rate = Rate()
    rate.label(True, 0.5)
    assert Rate.of(rate.state()).interval() == rate.interval()
