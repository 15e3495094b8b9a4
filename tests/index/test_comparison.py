"""Answers that say the same, and answers that do not, as assistants word them."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from index.claims import Claims, Quantity, claims, fold
from index.comparison import TEXT_CHARS_MAX, Agreement, compare_answers

ANSWERS = json.loads((Path(__file__).parents[1] / "vectors" / "answers.json").read_text("utf-8"))
"""[an answer, the same in other words, the answer to a question nearby, and their cosines by
all-MiniLM-L6-v2: first to second, first to third, second to third]. Written with the rules."""


def verdict(one: str, other: str, cosine: float | None = None) -> Agreement:
    """Of the pair in both orders, which must agree."""
    near = None if cosine is None else lambda: cosine
    found = compare_answers(one, other, near)
    assert compare_answers(other, one, near) == found
    return found


def quantities(text: str) -> list[tuple[str, float]]:
    return [(one.dimension, round(one.value, 6)) for one in claims(fold(text)).quantities]


def read(text: str) -> Claims:
    return claims(fold(text))


def test_no_answer_is_the_same_as_that_to_another_question_nor_differs_from_itself() -> None:
    for first, second, nearby, same, apart, also_apart in ANSWERS:
        assert verdict(first, second, same).verdict != "different", first
        assert verdict(first, nearby, apart).verdict != "same", nearby
        assert verdict(second, nearby, also_apart).verdict != "same", nearby


def test_most_answers_are_decided() -> None:
    same = sum(verdict(one, two, near).verdict == "same" for one, two, _, near, *_ in ANSWERS)
    apart = sum(
        verdict(one, other, cosine).verdict == "different"
        for first, second, other, _, near, also in ANSWERS
        for one, cosine in ((first, near), (second, also))
    )
    assert same >= 0.55 * len(ANSWERS)
    assert apart >= 0.8 * 2 * len(ANSWERS)


def test_without_vectors_words_alone_may_decide_and_never_wrongly() -> None:
    for first, second, nearby, *_ in ANSWERS:
        assert verdict(first, second).verdict != "different", first
        assert verdict(first, nearby).verdict != "same", nearby
        assert verdict(second, nearby).verdict != "same", nearby


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris.", "paris"),
        ("**Paris**\n", "Paris!"),
        ("- one\n- two\n", "* One\n* Two"),
        ("1. Open it.\n2. Close it.", "Open it.\n\nClose it."),
        ("See [the manual](https://example.com/a).", "See the manual."),
        ("It\u2019s \u201cfine\u201d", 'It\'s "fine"'),
        ("\uff21\uff22\uff23 is it", "ABC is it"),
        ("\u5df4\u9ece\u3002", "\u5df4\u9ece"),
        ("```\nx = 1  \n```", "```\nx = 1\n```"),
    ],
)
def test_layout_case_and_punctuation_do_not_make_another_answer(one: str, other: str) -> None:
    assert verdict(one, other) == Agreement("same", "exact")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3.5", "35"),
        ("-18", "18"),
        ("10\u00b2", "102"),
        ("C++", "C#"),
        ("50 %", "50"),
        ("`a = 1`", "`A = 1`"),
        ("```\nif a:\n    b = 1\nc = 2\n```", "```\nif a:\n    b = 1\n    c = 2\n```"),
        ("\u0915\u093f", "\u0915\u0940"),
    ],
)
def test_signs_that_mean_something_are_not_punctuation(one: str, other: str) -> None:
    assert verdict(one, other).verdict != "same"


@pytest.mark.parametrize(
    ("one", "other", "step"),
    [
        ("Yes, you can.", "No, you cannot.", "lead"),
        ("\u662f\u7684,\u53ef\u4ee5\u3002", "\u4e0d\u53ef\u4ee5\u3002", "lead"),
        ("It takes 5 days.", "It takes 5 weeks.", "quantity"),
        ("Take 3 pills for 5 days.", "Take 3 pills for 7 days.", "quantity"),
        ("It opened in 1945.", "It opened in 1946.", "quantity"),
        ("It is due on May 5, 2024.", "It is due on 6 May 2024.", "quantity"),
        ("Open from 9 am.", "Open from 9 pm.", "quantity"),
        ("It costs $5.", "It costs five hundred dollars.", "quantity"),
        ("Keep it at -18 \u00b0C.", "Keep it at 18 \u00b0C.", "quantity"),
        ("You need version 3.11.2 of it.", "You need version 3.12.0 of it.", "name"),
        ("Ask Ann Lee.", "Ask Bob Ray.", "name"),
        ("It was painted by Monet.", "It was painted by Manet.", "name"),
        ("Vaccination is required.", "Registration is required.", "name"),
        ("You may smoke here.", "You may not smoke here.", "negation"),
        (
            "Milk is safe for adult cats to drink.",
            "Milk is unsafe for adult cats to drink.",
            "opposite",
        ),
        ("I'm sorry, but I can't help with that.", "Remove the two screws first.", "refusal"),
    ],
)
def test_a_contradiction_outweighs_any_likeness(one: str, other: str, step: str) -> None:
    assert verdict(one, other, 0.999) == Agreement("different", step)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 18 km away.", "It is 18,000 m away."),
        ("Wait for 2 hours.", "Wait for 120 minutes."),
        ("Pi is 3.14.", "Pi is about 3.14159."),
        ("We close at 3 pm.", "We close at 15:00."),
        ("It ended on 2 September 1945.", "It ended on September 2nd, 1945."),
        ("It is 100 degrees Celsius.", "It is 212 \u00b0F."),
        ("It has 350 seats.", "It has three hundred and fifty seats."),
        ("The Second World War ended.", "WWII ended after the Second World War began."),
        ("Bake it for 5-10 minutes.", "Bake it for five to ten minutes."),
        ("No problem, you can.", "Yes, you can."),
        ("No one knows.", "Yes, nobody knows."),
        ("It is in Japan.", "It is a Japanese town in Japan."),
    ],
)
def test_other_notation_is_no_contradiction(one: str, other: str) -> None:
    assert verdict(one, other, 0.7).verdict != "different"


def test_equal_amounts_in_other_units_may_answer_other_questions() -> None:
    minutes, seconds = "There are 60 minutes in an hour.", "There are 3600 seconds in an hour."
    assert verdict(minutes, seconds).verdict == "undecided"


def test_a_bare_fact_is_the_sentence_that_ends_or_begins_with_it() -> None:
    assert verdict("Paris", "The capital of France is Paris.").verdict == "same"
    assert verdict("Paris", "Paris is the capital of France.").verdict == "same"
    assert verdict("365 days", "There are 365 days in a year.").verdict == "same"
    assert verdict("60", "There are 60 minutes in an hour.", 0.1).verdict == "undecided"
    assert verdict("Yes.", "Yes, you can eat it raw.").verdict == "undecided"


def test_one_word_for_another_is_never_the_same_by_vector() -> None:
    one = "To cancel the subscription, choose Billing in the settings."
    other = "To renew the subscription, choose Billing in the settings."
    assert verdict(one, other, 0.97) == Agreement("undecided", "cosine")


def test_refusals_are_no_evidence_about_each_other() -> None:
    one = "I'm sorry, but I can't help with that."
    assert verdict(one, "As an AI, I cannot provide medical advice.", 0.9).step == "refusal"
    assert verdict(one, "As an AI, I cannot provide medical advice.", 0.9).verdict == "undecided"
    assert verdict(one, one.upper()) == Agreement("same", "exact")
    assert verdict("Sorry for the wait. It is red.", "It is red, sorry.", 0.9).step != "refusal"


def test_the_cosine_settles_what_words_leave_open() -> None:
    one = "Plants turn light into sugar, which feeds nearly everything alive."
    other = "Sunlight becomes food inside leaves, and animals depend on that."
    assert verdict(one, other, 0.95) == Agreement("same", "cosine")
    assert verdict(one, other, 0.7) == Agreement("undecided", "cosine")
    assert verdict(one, other, 0.3) == Agreement("different", "cosine")
    assert verdict(one, other, float("nan")) == Agreement("undecided", "cosine")
    assert verdict(one, other) == Agreement("undecided", "no-vector")
    assert verdict("It depends. " + one, "Yes. " + other, 0.95).verdict == "undecided"


def test_the_vector_is_asked_for_only_when_it_can_matter() -> None:
    def unwanted() -> float:
        raise AssertionError("embedded for nothing")

    assert compare_answers("It is 5 km.", "It is 6 km.", unwanted).verdict == "different"
    assert compare_answers("Paris", "paris", unwanted).verdict == "same"


def test_long_answers_are_compared_by_how_they_begin() -> None:
    begin = "The capital of France is Paris. " + "It lies on the river and has many museums. " * 20
    assert verdict(begin, begin + "In 1900 it held games.", 0.9).verdict == "same"
    assert verdict(begin, begin + "In 1900 it held games.").verdict == "undecided"
    other = begin.replace("France is Paris", "Germany is Berlin")
    assert verdict(begin, other, 0.9) == Agreement("different", "name")


def test_too_long_and_empty_answers_are_not_judged() -> None:
    long = "a" * (TEXT_CHARS_MAX + 1)
    assert verdict(long, long) == Agreement("same", "exact")
    assert verdict(long, "a") == Agreement("undecided", "too-long")
    assert verdict("", "Paris") == verdict(" \n", "\t") == Agreement("undecided", "empty")


def test_example_code_claims_nothing() -> None:
    loop = "Use a loop:\n\n```python\nfor i in range({}):\n    print(i)\n```\n"
    assert verdict(loop.format(10), loop.format(5), 0.99).verdict == "same"
    assert read("```\nx = 5\n").quantities == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5 km", [("length", 5000)]),
        ("5-10 minutes", [("time", 300), ("time", 600)]),
        ("between 5 and 10 kg", [("mass", 5000), ("mass", 10000)]),
        ("$5 million", [("$", 5e6)]),
        ("5 dollars a month or $5 per month", [("$/time", 5 / 2629800)] * 2),
        ("8 glasses a day", [("/time", 8 / 86400)]),
        ("36 km/h, 10 m/s", [("length/time", 10), ("length/time", 10)]),
        ("twenty-one", [("", 21)]),
        ("two hundred and five", [("", 205)]),
        ("three million", [("", 3e6)]),
        ("1,234.5", [("", 1234.5)]),
        ("one of them", []),
        ("one hour", [("time", 3600)]),
        ("a two-year plan", [("time", 2 * 31557600)]),
        ("2024-05-06", [("", 2024), ("date", 506)]),
        ("the 6th of May 2024", [("date", 506), ("", 2024)]),
        ("32 \u00b0F, 0 degrees Celsius", [("celsius", 0), ("celsius", 0)]),
        ("half past 9:30 pm", [("clock", 1290)]),
        ("50% or 50 percent", [("%", 50), ("%", 50)]),
        ("the 1990s", [("", 1990)]),
    ],
)
def test_quantities_are_read_with_their_units(text: str, found: list[tuple[str, float]]) -> None:
    assert quantities(text) == [(dimension, round(value, 6)) for dimension, value in found]


def test_names_are_capitals_within_a_sentence_and_what_an_answer_is_about() -> None:
    assert read("The mayor of Paris met Ms Ann O'Hara.").names == {"paris", "ms", "ann", "o'hara"}
    assert read("Boil water. Then add salt.").names == frozenset()
    assert read("Berlin is big.").names == {"berlin"}
    assert read("Add Salt, or salt.").names == frozenset()
    assert read("Use IPv6 and COVID-19 tests of the U.S.").names == {"ipv6", "covid-19", "us"}


def test_quantities_are_equal_as_precisely_as_they_were_said() -> None:
    def of(value: float, digits: int, dimension: str = "") -> Quantity:
        return Quantity(dimension, value, value, digits)

    assert of(3.14, 3) == of(3.14159, 6)
    assert of(143_000, 3) == of(142_984, 6)
    assert of(12, 2) == of(12.4, 3)
    assert of(1945, 4) != of(1946, 4)
    assert of(1990, 3) != of(1991, 4)
    assert of(2500, 2) != of(2510, 3)
    assert of(1000, 1, "$") != of(1001, 4, "$")
    assert of(20, 1) != of(18, 2)
    assert of(5, 1, "length") != of(5, 1, "mass")
    assert Quantity("length", 8000, 8, 1) != Quantity("length", 8046.7, 5, 1)
    assert Quantity("length", 8047, 8047, 4) == Quantity("length", 8046.72, 5, 1)
    with pytest.raises(TypeError):
        hash(of(1, 1))


FRAGMENTS = st.lists(
    st.sampled_from(
        ["Yes", "no", "not", "5", "five", "km", "-", "May", "2024-01-02", "9:30", "pm", "$", "a",
         "day", "per", "Paris", "```", "*", ".", "\n", "[x](", ")", "\u00b2", "\u00bd",
         "I can't help", "hundred", "and", "\u00b0C", "\u4e0d\u662f", "1.2.3", "9" * 20]
    ),
    max_size=12,
).map(" ".join)  # fmt: skip


@given(FRAGMENTS | st.text(max_size=40), FRAGMENTS | st.text(max_size=40), st.floats(-1, 1))
@example("9" * 400, "9" * 401, 0.5)
def test_whatever_is_compared_the_order_does_not_matter(
    one: str, other: str, cosine: float
) -> None:
    verdict(one, other, cosine)
    assert one.strip() == "" or verdict(one, one).verdict == "same"
