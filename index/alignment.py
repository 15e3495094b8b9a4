"""Which words of two texts say the same: one word, forms of one, synonyms, or a slip of the pen."""

from typing import Final

from index import english
from index.words import Token

_SPELLING_LETTERS_MIN: Final = 5
_RARE_LETTERS_MIN: Final = 7
_ALIKE_LETTERS_MIN: Final = 4
_LONG_LETTERS_MIN: Final = 10
UNMATCHED_MAX: Final = 8
"""More words than these are not looked up among the synonyms: the texts are about other things."""

Pairs = list[tuple[int, int]]


def aligned(one: tuple[Token, ...], other: tuple[Token, ...], *, strict: bool) -> tuple[Pairs, int]:
    """Pairs of places that say the same: the same word first, then a form, then a synonym.

    If `strict`, the same word only.
    """
    pairs: Pairs = []
    places: dict[str, list[int]] = {}
    for j, token in enumerate(other):
        for form in token.forms:
            places.setdefault(form, []).append(j)
    none = len(other)
    free = dict.fromkeys(range(none))
    rest: list[int] = []
    for i, token in enumerate(one):
        found = none
        for form in token.forms:
            for j in places.get(form, ()):
                if j < found and j in free and _same_form(token, other[j], strict=strict):
                    found = j
        if found == none:
            rest.append(i)
        else:
            pairs.append((i, found))
            del free[found]
    related = 0
    few = max(len(rest), len(free)) <= UNMATCHED_MAX and not strict
    for i in rest if few else ():
        for j in free:
            if _related(one[i], other[j]):
                pairs.append((i, j))
                del free[j]
                related += 1
                break
    pairs.sort()
    return pairs, related


def _same_form(one: Token, other: Token, *, strict: bool) -> bool:
    """Of two words that may be forms of one. If `strict`, whether they are the same word."""
    if one.word == other.word:
        return True
    if strict:
        return False
    boring = {one.word[-3:], other.word[-3:]}  # what bores is not what is bored
    return not ("ing" in boring and any(end.endswith("ed") for end in boring))


def _related(one: Token, other: Token) -> bool:
    if not one.related.isdisjoint(other.forms) or not other.related.isdisjoint(one.forms):
        return True
    if not one.kind == other.kind == "word" or english.known(one.word) == english.known(other.word):
        return False
    return _misspelt(one, other) if english.known(other.word) else _misspelt(other, one)


def _misspelt(slip: Token, right: Token) -> bool:
    """One is no English word and one slip of the pen from the other, which is one.

    Two unknown words are two names (sertraline, setraline), and close to a rare word there are
    others that no dictionary has (ketamine, ketimine): so for a rare word the slip has to be of a
    kind that makes no other word: letters left out, doubled or swapped, or a vowel for a vowel.
    """
    a, b = slip.word, right.word
    if a[-1:] == "r" and b[-2:] == "er" and a[-2:-1] not in _VOWELS:  # flickr is not flicker
        return False
    shorter = min(len(a), len(b))
    if shorter < _SPELLING_LETTERS_MIN or a[0] != b[0] or abs(len(a) - len(b)) > 1:
        return False
    a, b = _difference(a, b)
    swapped = a == b[::-1] and len(a) == 2
    if slip.known:  # written as a name
        return swapped and len(slip.word) >= _RARE_LETTERS_MIN
    if english.common(right.word):
        return swapped or (len(a) <= 1 and len(b) <= 1)
    if shorter < _RARE_LETTERS_MIN:
        return False
    long = len(slip.word) >= _LONG_LETTERS_MIN
    vowels = len(a) == len(b) == 1 and a in _VOWELS and b in _VOWELS
    return swapped or (not a and len(b) == 1) or (long and vowels)


def _difference(a: str, b: str) -> tuple[str, str]:
    """What is left of two words without their common start and end."""
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return a, b


def alike(one: Token, other: Token) -> bool:
    """Two words of the dictionary that are one slip of the pen apart: angle, angel."""
    if (
        min(len(one.word), len(other.word)) < _ALIKE_LETTERS_MIN
        or not one.kind == other.kind == "word"
    ):
        return False
    a, b = _difference(one.word, other.word)
    if {a, b} == {"", "s"}:  # a number, mostly
        return False
    return (len(a) <= 1 and len(b) <= 1) or (a == b[::-1] and len(a) == 2)


_VOWELS: Final = "aeiou"


def kin(left: list[Token], right: list[Token]) -> int:
    """How many of the unmatched are synonyms to a dictionary: evidence only, as cure and treat."""
    if max(len(left), len(right)) > UNMATCHED_MAX:
        return 0
    free = list(right)
    for one in left:
        for other in free:
            if english.kin(one.word, other.word):
                free.remove(other)
                break
    return len(right) - len(free)
