"""The bound is kept: closed without proof, opened by labels, closed by errors; told honestly."""

from dataclasses import replace
from math import inf
from random import Random

import pytest

from index.calibration import AGREE, FEATURES, RUNGS, WORDS, Calibration
from index.control import CLASSES_MAX, FINAL, Control
from index.decision import REFUTED, DecisionSettings

NAME = "shared|*|semantic"
SETTINGS = DecisionSettings(max_error=0.02)
IGNORANT = Calibration("test", 0.0, (0.0,) * len(FEATURES), {})
SHIPPED = Calibration.load()


def control(settings: DecisionSettings = SETTINGS, shipped: bool = False) -> Control:
    return Control(settings, SHIPPED if shipped else IGNORANT)


def teach(one: Control, stratum: str, right: int, wrong: int = 0, score: float = 5.0) -> None:
    """Labels from misses, the wrong ones spread evenly among them."""
    total = right + wrong
    for at in range(total):
        one.missed(NAME, stratum, score, wrong=(at + 1) * wrong // total > at * wrong // total)


def test_a_new_node_serves_where_words_agree_and_nothing_else() -> None:
    fresh = control(DecisionSettings(), shipped=True)
    assert fresh.cut(NAME, AGREE) < inf
    for stratum in (WORDS, "number", "negation", "entity", "order", "question"):
        assert fresh.cut(NAME, stratum) == inf


def test_a_stricter_bound_than_the_shipped_evidence_supports_waits_for_labels() -> None:
    strict = control(DecisionSettings(max_error=0.0005), shipped=True)
    assert strict.cut(NAME, AGREE) == inf
    ignorant = control()
    assert ignorant.cut(NAME, AGREE) == inf
    teach(ignorant, AGREE, 1_000)
    assert ignorant.cut(NAME, AGREE) == RUNGS[0]


def test_labels_open_a_stratum_above_the_score_where_it_errs() -> None:
    one = control()
    for _ in range(700):
        one.missed(NAME, WORDS, 5.0, wrong=False)
        one.missed(NAME, WORDS, 1.0, wrong=True)
    assert 1.0 < one.cut(NAME, WORDS) <= 5.0


def test_a_typed_veto_is_muted_by_more_proof_and_the_report_says_so() -> None:
    soft, typed, labels = control(), control(), 0
    while soft.cut(NAME, WORDS) == inf:
        teach(soft, WORDS, 1)
        teach(typed, "question", 1)
        labels += 1
    assert labels < 1_000
    assert typed.cut(NAME, "question") == inf
    teach(typed, "question", labels)
    assert typed.cut(NAME, "question") < inf
    (report,) = typed.report()
    assert report.muted == ["question"]


def test_what_was_proven_wrong_is_never_served() -> None:
    one = control()
    teach(one, REFUTED, 3_000)
    assert one.cut(NAME, REFUTED) == inf


def test_errors_close_what_was_open() -> None:
    one = control()
    teach(one, WORDS, 1_000)
    assert one.cut(NAME, WORDS) < inf
    teach(one, WORDS, 160, 40)
    assert one.cut(NAME, WORDS) == inf


def test_served_errors_set_off_an_alarm_that_tightens_and_checks_more() -> None:
    one = control()
    teach(one, WORDS, 700)
    assert one.cut(NAME, WORDS) < inf
    for _ in range(300):
        assert not one.checked(NAME, WORDS, 5.0, False, 0.5)
    sparse = one.shadow_rate(NAME)
    alarms = [one.checked(NAME, WORDS, 5.0, True, 0.5) for _ in range(8)]
    assert alarms.count(True) == 1
    assert one.cut(NAME, WORDS) == inf
    assert one.shadow_rate(NAME) > sparse
    (report,) = one.report()
    assert report.alarms == 1


def test_a_rare_error_is_no_alarm() -> None:
    one, chance = control(), Random(3)
    teach(one, WORDS, 2_000)
    alarms = sum(one.checked(NAME, WORDS, 5.0, chance.random() < 0.005, 0.5) for _ in range(3_000))
    assert alarms == 0


def test_fewer_hits_are_checked_the_more_is_known_down_to_the_floor() -> None:
    one = control(replace(SETTINGS, shadow_min=0.01, shadow_max=0.4))
    rates = []
    for _ in range(6_000):
        rates.append(one.shadow_rate(NAME))
        one.checked(NAME, AGREE, 5.0, False, rates[-1])
    assert rates[0] == 0.4
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.01
    assert control(replace(SETTINGS, shadow_max=0.0)).shadow_rate(NAME) == 0.0


def test_what_is_proven_for_one_tenant_proves_nothing_for_another() -> None:
    one = control()
    teach(one, WORDS, 20_000)
    teach(one, "question", 20_000)
    assert one.cut(NAME, "question") < inf
    for stratum in (WORDS, "question"):
        assert one.cut("tenant:b|*|semantic", stratum) == inf


def test_what_errs_for_others_is_begun_with_less_trust() -> None:
    warned, fresh = control(DecisionSettings(), shipped=True), control(shipped=True)
    for _ in range(400):
        warned.missed(NAME, AGREE, 5.0, wrong=True)
    assert warned.cut("tenant:b|*|semantic", AGREE) == inf
    assert fresh.cut("tenant:b|*|semantic", AGREE) < inf


def test_complaints_are_heard_in_their_class_alone() -> None:
    one = control(DecisionSettings(), shipped=True)
    for _ in range(400):
        one.complained(NAME, AGREE, 5.0)
    assert one.cut(NAME, AGREE) == inf
    assert one.cut("tenant:b|*|semantic", AGREE) < inf


@pytest.mark.parametrize("stratum", sorted(FINAL))
def test_no_evidence_lifts_a_final_veto(stratum: str) -> None:
    one = control()
    teach(one, stratum, 5_000)
    assert one.cut(NAME, stratum) == inf


def test_noise_of_one_class_is_not_anothers_and_loosens_no_more_than_so_much() -> None:
    one = control()
    for _ in range(500):
        one.twins("tenant:a|*|semantic", differ=True)
        one.twins(NAME, differ=True)
    assert one.noise("tenant:c|*|semantic").labels == 0
    teach(one, WORDS, 700, 300)
    assert one.cut(NAME, WORDS) == inf
    for _ in range(200):  # and what is right sets off no alarm
        assert not one.checked(NAME, WORDS, 5.0, False, 0.5)


def test_hits_that_nobody_checks_are_told_apart() -> None:
    one = control()
    one.unwatched(NAME)
    one.undecided(NAME, 0.5)
    one.checked(NAME, AGREE, 5.0, False, 0.5)
    (report,) = one.report()
    assert (report.unwatched, report.error.served, report.error.labels) == (1, 2, 1)


def test_a_class_that_was_forgotten_is_not_believed_when_it_comes_back() -> None:
    one = control(DecisionSettings(), shipped=True)
    assert one.cut(NAME, AGREE) < inf
    for number in range(CLASSES_MAX):
        one.asked(f"tenant:{number}|*|semantic")
    assert one.cut(NAME, AGREE) == inf


def test_the_upstreams_own_disagreement_is_no_error() -> None:
    """It answers one time in ten otherwise; every label shows that, and no hit is wrong."""
    settings = replace(SETTINGS, max_error=0.05)
    chance, noisy, naive = Random(5), control(settings), control(settings)
    for _ in range(6_000):
        noisy.twins(NAME, chance.random() < 0.1)
    for _ in range(6_000):
        differ = chance.random() < 0.1
        noisy.missed(NAME, WORDS, 5.0, differ)
        naive.missed(NAME, WORDS, 5.0, differ)
    assert naive.cut(NAME, WORDS) == inf
    assert noisy.cut(NAME, WORDS) < inf
    for _ in range(3_000):
        noisy.checked(NAME, WORDS, 5.0, chance.random() < 0.1, 1.0)
    found = noisy.error(NAME)
    assert found.estimate < 0.02
    assert found.low == 0.0


def test_complaints_close_but_do_not_count_as_a_sample() -> None:
    one = control()
    teach(one, WORDS, 700)
    for _ in range(40):
        one.complained(NAME, WORDS, 5.0)
    assert one.cut(NAME, WORDS) == inf
    assert one.error(NAME).labels == 0


def test_wrong_hits_are_told_as_a_share_of_hits_and_of_requests() -> None:
    one = control()
    for at in range(1_000):
        one.asked(NAME)
        if at % 4 == 0:
            one.checked(NAME, AGREE, 5.0, at % 100 == 0, 1.0)
    (report,) = one.report()
    assert report.error.estimate == pytest.approx(0.04)
    assert report.error_of_requests == pytest.approx(0.01)
    assert report.error.served == 250


def test_classes_are_bounded() -> None:
    one = control()
    for number in range(CLASSES_MAX + 5):
        one.cut(f"tenant:{number}|*|semantic", AGREE)
    assert len(list(one.report())) == CLASSES_MAX


def test_what_was_learned_lasts_unless_the_bound_was_another() -> None:
    one = control()
    teach(one, WORDS, 700)
    one.checked(NAME, WORDS, 5.0, True, 0.5)
    one.twins(NAME, True)
    again = control()
    assert again.restore(one.state())
    assert again.cut(NAME, WORDS) == one.cut(NAME, WORDS) < inf
    assert (again.error(NAME), again.noise(NAME)) == (one.error(NAME), one.noise(NAME))
    stricter = control(replace(SETTINGS, max_error=0.01))
    assert not stricter.restore(one.state())
    assert stricter.cut(NAME, WORDS) == inf


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_errs_by_score_is_served_as_far_as_the_bound_allows(seed: int) -> None:
    """Errors fall with the score, and the score promises too much: cuts go by what became of it."""
    chance = Random(seed)
    one = control()
    served = wrong = 0
    for _ in range(20_000):
        score = chance.random() * 7.5
        erred = chance.random() < 0.3 * (1 - score / 7.5) ** 2
        if score >= one.cut(NAME, WORDS):
            served += 1
            wrong += erred
            probability = one.shadow_rate(NAME)
            if chance.random() < probability:
                one.checked(NAME, WORDS, score, erred, probability)
            else:
                one.unchecked(NAME, probability)
        else:
            one.missed(NAME, WORDS, score, erred)
    assert served > 1_500
    assert wrong / served <= SETTINGS.max_error
    found = one.error(NAME)
    assert found.low <= wrong / served <= found.high
