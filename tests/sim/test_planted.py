"""The simulator finds mistakes that are planted: each at a seed where it was found."""

from pathlib import Path

import pytest

from tests.sim.facts import Violation
from tests.sim.planted import PLANTED
from tests.sim.world import World

FOUND_AT = {
    "an_answer_is_kept_without_asking_whether_it_is_dead": 0,
    "whatever_is_told_last_is_kept": 0,
    "the_digest_leaves_out_purges": 12,
    "the_log_does_not_give_back_the_bytes_of_what_it_drops": 5,
    "presence_is_said_once": 6,
    "what_both_hold_is_told_again": 0,
    "a_purge_is_confirmed_before_it_is_applied": 0,
    "seen_is_advanced_over_a_gap": 18,
    "nobody_is_told_what_it_lacks": 0,
    "reach_is_not_checked_by_who_is_told": 1,
    "a_copy_lives_as_long_again": 0,
    "a_relay_keeps_what_it_hears_to_itself": 6,
    "a_log_that_was_cut_goes_on_without_a_snapshot": 3,
    "a_reader_that_heard_more_than_is_remembered_is_believed": 17,
    "signatures_are_not_verified": 0,
    "who_was_revoked_is_still_heard": 1,
    "what_an_answer_claims_to_have_seen_is_believed": 3,
    "a_clock_that_is_far_ahead_is_followed": 12,
}


def test_every_mistake_has_its_seed() -> None:
    assert FOUND_AT.keys() == PLANTED.keys()


@pytest.mark.parametrize("mistake", FOUND_AT)
def test_a_planted_mistake_is_found(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLANTED[mistake](monkeypatch)
    with pytest.raises((Violation, AssertionError)):
        World(FOUND_AT[mistake], tmp_path).run()
