"""No two questions with different answers pass the guard, whatever their similarity."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from index.eligibility import ineligible
from index.guard import compare, read, veto

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "questions.json").read_text(encoding="utf-8")
)
APART: list[tuple[str, str, str, str]] = [tuple(row) for row in VECTORS["apart"]]
ALIKE: list[tuple[str, str, str]] = [tuple(row) for row in VECTORS["alike"]]


ADVERSARIAL = json.loads(
    (Path(__file__).parents[1] / "vectors" / "adversarial.json").read_text(encoding="utf-8")
)


def between(one: str, other: str) -> str | None:
    return veto(read(one), read(other))


def refused(one: str, other: str) -> bool:
    return bool(ineligible(one) or ineligible(other) or between(one, other))


@pytest.mark.parametrize("kind", sorted({kind for _, kind, _, _ in APART}))
def test_questions_with_different_answers_are_kept_apart(kind: str) -> None:
    pairs = [(one, other) for _, k, one, other in APART if k == kind]
    assert [pair for pair in pairs if not refused(*pair)] == []
    assert [pair for pair in pairs if not refused(*reversed(pair))] == []


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in ADVERSARIAL["wrong"]}))
def test_pairs_by_an_author_who_did_not_know_the_rules_are_kept_apart(kind: str) -> None:
    pairs = [(one, other) for k, one, other in ADVERSARIAL["wrong"] if k == kind]
    assert [pair for pair in pairs if not refused(*pair)] == []
    assert [pair for pair in pairs if not refused(*reversed(pair))] == []


@pytest.mark.parametrize(("degree", "share"), [("near", 0.75), ("moderate", 0.42), ("full", 0.0)])
def test_rewordings_by_that_author_pass(degree: str, share: float) -> None:
    """No rule knows that spuds are potatoes: what is wholly reworded is left to the model above."""
    pairs = [(one, other) for d, one, other in ADVERSARIAL["right"] if d == degree]
    served = [pair for pair in pairs if not refused(*pair)]
    assert len(served) >= share * len(pairs)


@pytest.mark.parametrize(("part", "share"), [("a", 0.75), ("b", 0.6), ("c", 0.6), ("d", 0.6)])
def test_most_rewordings_pass(part: str, share: float) -> None:
    """Safe before useful: synonyms that might change an answer are not taken for one."""
    pairs = [(one, other) for p, one, other in ALIKE if p == part]
    served = [pair for pair in pairs if not refused(*pair)]
    assert len(served) >= share * len(pairs)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("number", "What happened in 1066?", "What happened in 1666?"),
        ("number", "What changed in Python 3.10?", "What changed in Python 3.1?"),
        ("number", "How long are three weeks?", "How long are four weeks?"),
        ("number", "Who was the first king of Spain?", "Who was the 2nd king of Spain?"),
        ("unit", "Is 30 degrees Celsius hot?", "Is 30 degrees Fahrenheit hot?"),
        ("unit", "Is $5 enough for lunch?", "Is £5 enough for lunch?"),
        ("negation", "Which birds fly?", "Which birds do not fly?"),
        ("negation", "Which birds fly?", "Which birds don't fly?"),
        ("negation", "Bread with yeast", "Bread without yeast"),
        ("antonym", "How do I enable swap?", "How do I disable swap?"),
        ("antonym", "What is a valid reason?", "What is an invalid reason?"),
        ("quantifier", "Do all birds fly?", "Do some birds fly?"),
        ("modality", "Can I tip in Paris?", "Must I tip in Paris?"),
        ("question", "When did Rome fall?", "Why did Rome fall?"),
        ("tense", "What was the capital of Brazil?", "What is the capital of Brazil?"),
        ("person", "How can I protect my house?", "How can I protect your house?"),
        ("voice", "Who was hired in the merger?", "Who hired in the merger?"),
        ("entity", "Where can I learn Polish?", "Where can I learn polish?"),
        ("entity", "What is the fare to Lima?", "What is the fare to Oslo?"),
        ("date", "What happened on May 5?", "What happened on the 6th of May?"),
        ("date", "Is 7 am early?", "Is 7 pm early?"),
        ("unit", "How long does 1 GB take at 100 Mb/s?", "How long does 1 GB take at 100 MB/s?"),
        ("number", "How many days are two weeks?", "How many days are 14 days?"),
        ("role", "Where is York University?", "Where is the University of York?"),
        ("wording", "法国的首都是哪里", "德国的首都是哪里"),
        ("wording", "Wie ist das Wetter im Mai?", "Wie ist das Wetter im Juni?"),
        ("entity", "How do I use zorbflux?", "How do I use zorbflix?"),
        ("quoted", "What does 'set' mean?", "What does 'sat' mean?"),
        ("order", "Did Germany beat Brazil?", "Did Brazil beat Germany?"),
        ("order", "Dinner in Rome, lunch in Pisa", "Dinner in Pisa, lunch in Rome"),
        ("role", "flights from Lima to Bogota", "flights from Bogota to Lima"),
        ("role", "How do I look at a map?", "How do I look for a map?"),
        ("spelling", "How do I draw an angle?", "How do I draw an angel?"),
        ("spelling", "What is a moral argument?", "What is a morale argument?"),
        ("content", "How do I play a card?", "How do I play cards?"),
        ("content", "What is a force?", "What are forces?"),
        ("entity", "What is pandas?", "What are pandas?"),
        ("content", "How do I hem trousers?", "How do I iron trousers?"),
        ("voice", "What do cats like?", "What are cats like?"),
        ("tense", "Does the law change?", "Has the law changed?"),
        ("tense", "Who plays Batman?", "Who played Batman?"),
        ("person", "What is my BMI?", "What is BMI?"),
        ("person", "Which banks do I pay?", "Which banks pay?"),
        ("detail", "What is iron?", "What is an iron?"),
        ("detail", "Where can I see a star?", "Where can I see stars?"),
        ("symbol", "What is CO?", "What is Co?"),
        ("detail", "How do I treat a burn?", "How do I treat a burn on a baby?"),
    ],
)
def test_a_veto_has_the_name_of_what_differs(name: str, one: str, other: str) -> None:
    assert between(one, other) == name
    assert between(other, one) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many people live in Peru?", "What is Peru's population?"),
        ("Who painted Guernica?", "Guernica was painted by whom?"),
        ("On the menu, what is vegan?", "What is vegan on the menu?"),
        ("How do I reverse a list in Python?", "Reverse a Python list"),
        ("Why is my broadband conection slow?", "Why is my broadband connection slow?"),
        ("HOW DO I RESET MY ROUTER", "um hi, how do I reset my router please? Thanks!"),
        ("How far is 1,000 km?", "How far is one thousand kilometres?"),
        ("Who won World War II?", "Who won WW2?"),
        ("What happened on May 5?", "What happened on the 5th of May?"),
        ("Is the pool open at 3 pm?", "Is the pool open at 15:00?"),
        ("Can I return shoes after two weeks?", "Can I return shoes after 14 days?"),
        ("Is £50 a lot for shoes?", "Is fifty pounds a lot for shoes?"),
        ("What is the tallest mountain in the UK?", "um what is the tallest mountain in the uk"),
        ("How tall is the Berlin Wall?", "how tall is the berlin wall"),
        ("What is the guest Wi-Fi password?", "What is the Wi-Fi password for guests?"),
        ("How do I write a letter?", "How should one go about writing a letter?"),
        ("Creating a chart in Excel - how?", "How do I create a chart in Excel?"),
        ("How far is the moon from the earth?", "What's the distance between the Earth and Moon?"),
        ("Do you offer a vegetarian menu?", "Do you offer a vegitarian menu?"),
        ("How does a heat pump work?", "Can you explain how a heat pump works?"),
        ("法国 的首都是哪里!", "法国 的首都是哪里?"),
        ("Wie ist das Wetter im Mai und Juni?", "wie ist das wetter im mai und juni"),
    ],
)
def test_the_same_question_in_other_words_passes(one: str, other: str) -> None:
    assert between(one, other) is None


def test_evidence_tells_how_two_questions_agree() -> None:
    same = compare(read("What is a quasar?"), read("what is a quasar"))
    assert (same.related, same.extra, same.moved, same.rephrased) == (0, 0, False, False)
    assert compare(read("How do I purchase stamps?"), read("How do I buy stamps?")).related == 1
    assert compare(read("Which city is Peru's capital?"), read("Peru's capital")).extra == 1
    assert compare(read("Peru's capital"), read("capital of Peru")).moved
    assert compare(read("Sort a list in C"), read("How do I sort a list in C?")).rephrased


def test_evidence_is_counted_whatever_the_verdict() -> None:
    one, other = read("How do I cure a cold?"), read("How do I treat a cold at home?")
    found = compare(one, other)
    assert (found.veto, found.matched, found.left, found.right) == ("content", 1, 1, 2)
    back = compare(other, one)
    assert (back.veto, back.matched, back.left, back.right) == ("content", 1, 2, 1)
    assert compare(read("Is ice cold in 1999?"), read("Is ice cold in 1998?")).matched == 2


def test_a_dictionarys_synonym_is_evidence_and_no_pardon() -> None:
    found = compare(read("How do I attain peace?"), read("How do I achieve peace?"))
    assert found.veto == "content"
    assert found.related == 1


def test_questions_about_words_match_word_by_word() -> None:
    assert between("What does big mean?", "What does large mean?") == "content"
    assert between("How do you spell cars?", "How do you spell car?") == "content"
    assert between("What does photosynthesis mean?", "Define photosynthesis") is None


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_read_and_equals_itself(text: str) -> None:
    ineligible(text)
    assert veto(read(text), read(text)) is None


WORDS = sorted({word for _, one, other, *_ in APART for word in re.findall(r"[\w'%$]+", other)})
phrases = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


@settings(deadline=None)
@given(phrases, phrases)
def test_a_veto_does_not_depend_on_who_asks(one: str, other: str) -> None:
    assert between(one, other) == between(other, one)


QUESTIONS = [one for _, one, _ in ALIKE if not ineligible(one)]
questions = st.sampled_from(QUESTIONS)


@settings(deadline=None)
@given(questions, st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_answer_crosses_between_numbers(question: str, one: int, other: int) -> None:
    assume(one != other)
    text = question.rstrip("?")
    assert between(f"{text} for {one} people?", f"{text} for {other} people?") == "number"
    assert between(f"{text} in {one}?", f"{text} in {other}?") == "number"


@settings(deadline=None)
@given(questions, st.sampled_from(["not", "never"]), st.data())
def test_no_answer_crosses_a_negation(question: str, word: str, data: st.DataObject) -> None:
    words = question.split()
    assume(len(words) > 2)
    at = data.draw(st.integers(1, len(words) - 1))
    assert between(question, " ".join([*words[:at], word, *words[at:]])) is not None


names = st.text("bcdfgklmnprstvz", min_size=2, max_size=3).map(lambda s: f"{s[0].upper()}a{s[1:]}o")


@settings(deadline=None)
@given(questions, names, names)
def test_no_answer_crosses_between_names(question: str, one: str, other: str) -> None:
    assume(one != other)
    text = question.rstrip("?")
    assert between(f"{text} in {one}?", f"{text} in {other}?") is not None


@settings(deadline=None)
@given(names, names, st.sampled_from(["defeat", "sue", "resemble", "teach"]))
def test_no_answer_crosses_a_swap(one: str, other: str, verb: str) -> None:
    assume(one != other)
    assert between(f"Did {one} {verb} {other}?", f"Did {other} {verb} {one}?") == "order"
    assert between(f"Is {one} taller than {other}?", f"Is {other} taller than {one}?") is not None
    assert between(f"trains from {one} to {other}", f"trains from {other} to {one}") == "role"


def test_long_questions_with_a_long_common_start_are_kept_apart() -> None:
    start = "My garden faces north and has clay soil with two hours of sun in the morning. " * 8
    assert between(start + "Which hedge grows there?", start + "Which tree grows there?")
