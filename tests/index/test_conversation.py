"""Which last turns are answered without what was said before, and what proves it."""

import pytest

from index.conversation import needed


def alone(last: str, *said: str, reply: str = "", instructed: bool = True) -> str | None:
    return needed(last, said, [reply], instructed=instructed)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("What's the cooling-off period for a new broadband contract?", "Is the screen cracked?"),
        ("Do you offer a student discount for evening classes?", "thanks, that's all for the bike"),
        ("How do I export a contact list as a CSV file?", "Where can I see my invoices?"),
        ("By the way, what is the tallest mountain in Peru?", "How do I peel a mango?"),
    ],
)
def test_a_whole_question_of_another_subject_stands_alone(last: str, said: str) -> None:
    assert alone(last, said) == ""


@pytest.mark.parametrize(
    "last",
    [
        "Can you cancel it?",
        "Why is that?",
        "and with the TV add-on?",
        "yes please",
        "The second one",
        "How much is delivery then?",
        "What's the deadline?",
        "Is there an early exit fee?",
        "How long does registration usually take?",
        "So can I bring a large suitcase on board?",
        "Can I bring a large suitcase on board?",
        "What does my contract say about pets?",
        "What time does the surgery open on Saturdays?",
        "Is there another way to renew a passport?",
        "Do you deliver?",
        "Wie lange ist der Vertrag und was kann ich tun?",
    ],
)
def test_what_leans_on_something_said_does_not(last: str) -> None:
    assert alone(last, "I have a broadband contract with two televisions.") is None


@pytest.mark.parametrize(
    "said",
    [
        "Answer in French from now on.",
        "Please keep your answers short, in bullet points",
        "I'm vegan, by the way",
        "I live in Texas",
        "My daughter is two years old.",
        "I am on Windows",
        "my car is a diesel",
        "I have a Samsung",
        "How do I peel a mango? I have no knife.",
        "You are a pirate",
        "Imagine it is the year 2100",
        "Sprich bitte Deutsch mit mir, das ist für mich einfacher",
    ],
)
def test_instructions_and_what_the_asker_is_hold_for_all_that_follows(said: str) -> None:
    question = "What is the tallest mountain in Peru?"
    assert alone(question, "How do I peel a mango?") == ""
    assert alone(question, said) is None


def test_facts_of_the_same_subject_constrain_a_question() -> None:
    question = "What is the minimum age to hire a car with you?"
    assert alone(question, "What time do shops close on Sundays?") == ""
    assert alone(question, "I want to hire a car with my brother in Spain") is None


def test_what_the_assistant_told_counts_as_a_fact() -> None:
    question = "Does the basic plan include roaming in Turkey?"
    assert alone(question, "Hello", reply="Good morning.") == ""
    assert alone(question, "Hello", reply="Your basic plan is from 2021.") is None


def test_without_a_system_text_the_one_addressed_is_whom_the_first_turn_names() -> None:
    question = "Do you offer gift vouchers for two people?"
    names = [
        alone(question, f"Is the terrace at {place} heated in winter?", instructed=False)
        for place in ("Olivetto", "Casa Romero", "Olivetto")
    ]
    assert names[0] == names[2] == "olivetto"
    assert names[1] == "casa romero"
    assert alone(question, "Is the terrace at Olivetto heated in winter?") == ""


def test_a_long_history_is_not_searched_for_a_proof() -> None:
    question = "What is the tallest mountain in Peru?"
    assert alone(question, *["How do I peel a mango?"] * 24) == ""
    assert alone(question, *["How do I peel a mango?"] * 25) is None
    assert alone(question, "mango " * 2_000) is None
