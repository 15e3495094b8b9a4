"""Vectors that came from other nodes: of use at once, and believed only when compared."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from index.acceptance import Accepted
from index.answers import Answers
from index.decision import DecisionSettings, Match, Miss
from index.entry import Entry, Hint, NodeName, Purge, Question, Version
from index.hints import agree, hint, hinted
from index.memory import MemorySettings
from index.store import StoreSettings
from tests.fakes.entries import DIMENSIONS, NOW, PARTITION, SHARED, Purger, entry, key, vector

A = NodeName("a")
FRANCE = "what is the capital of france?"
TRUE, FALSE = vector(0), vector(1)
"""Of the question, as every honest encoder makes it, and of another."""


class Encoder:
    """Makes one vector of everything, and counts."""

    def __init__(self, made: NDArray[np.float32] | None = TRUE) -> None:
        self.made = made
        self.asked: list[str] = []

    def __call__(self, text: str) -> NDArray[np.float32] | None:
        self.asked.append(text)
        return self.made


def open_(directory: Path, encoder: str = "e") -> Answers:
    opened = Answers.open(directory, StoreSettings(), MemorySettings(), DecisionSettings())
    opened.similar.load(encoder, DIMENSIONS)
    return opened


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    opened = open_(tmp_path)
    yield opened
    opened.flush()
    opened.check()
    opened.close()


def told(name: str = "q", version: int = 1) -> Entry:
    return replace(entry(name, question=FRANCE), stored_by=A, version=Version(version))


def ask(answers: Answers, embed: Encoder | None, near: NDArray[np.float32] = TRUE) -> Match | Miss:
    return answers.similar.find(SHARED, Question(PARTITION, FRANCE), near, NOW, "all", None, embed)


def accept(answers: Answers, vector: NDArray[np.float32], encoder: str = "e") -> None:
    assert answers.accept(told(), NOW, hint(encoder, vector)) == Accepted.STORED
    answers.flush()


def test_the_first_hit_embeds_the_stored_question_and_the_second_does_not(
    answers: Answers, tmp_path: Path
) -> None:
    accept(answers, TRUE)
    assert (answers.stats.vectors, answers.stats.vectors_unproven) == (1, 1)
    encoder = Encoder()
    for _ in range(2):
        found = ask(answers, encoder)
        assert isinstance(found, Match)
        assert found.entry == told()
    assert encoder.asked == [FRANCE]
    assert answers.stats.vectors_unproven == 0


@pytest.mark.parametrize("proven", [False, True])
def test_whether_it_is_proven_outlives_a_restart(tmp_path: Path, proven: bool) -> None:
    answers = open_(tmp_path)
    accept(answers, TRUE)
    if proven:
        ask(answers, Encoder())
    answers.close()
    again, encoder = open_(tmp_path), Encoder()
    assert isinstance(ask(again, encoder), Match)
    assert len(encoder.asked) == (not proven)
    again.check()
    again.close()


def test_a_vector_that_lies_costs_its_answer_and_names_its_node(answers: Answers) -> None:
    accept(answers, FALSE)
    named: list[Entry] = []
    answers.similar.on_false_hint = named.append
    assert isinstance(ask(answers, Encoder(TRUE), FALSE), Miss)
    assert named == [told()]
    assert answers.similar.false_hints == {A: 1}
    answers.flush()
    assert answers.recall(SHARED, key("q"), NOW) is None
    assert answers.fetch(SHARED, key("q"), NOW) is None
    assert answers.stats.vectors == 0
    assert answers.report()["false_hints"] == 1


def test_what_our_encoder_cannot_read_was_not_read_by_theirs(answers: Answers) -> None:
    accept(answers, TRUE)
    assert isinstance(ask(answers, Encoder(None)), Miss)
    assert answers.similar.false_hints == {A: 1}


def test_without_an_encoder_at_hand_it_is_passed_over(answers: Answers) -> None:
    accept(answers, TRUE)
    assert isinstance(ask(answers, None), Miss)
    assert answers.recall(SHARED, key("q"), NOW) is not None
    judged = answers.similar.weigh(Question(PARTITION, FRANCE), TRUE, "all")
    assert not list(answers.similar.weighed(SHARED, Question(PARTITION, FRANCE), judged)), (
        "nor learned of"
    )


def test_ours_takes_its_place_and_decides(answers: Answers) -> None:
    """A hint within the bounds may not lift a question over a cut that our vector misses."""
    ours = np.array([0.985, np.sqrt(1 - 0.985**2), 0, 0, 0, 0, 0, 0], np.float32)
    accept(answers, TRUE)
    found = ask(answers, Encoder(ours))
    assert isinstance(found, Match)
    assert found.similarity == pytest.approx(0.985, abs=0.01)
    assert found.similarity < 0.999


@pytest.mark.parametrize(
    "spoilt",
    [None, hint("other", TRUE), Hint("e", b""), Hint("e", bytes(DIMENSIONS)), Hint("e", b"x" * 9)],
)
def test_without_a_hint_of_use_it_is_found_exactly_and_embedded_in_time(
    answers: Answers, spoilt: Hint | None
) -> None:
    assert answers.accept(told(), NOW, spoilt) == Accepted.STORED
    answers.flush()
    assert answers.recall(SHARED, key("q"), NOW) is not None
    assert ask(answers, Encoder()) == Miss("no-candidate")
    ((id_, asked),) = answers.similar.unembedded(10)
    assert asked.text == FRANCE
    assert answers.similar.unembedded(10) == [], "named once"
    answers.similar.embedded(id_, asked, TRUE)
    answers.flush()
    encoder = Encoder()
    assert isinstance(ask(answers, encoder), Match)
    assert encoder.asked == [], "it was made here"


def test_what_left_while_it_was_embedded_stays_away(answers: Answers) -> None:
    answers.accept(told(), NOW)
    answers.flush()
    ((id_, asked),) = answers.similar.unembedded(10)
    answers.purge(Purger()(Purge()))
    answers.similar.embedded(id_, asked, TRUE)
    answers.flush()
    assert answers.stats.vectors == 0


def test_what_leaves_while_it_is_proven_stays_away(answers: Answers) -> None:
    accept(answers, TRUE)

    class Slow(Encoder):
        def __call__(self, text: str) -> NDArray[np.float32] | None:
            purging = Thread(target=answers.purge, args=[Purger()(Purge())])
            purging.start()
            purging.join()
            return super().__call__(text)

    assert isinstance(ask(answers, Slow()), Miss)
    answers.flush()
    assert answers.stats.vectors == 0


def test_another_encoder_embeds_what_it_finds(tmp_path: Path) -> None:
    answers = open_(tmp_path)
    answers.put(told(), TRUE)
    answers.close()
    again = open_(tmp_path, "other")
    assert ask(again, Encoder()) == Miss("no-candidate")
    assert [asked.text for _, asked in again.similar.unembedded(10)] == [FRANCE]
    again.close()


def test_what_others_are_given_carries_our_vectors_and_nobody_elses(answers: Answers) -> None:
    answers.put(entry("ours", question=FRANCE), vector(2))
    answers.flush()
    accept(answers, TRUE)
    answers.put(entry("exact"), None)
    answers.put(replace(entry("gone", ttl_s=1), pinned=True), None)
    pinned = replace(entry("pinned"), pinned=True)
    answers.put(pinned, None)
    answers.flush()
    later = NOW.__class__(NOW + 2)
    given = list(answers.hottest(10, later))
    assert given[0] == (pinned, None)
    assert {one.key for one, _ in given} == {key(n) for n in ("ours", "q", "exact", "pinned")}
    assert sorted(given, key=str) == sorted(answers.everything(later), key=str)
    assert len(list(answers.hottest(4, later))) == 4, "what has expired is none of them"
    hints = {one.key: found for one, found in given if found}
    assert list(hints) == [key("ours")]
    vector_told = hinted(hints[key("ours")], DIMENSIONS)
    assert vector_told is not None
    assert agree(vector_told, vector(2))
    assert answers.held(SHARED, key("ours"), later) == (
        entry("ours", question=FRANCE),
        hints[key("ours")],
    )
    assert answers.held(SHARED, key("gone"), later) is None
    assert answers.held(SHARED, key("nothing"), later) is None
