"""Which roles words have to one another: who acts on whom, what belongs to what, in which order.

*From* A is not *to* A, and *Germany beat Brazil* is not *Brazil beat Germany*; but *Peru's capital*
is *the capital of Peru*.
"""

from itertools import pairwise
from typing import Final

from index import english, lexicon
from index.alignment import Pairs
from index.words import Reading, Token

_WORDS_TO_MOVE_MAX: Final = 12
_NEUTRAL_LINKS: Final = frozenset(("of", "in"))


def linked_alike(one: Reading, other: Reading, pairs: Pairs) -> bool:
    """A preposition that one side lacks must be a neutral one: report *to* a doctor, a doctor.

    Or its phrase stands as a modifier in the other: a password *for* guests, a guest password.
    """
    leading = set(_NEUTRAL_LINKS)
    for i, j in pairs:
        a, b = one.tokens[i], other.tokens[j]
        leading |= {_role(late) for late, early in ((a, b), (b, a)) if _attributive(late, early)}
    return (one.links ^ other.links) <= leading


def hung_alike(one: tuple[Token, ...], other: tuple[Token, ...], pairs: Pairs) -> bool:
    """*From* A is not *to* A, *by* A is not *about* A; neutral prepositions may be exchanged."""
    for i, j in pairs:
        a, b = _role(one[i]), _role(other[j])
        if a == b:
            continue
        like = frozenset((a, b)) in lexicon.LIKE_ROLES
        if "of" in (a, b) and (_is_named(one, i) or _is_named(other, j)):
            return False
        if {a, b} == {"of", "for"} and (_made(one, i) or _made(other, j)):
            like = False
        if not (like or _attributive(one[i], other[j]) or _attributive(other[j], one[i])):
            return False
    return True


def _is_named(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether the name at this place leads a name: *York* University is not the one of York."""
    if not (tokens[at].leads and tokens[at].name and at + 1 < len(tokens)):
        return False
    return tokens[at + 1].name or tokens[at + 1].word in lexicon.INSTITUTIONS


def _made(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether the phrase at this place hangs on a participle: made *of*, made *for*."""
    before = [token for token in tokens[:at] if token.phrase != tokens[at].phrase]
    return bool(before) and english.participle(before[-1].word)


def _attributive(late: Token, early: Token) -> bool:
    """From a list *in Python*, from a *Python* list: it keeps its head's role where it leads."""
    return early.leads and _role(late) in ("in", "of", "for") and _modifies(late)


def _modifies(late: Token) -> bool:
    """Whether the phrase's word can only be a modifier where it leads.

    *Water plants* may be an act, and a *light year* is no year of light.
    """
    sure = late.name or late.article in ("the", "own") or not english.verb(late.word)
    return sure or _role(late) == "for"


def _role(token: Token) -> str:
    return lexicon.PREPOSITIONS.get(token.role, token.role)


def moved(pairs: Pairs) -> bool:
    return any(b[1] < a[1] for a, b in pairwise(pairs))


def movable(one: tuple[Token, ...], other: tuple[Token, ...], pairs: Pairs) -> bool:
    """Whether the order differs by one phrase only, moved past its neighbours as a whole.

    *On the menu, what is vegan* and *what is vegan on the menu*; *Peru's capital* and *the capital
    of Peru*; *a list in Python* and *a Python list*. In one text the phrase hangs on a preposition;
    in the other it hangs on the same one, or stands as a modifier before what it modifies. Anything
    else, as *Germany beat Brazil*, or two phrases that trade their nouns, is a change of role. In a
    long text it is uncertain what a phrase belongs to, so nothing moves there.
    """
    if len(pairs) > _WORDS_TO_MOVE_MAX:
        return False
    swapped = _swapped_blocks([j for _, j in pairs])
    if swapped is None:
        return False
    start, middle, end = swapped
    left = [(one[i], other[j]) for i, j in pairs[start:middle]]
    right = [(one[i], other[j]) for i, j in pairs[middle:end]]
    if all(a.role and a.role == b.role for a, b in zip(left[0], right[0], strict=True)):
        return False
    back = [(b, a) for a, b in left]
    # `left` comes first in `one`, `right` comes first in `other`.
    return _moves(right, one, other) or _moves(back, other, one)


def _swapped_blocks(order: list[int]) -> tuple[int, int, int] | None:
    """Where `order` is sorted but for two adjacent runs that changed places; None if it is not."""
    ranks = {place: rank for rank, place in enumerate(sorted(order))}
    found = [ranks[place] for place in order]
    start = next(at for at, rank in enumerate(found) if at != rank)
    middle = found.index(start)
    end = middle + found[start] - start
    wanted = [*range(start), *found[middle:end], *found[start:middle], *range(end, len(found))]
    moved = sorted(found[start:end]) == found[middle:end] + found[start:middle]
    return (start, middle, end) if wanted == list(range(len(found))) and moved else None


def _moves(
    block: list[tuple[Token, Token]], late: tuple[Token, ...], early: tuple[Token, ...]
) -> bool:
    """Whether the block, later in one text and earlier in the other, is one phrase in both."""
    here = [token for token, _ in block]
    there = [token for _, token in block]
    if _is_phrase(here, late):
        modifies = all(token.leads for token in there) and _modifies(here[-1])
        return modifies or (_is_phrase(there, early) and here[0].role == there[0].role)
    return False


def _is_phrase(block: list[Token], text: tuple[Token, ...]) -> bool:
    """Whether the block is a whole prepositional phrase."""
    phrase = block[0].phrase
    inside = [token for token in text if token.phrase == phrase]
    return phrase != 0 and len(inside) == len(block) and all(t.phrase == phrase for t in block)
