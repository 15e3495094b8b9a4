"""What a thesaurus, a stemmer or a case-folding cache would serve for each other, and must not."""

import pytest

from index.eligibility import ineligible
from index.guard import read, veto

DIFFERENT = [
    ("Can HIV be cured?", "Can HIV be treated?"),
    ("Who invented the web?", "Who invented the internet?"),
    ("Is marijuana a drug?", "Is marijuana a medicine?"),
    ("Is gas heavier than air?", "Is petrol heavier than air?"),
    ("How does memory work?", "How does RAM work?"),
    ("What is the minimum wage in Germany?", "What is the minimum salary in Germany?"),
    ("How does a bill become a law?", "How does an invoice become a law?"),
    ("Which countries are in Great Britain?", "Which countries are in the United Kingdom?"),
    ("What is accounting?", "What is an account?"),
    ("What is mechanical engineering?", "What is a mechanical engineer?"),
    ("Where is parking?", "Where is the park?"),
    ("How do I clean my glass?", "How do I clean my glasses?"),
    ("How do I find a company?", "How do I found a company?"),
    ("What is The Matrix?", "What is a matrix?"),
    ("What is Slack?", "What is slack?"),
    ("Who is Prince?", "Who is a prince?"),
    ("Who made Titanic?", "Who made the Titanic?"),
    ("How do I create a team?", "How do I create Teams?"),
    ("How do I search a car?", "How do I search for a car?"),
    ("How do I report a doctor?", "How do I report to a doctor?"),
    ("How do I run a program in Docker?", "How do I run a program with Docker?"),
    ("What rhymes with big?", "What rhymes with large?"),
    ("How many letters are in car?", "How many letters are in automobile?"),
    ("What is the past tense of begin?", "What is the past tense of start?"),
    ("Who created you?", "Who created this?"),
    ("Are you free?", "Is it free?"),
    ("How long should I sleep?", "How long does it take to sleep?"),
    ("Do I have diabetes?", "Do we have diabetes?"),
    ("How much do I weigh?", "How much do we weigh?"),
    ("Is the store open on Sunday?", "Is the shop open on Sunday?"),
    ("How old is Joe Biden?", "What is the age of Joe Biden?"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_only_sounds_alike_is_not_served(one: str, other: str) -> None:
    assert ineligible(one) or ineligible(other) or veto(read(one), read(other))
    assert ineligible(one) or ineligible(other) or veto(read(other), read(one))
