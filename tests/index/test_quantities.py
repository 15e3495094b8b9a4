"""What is the same quantity, date or time in another notation, and what is not."""

import pytest

from index.quantities import converted, dated


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("on the 5th of may", "on the @05-05"),
        ("on may 5th, 2024", "on @2024-05-05"),
        ("on 5 may 2024", "on @2024-05-05"),
        ("on 2024-05-05", "on @2024-05-05"),
        ("in sept 2021", "in @2021-09"),
        ("at 3 pm", "at @15:00"),
        ("at 3.30pm", "at @15:30"),
        ("at 12 am", "at @00:00"),
        ("at noon", "at @12:00"),
        ("at 15:00", "at @15:00"),
        ("at 09:00", "at @09:00"),
        ("$1,500 a month", "1,500 dollar a month"),
        ("gbp 50", "50 gbp"),
    ],
)
def test_one_notation(written: str, read: str) -> None:
    assert dated(written) == read


@pytest.mark.parametrize(
    "text",
    [
        "at 7:30",
        "may i pay 13 pm",
        "version 3.10",
        "the 45th of may",
        "2024-13-40",
        "room 12",
        "3/5",
    ],
)
def test_what_is_ambiguous_or_nothing_of_the_kind_stays_as_it_is(text: str) -> None:
    assert dated(text) == text


def pieces(text: str) -> list[tuple[str, str]]:
    return [("number" if word[0].isdigit() else "word", word) for word in text.split()]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 weeks", "14 days"),
        ("1.5 hours", "90 minutes"),
        ("2 years", "24 months"),
        ("1 km", "1000 metres"),
        ("0.5 kg", "500 grams"),
        ("1 litre", "1,000 ml"),
    ],
)
def test_equal_quantities_are_equal(one: str, other: str) -> None:
    assert converted(pieces(one)) == converted(pieces(other)) != pieces(one)


@pytest.mark.parametrize("text", ["how many days are 2 weeks", "3.10.1 weeks", "5 miles", "weeks"])
def test_nothing_is_converted_where_that_is_the_question_or_not_exact(text: str) -> None:
    assert converted(pieces(text)) == pieces(text)


def test_a_month_is_no_number_of_days() -> None:
    assert converted(pieces("1 month")) != converted(pieces("30 days"))
