"""What the guard knows of English words: is this one, what is it a form of, what else says it.

From WordNet (see `scripts/build_english.py`). Membership is kept as sorted 32-bit checksums,
so that eighty thousand words cost 330 kB and not ten megabytes. A false "known" happens once
in fifty thousand made-up words, and then merely forbids to read the word as a misspelling.
"""

import gzip
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from zlib import crc32

_NOUN_ENDINGS = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
    ("ies", "y"), ("men", "man"),
)  # fmt: skip
_VERB_ENDINGS = (
    ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""),
)  # fmt: skip
"""Not -ing: pooling is not a pool, nor hacking a hack."""

_STEM_LETTERS_MIN = 3
_SINGULAR = frozenset(("https", "maths", "physics", "news", "does"))
_SPELLINGS = (("our", "or"), ("ise", "ize"), ("isation", "ization"), ("yse", "yze"), ("tre", "ter"))
_PLURALS = frozenset(
    ("bacteria", "criteria", "phenomena", "fungi", "cacti", "analyses", "crises", "theses",
     "diagnoses", "vertebrae", "larvae", "alumni", "indices", "appendices", "hypotheses", "nuclei",
     "stimuli", "matrices")
)  # fmt: skip
"""Listed as words, and nothing but the plural of another."""
_NOT_PLURAL = ("ss", "us", "is", "as", "os")


class _Words:
    """A set of words as sorted checksums."""

    __slots__ = ("_sums",)

    def __init__(self, words: Iterable[str]) -> None:
        self._sums = array("I", sorted(crc32(word.encode()) for word in words))

    def __contains__(self, word: str) -> bool:
        wanted = crc32(word.encode())
        at = bisect_left(self._sums, wanted)
        return at < len(self._sums) and self._sums[at] == wanted


def _sections() -> dict[str, list[str]]:
    text = gzip.decompress((files("index") / "english.txt.gz").read_bytes()).decode()
    found: dict[str, list[str]] = {}
    for part in text.removeprefix("# ").split("\n# "):
        name, *rows = part.splitlines()
        found[name] = rows
    return found


