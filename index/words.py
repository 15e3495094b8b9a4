"""What the guard knows of a text, as values: its words in their places, and what the rest says."""

from dataclasses import dataclass
from typing import NamedTuple


class Token(NamedTuple):
    """A content word, a number or a symbol, and its place in the sentence."""

    word: str
    kind: str
    """word, number, date, unit, ordinal, negation, quantifier, comparator, modal, quoted or
    symbol."""
    forms: frozenset[str]
    related: frozenset[str]
    role: str
    """The preposition its phrase hangs on; "" for none."""
    phrase: int
    """Which prepositional phrase of the text it is in, counted from 1; 0 for none."""
    leads: bool
    """Directly before another content word, or an owner: it may be that word's modifier."""
    known: bool
    """A dictionary word or a name, as opposed to what may be a slip of the pen."""
    name: bool
    """A name, as far as a capital, the dictionary, or the lack of it tell."""
    facet: bool
    """Says only what kind of answer is awaited (which *city*), so the other text may lack it."""
    passive: bool
    """A participle after a form of *be*: what stands before it suffers the act."""
    article: str
    """What stands directly before: a, the, own for an owner or a pointer, "" for none of these."""
    extended: bool = False
    """Directly before a preposition, which tells which one is meant: *symptoms of* flu."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What `veto` compares. Immutable and cheap to keep beside a cached question."""

    plain: str
    kind: str
    """how, what, who, whom, when, where, why, howmany, yesno, explain or bare (no question)."""
    tense: str
    subject: int
    """Grammatical person of the first pronoun: 1, 2, or 0 for none."""
    owners: frozenset[str]
    """Possessives: the asker's (my) and the reader's (your)."""
    persons: tuple[str, ...]
    """Every pronoun, owner and pointer, in alphabetical order; a *you* that acts is a *you do*."""
    helpers: tuple[str, ...]
    """Every be, do and have, as one of these, in alphabetical order."""
    tokens: tuple[Token, ...]
    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    """And times, as `quantities` writes them."""
    capitals: frozenset[str]
    """Words that a capital inside the sentence makes names of: the Matrix is no matrix."""
    lowers: frozenset[str]
    """The words written small, and what they may be forms of."""
    definite: frozenset[str]
    """Names after *the*: the Titanic is a ship, Titanic a film."""
    links: frozenset[str]
    """Prepositions. Which word they belong to is guessed; that they are there is certain."""
    addressed: bool
    """Whether it is about the one who is asked: are *you* free, who made *you*."""
    mention: bool
    """Whether it asks about words, so that none may stand for another."""
    signs: frozenset[tuple[str, str]]
    """Where case or a lone sign is the meaning, small and as written: mW and MW, CO and Co, `!`."""
    foreign: bool = False
    """Not English: then `plain` is the text but for case and punctuation, and there is no more."""
