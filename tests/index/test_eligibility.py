"""What may be matched by meaning, and the reason when not."""

import pytest

from index.eligibility import (
    CHARACTERS_MAX,
    PromptClass,
    check_overrides,
    classify,
    ineligible,
    reasons,
)

ELIGIBLE = """
What is the capital of Peru?
How do I cancel my subscription?
I want to cancel my subscription, how?
How do I change the email address on my account?
How do I open a current account?
How do I check my credit score?
What is a haiku?
How do I write a cover letter?
What is the recommended daily intake of iron?
Write a SQL query to find duplicate rows
Python: sort dict by its values
How does a random forest work?
Can I pay by card?
Why is my boiler making a noise?
What vaccines does my puppy need?
Explain what inflation is like I'm 5
What is the difference between a café and a bar?
What happened on July 14, 1789?
Is 1,000,000 a lot?
How do I trim a string in C#?
Give me a pancake recipe
um so how do I roll back to an earlier deployment
what is the tallest mountain in the uk
I'm 34, can I rent a car?
Do you accept Apple Pay?
My toilet keeps running after I flush, can you fix it?
Is it safe to swim after eating?
Who should I contact about a problem with my pay?
Am I entitled to a refund if my flight is late?
What is the price of a day ticket to the zoo?
Who won the World Cup in 2010?
What does photosynthesis mean?
""".strip().splitlines()

REASONS = """
time-bound | What's the weather like in Berlin in May?
time-bound | What time is it in Tokyo now?
time-bound | Who is the president of France?
time-bound | What is the latest version of Node?
time-bound | What is the price of gold?
time-bound | What happened this year?
time-bound | When is the next train to Bristol?
creative | Write a haiku about autumn
creative | Tell me a joke
chance | Tell me another joke
chance | Surprise me
chance | Roll the dice, please
creative | Recommend a good book about world war two
creative | What's a good WWII book to read?
creative | Give me 5 ideas for a birthday party
chance | Generate a random number
creative | Could you please write a poem for my mum?
translation | Translate 'good morning' into French
translation | How do you say good morning in French?
supplied-text | Summarize the following text for me
supplied-text | Fix the grammar of this sentence
code | Why does `x = [i for i in y]; print(x)` fail?
code | What does foo(bar) return?
code | Explain ```SELECT 1``` to me
maths | What is 10% of 250?
maths | What is 12 * 17?
maths | What is seven plus eight?
maths | Solve x^2 = 4
personal | What is my balance?
personal | Where is my order?
personal | My name is Ada, what does it mean?
personal | Remind me to call mum
personal | Cancel my subscription
secret | Is ada@example.com a valid address?
secret | Is 4111 1111 1111 1111 a valid card?
secret | My password is hunter2, is it good?
secret | Does sk-abcdefgh12345678 look right?
secret | Who calls from +44 20 7946 0958?
identifier | Track order 48213
identifier | What is in /etc/nginx/nginx.conf?
identifier | Explain https://example.com/faq to me
identifier | Fix ticket ABC-1234
identifier | What is #4521 about?
identifier | Who is 550e8400-e29b-41d4-a716-446655440000?
identifier | Is 192.168.0.1 private?
context | and the second one?
context | what about it?
context | Continue please
context | Explain that in more detail
context | Why is that?
context | Can I return it after 14 days?
context | Are they open source?
no-words | ???
no-words | 42
too-short | Python
""".strip().splitlines()


@pytest.mark.parametrize("text", ELIGIBLE)
def test_general_questions_may_be_matched_by_meaning(text: str) -> None:
    assert ineligible(text) is None


@pytest.mark.parametrize("row", REASONS)
def test_texts_that_depend_on_more_than_their_words_may_not(row: str) -> None:
    reason, text = row.split(" | ", 1)
    assert ineligible(text) == reason


FOREIGN = """
法国的首都是哪里
Какая столица Франции?
How do I say 你好?
¿Cuál es la capital de Francia?
Wie ist das Wetter und was kann ich tun
Viết một bài hát như bông cỏ
""".strip().splitlines()


@pytest.mark.parametrize("text", FOREIGN)
def test_a_language_without_a_lexicon_is_told_and_not_barred(text: str) -> None:
    assert "language" in reasons(text)
    assert ineligible(text) is None


@pytest.mark.parametrize(
    ("text", "reason", "cls"),
    [
        ("Is ada@example.com a valid address?", "secret", PromptClass.BYPASS),
        ("Pick a random number", "chance", PromptClass.BYPASS),
        ("What happened yesterday?", "time-bound", PromptClass.EXACT_ONLY),
        ("Translate the news of today into French", "time-bound", PromptClass.EXACT_ONLY),
        ("and the second one?", "context", PromptClass.THREAD_SCOPED),
        ("Is $500 a lot for a bicycle?", "amount", PromptClass.SEMANTIC),
        ("What is the capital of Peru?", "", PromptClass.SEMANTIC),
    ],
)
def test_of_several_reasons_the_strictest_counts(text: str, reason: str, cls: PromptClass) -> None:
    assert classify(reasons(text), {}) == (cls, reason)


def test_an_operator_may_lift_a_reason_or_add_one() -> None:
    lifted = check_overrides({"personal": "semantic", "amount": "exact-only"})
    assert classify(reasons("What is my balance?"), lifted)[0] == PromptClass.SEMANTIC
    assert classify(reasons("Is $5 a lot?"), lifted) == (PromptClass.EXACT_ONLY, "amount")
    both = reasons("What was my balance yesterday?")
    assert classify(both, lifted) == (PromptClass.EXACT_ONLY, "time-bound")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"persona": "semantic"}, "no such reason"),
        ({"personal": "sematic"}, "no such class"),
        ({"invisible": "semantic"}, "does not see"),
        ({"unknown-token": "semantic"}, "does not see"),
        ({"too-long": "thread-scoped"}, "does not see"),
    ],
)
def test_what_an_operator_cannot_mean_is_said(overrides: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_overrides(overrides)


@pytest.mark.parametrize(
    "character",
    ["\u200b", "\u200d", "\u2060", "\ufeff", "\u202e", "\u2066", "\u00ad", "\x00", "\x1b", "\x7f",
     "\ue000", "\U000e0041", "\ufe0f", "\u3164", "\u2028"],
)  # fmt: skip
def test_what_a_reader_does_not_see_bars_the_text(character: str) -> None:
    assert ineligible(f"What is the capi{character}tal of Peru?") == "invisible"


def test_a_text_of_several_lines_is_carried_along() -> None:
    assert ineligible("Who wrote this?\none fish\ntwo fish\nred fish") == "supplied-text"


def test_line_ends_and_tabs_are_ordinary() -> None:
    assert ineligible("What is the\tcapital of Peru?\n") is None


def test_length_is_bounded_before_anything_else_is_looked_at() -> None:
    text = "What is the capital of Peru? " * 40
    assert ineligible(text[:CHARACTERS_MAX]) is None
    assert ineligible(text[: CHARACTERS_MAX + 1]) == "too-long"
    assert ineligible("法" * 1_000_000) == "too-long"