def _both_ways(rows: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Tuples, since most have one word or two, and a set takes five times the memory."""
    related: dict[str, tuple[str, ...]] = {}
    for row in rows:
        one, other = map(sys.intern, row.split())
        related[one] = (*related.get(one, ()), other)
        related[other] = (*related.get(other, ()), one)
    return related


_loaded = _sections()
_NOUNS = _Words(_loaded["nouns"])
_VERBS = _Words(_loaded["verbs"])
_OTHERS = _Words(_loaded["others"])
_COMMON = _Words(_loaded["common"])
_IRREGULAR = {form: tuple(bases) for form, *bases in map(str.split, _loaded["irregular"])}
del _IRREGULAR["broke"]  # to be broke is not to be broken
_NAMES = _Words(_loaded["names"])
_KIN = _both_ways(_loaded["kin"])
_ANTONYMS = _both_ways(_loaded["antonyms"])
del _loaded


@lru_cache(maxsize=8192)
def forms(word: str) -> frozenset[str]:
    """The word and what it may be an inflection of: {"lives", "life", "live"}.

    Inflection only. A stemmer is not used: it makes one of *universe* and *university*, of
    *policy* and *police*; and comparison stays, since *oldest* is not *old*.
    """
    if word in _SINGULAR or _stands_alone(word):
        return frozenset((word,))
    found = {word, *_IRREGULAR.get(word, ())}
    for endings, words in ((_NOUN_ENDINGS, _NOUNS), (_VERB_ENDINGS, _VERBS)):
        for ending, replacement in endings:
            if word.endswith(ending) and len(word) - len(ending) >= _STEM_LETTERS_MIN:
                base = word[: len(word) - len(ending)] + replacement
                if base in words:
                    found.add(base)
    for british, american in _SPELLINGS:
        found |= {form.replace(british, american) for form in found if british in form}
    unknown = len(found) == 1 and not _listed(word)
    if unknown and word.endswith("s") and not word.endswith(_NOT_PLURAL) and len(word) > 3:
        found.add(word[:-1])  # iphones, repos
    return frozenset(found)


def _stands_alone(word: str) -> bool:
    """A form that the dictionary lists as a word is one: banking, found, saw, rating.

    It lists values and cards too; of plurals only those stand alone that mean something else.
    """
    if word.endswith("s"):
        return word in _PLURALIA
    return (
        word not in _PLURALS
        and (word in _NOUNS or word in _VERBS)
        and (word in _IRREGULAR or word.endswith(("ing", "ed", "er")))
    )


_PLURALIA = frozenset(
    ("glasses", "arms", "cards", "damages", "irons", "airs", "forces", "pandas", "goods",
     "customs", "manners", "spirits", "woods", "brains", "looks", "works", "means", "scales",
     "shorts", "savings", "clothes", "jeans", "pants", "trousers", "thanks", "odds", "waters",
     "grounds", "hearts", "darts", "draughts", "greens", "pains", "peoples", "quarters",
     "remains", "contents", "regards", "windows", "words", "aids", "securities", "humanities",
     "classics", "honours", "honors", "premises", "provisions", "ruins", "scissors", "terms",
     "troops", "valuables", "wits", "earnings", "surroundings", "belongings", "proceedings",
     "briefs", "arts", "corps", "species", "series", "slacks", "tights", "spades", "clubs",
     "diamonds", "checkers", "economics", "politics", "ethics", "statistics", "athletics",
     "gymnastics", "mechanics", "analytics", "graphics")
)  # fmt: skip
"""Plurals that mean something else than many of one."""


def _listed(word: str) -> bool:
    return word in _NOUNS or word in _VERBS or word in _OTHERS


@lru_cache(maxsize=8192)
def known(word: str) -> bool:
    """Whether the word, or something it is a form of, is in the dictionary."""
    return word in _PLURALIA or any(map(_listed, forms(word)))


@lru_cache(maxsize=8192)
def common(word: str) -> bool:
    """Whether the word is met in ordinary prose, so that its misspellings are to be expected."""
    return any(form in _COMMON for form in forms(word))


@lru_cache(maxsize=8192)
def ambiguous(word: str) -> bool:
    """Whether a capital tells two words apart: Turkey and turkey, but not Paris nor iPhone."""
    return word in _PLURALIA or any(_listed(f) and f not in _NAMES for f in forms(word))


def gerund_of(word: str) -> str | None:
    """The verb that *writing*, *closing*, *running* are the gerunds of."""
    stem = word.removesuffix("ing")
    if stem == word or len(stem) < 2:
        return None
    bases = (stem, stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem)
    doubled = stem[-1:] == stem[-2:-1] and stem[-1:] not in "lsz"
    for base in (bases[2], *bases[:2]) if doubled else (bases[1], bases[0], bases[2]):
        if base in _VERBS:
            return base
    return None


def base_of(word: str) -> str | None:
    """The verb that the word is a form of."""
    return next((form for form in sorted(forms(word), key=len) if form in _VERBS), None)


def kin(one: str, other: str) -> bool:
    """Whether the two mostly mean the same, or one names the act of the other. Never a proof."""
    return not _relatives(one).isdisjoint(forms(other))


@lru_cache(maxsize=8192)
def _relatives(word: str) -> frozenset[str]:
    return frozenset(found for form in forms(word) for found in _KIN.get(form, ()))


def noun(word: str) -> bool:
    """Whether the word is a noun or one of its forms."""
    return any(form in _NOUNS for form in forms(word))


def verb(word: str) -> bool:
    """Whether the word is a verb or one of its forms."""
    return any(form in _VERBS for form in forms(word))


def participle(word: str) -> bool:
    """Whether the word may be a past participle: *painted*, *beaten*; *cut* is not told apart."""
    irregular = word in _IRREGULAR and not word.endswith(("s", "ing"))
    return (irregular or word.endswith("ed")) and any(
        f != word and f in _VERBS for f in forms(word)
    )


def opposite(one: str, other: str) -> bool:
    """Whether the dictionary calls the two antonyms; used to name a veto, never to decide it."""
    return not _antonyms(one).isdisjoint(forms(other))


@lru_cache(maxsize=8192)
def _antonyms(word: str) -> frozenset[str]:
    return frozenset(found for form in forms(word) for found in _ANTONYMS.get(form, ()))
