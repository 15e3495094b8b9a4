"""What was learned lasts, what was proven wrong at once, and neither grows without bound."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from threading import Thread

import pytest

from index import labels
from index.calibration import AGREE, FEATURES, WORDS, Calibration
from index.decision import Candidate, DecisionSettings, Judged
from index.entry import PartitionKey, Question
from index.guard import compare, read
from index.labels import NAME, Labels, Verdict
from tests.fakes.entries import PARTITION, as_after_kill

CLASS = "shared|*|semantic"
SETTINGS = DecisionSettings(max_error=0.02)
IGNORANT = Calibration("test", 0.0, (0.0,) * len(FEATURES), {})
ASKED = Question(PARTITION, "How do I reset my router?")
CACHED = "How do I restart my router?"


def opened(directory: Path | None, settings: DecisionSettings = SETTINGS) -> Labels:
    return Labels(directory, settings, IGNORANT)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Labels]:
    one = opened(tmp_path)
    try:
        yield one
    finally:
        one.close()


def judged(text: str = CACHED, stratum: str = WORDS, score: float = 5.0) -> Judged:
    evidence = compare(read(ASKED.text), read(text))
    return Judged(Candidate(1, text, 0.9), evidence, stratum, score, inf)


def known(of: Labels, *texts: str, asked: Question = ASKED) -> list[Candidate]:
    return of.known(asked, [Candidate(at, text, 0.9) for at, text in enumerate(texts)])


def refuted(of: Labels, asked: Question = ASKED, text: str = CACHED) -> bool:
    (one,) = known(of, text, asked=asked)
    return one.refuted


def teach(one: Labels, times: int = 700) -> None:
    """So much that is right that the stratum opens."""
    for _ in range(times):
        one.missed(CLASS, ASKED, [Verdict(judged(), right=True, label=True)])


def learned(one: Labels) -> None:
    teach(one)
    one.checked(CLASS, ASKED, judged(), right=True, probability=0.5)
    one.unchecked(CLASS, 0.5)
    one.twins(CLASS, differ=True)


def told(one: Labels) -> object:
    return one.report(), one.noise(CLASS), one.cut(CLASS, counts=False)(WORDS), known(one, CACHED)


def test_what_was_learned_is_there_after_a_restart(kept: Labels, tmp_path: Path) -> None:
    learned(kept)
    before = told(kept)
    kept.close()
    again = opened(tmp_path)
    assert told(again) == before
    assert again.cut(CLASS)(WORDS) < inf
    again.close()


def test_a_kill_costs_what_was_not_saved_and_no_proven_wrong_pair(
    kept: Labels, tmp_path: Path
) -> None:
    learned(kept)
    kept.save()
    kept.checked(CLASS, ASKED, judged(), right=True, probability=0.5)
    kept.refute(ASKED, CACHED)
    after = opened(as_after_kill(tmp_path, tmp_path / "copy"))
    (report,) = after.report()
    assert report.error.labels == 1
    assert after.cut(CLASS)(WORDS) < inf
    assert refuted(after)
    after.close()


def test_a_complaint_is_on_disk_when_it_is_answered(kept: Labels, tmp_path: Path) -> None:
    kept.complained(CLASS, ASKED, judged())
    after = opened(as_after_kill(tmp_path, tmp_path / "copy"))
    assert refuted(after)
    after.close()


def test_nothing_new_is_nothing_written(kept: Labels, tmp_path: Path) -> None:
    teach(kept, 1)
    kept.save()
    log = tmp_path / f"{NAME}-wal"
    size = log.stat().st_size
    kept.save()
    assert log.stat().st_size == size
    kept.unchecked(CLASS, 0.5)
    kept.save()
    assert log.stat().st_size > size


def test_another_bound_forgets_what_was_won_and_not_what_was_proven_wrong(tmp_path: Path) -> None:
    one = opened(tmp_path)
    learned(one)
    one.refute(ASKED, CACHED)
    one.close()
    stricter = opened(tmp_path, replace(SETTINGS, max_error=0.01))
    assert stricter.cut(CLASS)(WORDS) == inf
    assert stricter.noise(CLASS).labels == 0
    assert refuted(stricter)
    stricter.close()


@pytest.mark.parametrize("kept_bytes", [0, 4096])
def test_a_damaged_file_is_set_aside_and_another_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept_bytes: int
) -> None:
    """Whether its head is damaged or only what follows."""
    one = opened(tmp_path)
    one.refute(ASKED, CACHED)
    one.close()
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:kept_bytes].ljust(len(whole), b"?"))
    one = opened(tmp_path)
    assert one.refuted == 0
    one.refute(ASKED, CACHED)
    one.close()
    assert (tmp_path / f"{NAME}.damaged").exists()
    assert "labels_set_aside" in caplog.text
    again = opened(tmp_path)
    assert refuted(again)
    again.close()


def test_a_state_that_cannot_be_read_does_not_keep_a_node_from_starting(tmp_path: Path) -> None:
    one = opened(tmp_path)
    teach(one, 1)
    one.refute(ASKED, CACHED)
    one.close()
    with sqlite3.connect(tmp_path / NAME) as file:
        file.execute("UPDATE state SET value = x'c1'")
    file.close()
    again = opened(tmp_path)
    assert refuted(again)
    assert again.report() == []
    again.close()


def test_no_text_is_written_down(tmp_path: Path) -> None:
    one = opened(tmp_path)
    learned(one)
    one.refute(ASKED, CACHED)
    one.close()
    for file in tmp_path.iterdir():
        assert b"router" not in file.read_bytes()


def test_without_a_directory_nothing_lasts() -> None:
    one = opened(None)
    one.refute(ASKED, CACHED)
    one.close()
    again = opened(None)
    assert not refuted(again)
    again.close()


# Wrong pairs.


def test_a_wrong_pair_is_wrong_both_ways_and_however_it_is_written(kept: Labels) -> None:
    kept.refute(ASKED, CACHED)
    assert refuted(kept, Question(PARTITION, CACHED), ASKED.text)
    assert refuted(kept, Question(PARTITION, "how do i reset  my router?"), CACHED.upper())
    assert not refuted(kept, ASKED, "How do I sell my router?")
    assert not refuted(kept, Question(PartitionKey(b"q" * 32), ASKED.text))
    assert kept.refuted == 1


def test_of_too_many_wrong_pairs_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "REFUTED_MAX", 3)
    one = opened(tmp_path)
    for number in range(5):
        one.refute(ASKED, f"How do I reset {number} routers?")
    assert one.refuted == 3
    one.close()
    again = opened(tmp_path)
    assert again.refuted == 3
    assert not refuted(again, text="How do I reset 1 routers?")
    assert refuted(again, text="How do I reset 2 routers?")
    again.close()


def test_refuted_again_a_pair_counts_as_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "REFUTED_MAX", 2)
    one = opened(tmp_path)
    for number in (1, 2, 1, 3):
        one.refute(ASKED, f"How do I reset {number} routers?")
    assert refuted(one, text="How do I reset 1 routers?")
    assert not refuted(one, text="How do I reset 2 routers?")
    one.close()


# Records.


def test_an_entry_has_a_record_of_its_own(kept: Labels) -> None:
    for right in (True, True, False):
        kept.checked(CLASS, ASKED, judged(), right=right, probability=1.0)
    kept.complained(CLASS, ASKED, judged())
    one, other = known(kept, CACHED, "How do I sell my router?")
    assert (one.right, one.wrong) == (2, 2)
    assert (other.right, other.wrong, other.answer) == (0, 0, 0)


def test_of_too_many_records_the_one_not_touched_for_longest_goes(
    kept: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "RECORDS_MAX", 2)
    texts = [f"How do I reset {name}?" for name in ("routers", "phones", "clocks")]
    for at in (0, 1, 0, 2):
        kept.checked(CLASS, ASKED, judged(texts[at]), right=True, probability=1.0)
    assert [one.right for one in known(kept, *texts)] == [2, 0, 1]


def test_questions_with_the_same_answer_are_known_as_a_group(kept: Labels) -> None:
    one, other, third = "How do I restart it?", "How do I reboot it?", "How do I sell it?"
    verdicts = [
        Verdict(judged(one), right=True, label=True),
        Verdict(judged(other), right=True, label=False),
        Verdict(judged(third), right=False, label=False),
    ]
    kept.missed(CLASS, ASKED, verdicts)
    group = known(kept, ASKED.text, one, other, third)
    assert len({candidate.answer for candidate in group[:3]}) == 1
    assert group[0].answer != 0
    assert group[3].answer == 0


def test_groups_join_where_one_question_belongs_to_both(kept: Labels) -> None:
    """Asked first was `first`, like `one`; then `second`, which is like `one` and `other`."""
    one, other = "How do I restart it?", "How do I reboot it?"
    first, second = Question(PARTITION, "Restart it how?"), Question(PARTITION, "Reboot it how?")
    kept.missed(CLASS, first, [Verdict(judged(one), right=True, label=True)])
    kept.missed(
        CLASS, second, [Verdict(judged(text), right=True, label=False) for text in (one, other)]
    )
    answers = {candidate.answer for candidate in known(kept, first.text, second.text, one, other)}
    assert len(answers) == 1


def test_a_question_with_an_answer_like_no_other_is_a_group_of_its_own(kept: Labels) -> None:
    kept.missed(CLASS, ASKED, [Verdict(judged(), right=False, label=True)])
    asked, cached = known(kept, ASKED.text, CACHED)
    assert asked.answer != 0
    assert cached.answer == 0


def test_a_new_answer_leaves_its_group_and_keeps_its_record(kept: Labels) -> None:
    kept.missed(CLASS, ASKED, [Verdict(judged(), right=True, label=True)])
    kept.checked(CLASS, ASKED, judged(), right=True, probability=1.0)
    kept.replaced(Question(PARTITION, CACHED))
    asked, cached = known(kept, ASKED.text, CACHED)
    assert asked.answer != 0
    assert (cached.answer, cached.right) == (0, 1)


def test_groups_of_two_partitions_do_not_meet(kept: Labels) -> None:
    kept.missed(CLASS, ASKED, [Verdict(judged(), right=True, label=True)])
    elsewhere = Question(PartitionKey(b"q" * 32), ASKED.text)
    assert [one.answer for one in known(kept, ASKED.text, CACHED, asked=elsewhere)] == [0, 0]


def test_numbers_of_groups_go_on_after_a_restart(kept: Labels, tmp_path: Path) -> None:
    kept.missed(CLASS, ASKED, [Verdict(judged(), right=True, label=True)])
    kept.close()
    again = opened(tmp_path)
    other = Question(PARTITION, "How do I sell my car?")
    again.missed(CLASS, other, [Verdict(judged("Sell a car how?"), right=True, label=True)])
    first, second = known(again, ASKED.text, other.text)
    assert first.answer != second.answer
    again.close()


# Labels.


def test_only_what_would_have_been_served_is_a_label(kept: Labels) -> None:
    for _ in range(1_000):
        kept.missed(CLASS, ASKED, [Verdict(judged(), right=True, label=False)])
    assert kept.cut(CLASS)(WORDS) == inf
    teach(kept)
    assert kept.cut(CLASS)(WORDS) < inf


def test_an_alarm_is_told_to_whoever_brought_the_label(kept: Labels) -> None:
    teach(kept)
    alarms = [kept.checked(CLASS, ASKED, judged(), right=False, probability=1.0) for _ in range(8)]
    assert alarms.count(True) == 1
    assert kept.cut(CLASS)(WORDS) == inf


def test_asking_counts_unless_told_otherwise(kept: Labels) -> None:
    kept.checked(CLASS, ASKED, judged(), right=False, probability=1.0)
    for _ in range(4):
        kept.cut(CLASS)
        kept.cut(CLASS, counts=False)
    report = kept.report_of(CLASS)
    assert report is not None
    assert report.error_of_requests == pytest.approx(1 / 4)
    assert kept.report_of("another") is None


def test_threads_may_share_it(kept: Labels) -> None:
    """Each pair is refuted and each label counted, whoever else is at it."""

    def work(number: int) -> None:
        for at in range(40):
            text = f"How do I reset {number} of {at} routers?"
            kept.checked(CLASS, ASKED, judged(), right=True, probability=1.0)
            kept.missed(CLASS, ASKED, [Verdict(judged(text, AGREE), right=True, label=True)])
            kept.refute(ASKED, text)
            known(kept, text, CACHED)
            kept.cut(CLASS)(WORDS)
            kept.save()

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = kept.report_of(CLASS)
    assert report is not None
    assert report.error.labels == 160
    assert kept.refuted == 160
    assert known(kept, CACHED)[0].right == 160
