"""What is packed of a reading brings back the same reading, or none."""

import ast
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.reading import RULES, packed, read, recall

TEXTS = (
    "How do I center a div in CSS?",
    "Was Germany beaten by Brazil 7-1 on July 8, 2014?",
    'What does "to table" mean, and is 5 mW more than 3 MW?',
    "Wie hoch ist der Eiffelturm?",
    "",
)


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    read.cache_clear()


@pytest.mark.parametrize("text", TEXTS)
def test_a_reading_comes_back_as_it_was(text: str) -> None:
    kept = packed(text)
    made = read(text)
    read.cache_clear()
    assert recall(text, kept)
    assert read(text) == made
    assert read(text) is not made
    assert len(kept) < 200 + 20 * len(text)


@given(st.text())
def test_so_does_that_of_any_text(text: str) -> None:
    made, kept = read(text), packed(text)
    read.cache_clear()
    recall(text, kept)
    assert read(text) == made


def test_what_is_damaged_or_of_another_text_is_read_anew() -> None:
    kept = packed("Is it safe?")
    made = read("Is it safe?")
    for at in range(len(kept)):
        read.cache_clear()
        assert not recall("Is it safe?", kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        assert read.cache_info().currsize == 0
    for other in (b"", kept[:-1], packed("Is it not safe?")):
        read.cache_clear()
        assert not recall("Is it safe?", other)
        assert read.cache_info().currsize == 0
    assert read("Is it safe?") == made


def test_what_is_known_is_not_replaced() -> None:
    kept, known = packed("Is it safe?"), read("Is it safe?")
    recall("Is it safe?", kept)
    assert read("Is it safe?") is known
    read.cache_clear()
    assert read("Is it safe?") is not known


def test_the_fingerprint_knows_all_that_a_reading_depends_on() -> None:
    needed, found = ["reading"], set[str]()
    while needed:
        module = needed.pop()
        found.add(f"{module}.py")
        source = (files("index") / f"{module}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "index":
                whole = node.module == "index"
                names = [one.name for one in node.names] if whole else [str(node.module)[6:]]
                needed += [name for name in names if f"{name}.py" not in found]
    assert found == {name for name in RULES if name.endswith(".py")}
