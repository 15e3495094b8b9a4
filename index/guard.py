"""What no similarity excuses: two prompts that differ in a number, a name, a not, an order.

Cosine cannot see these: *is it safe* and *is it not safe* are at 0.995, real paraphrases between
0.87 and 0.99. So the guard does not weigh, it refuses. Its principle is the reverse of a list of
known traps: **every content word has to be accounted for by the other text**, as the same word, an
inflection, a spelling or a listed synonym, and in a compatible role and order. What is left over on
either side is a reason to miss; the lists of the language only give the reason its name.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from index import english, lexicon
from index.reading import Reading, Token, read

__all__ = ["Evidence", "Reading", "compare", "read", "veto"]

_SAME_KIND: Final = frozenset(
    frozenset(pair)
    for pair in (
        ("bare", "how"), ("bare", "what"), ("bare", "explain"), ("what", "explain"),
        ("bare", "howis"), ("howis", "explain"), ("bare", "howmany"),
    )
)  # fmt: skip
_SPELLING_LETTERS_MIN: Final = 5
_WORDS_TO_MOVE_MAX: Final = 12
_UNMATCHED_MAX: Final = 8
"""More words than these are not looked up among the synonyms: the texts are about other things."""

_NAMES: Final = {
    "comparator": "comparator",
    "modal": "modality",
    "symbol": "symbol",
    "quoted": "quoted",
}

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """How two readings agree, counted whatever the verdict."""

    veto: str | None
    matched: int = 0
    """Content words that both sides have."""
    left: int = 0
    """Content words of the one asked that nothing answers to."""
    right: int = 0
    """Content words of the cached one that nothing answers to."""
    related: int = 0
    """Words matched through a synonym or a presumed misspelling."""
    extra: int = 0
    """Optional words that only one side has."""
    moved: bool = False
    """Whether a phrase stands elsewhere."""
    rephrased: bool = False
    """Whether the kind of question differs, in a way that asks the same."""


def veto(asked: Reading, cached: Reading) -> str | None:
    """Why the answer to `cached` may not be served for `asked`; None when nothing forbids it.

    Symmetric. The names: wording for a language without a lexicon, where nothing but case and
    punctuation may differ; number, unit (also month, weekday), negation, quantifier, antonym,
    comparator, modality, symbol, quoted, entity, content, detail for words that nothing answers
    to; question, tense, person, voice, role, order for words that agree and mean another thing.
    """
    return compare(asked, cached).veto


def compare(asked: Reading, cached: Reading) -> Evidence:
    """The veto, and how well the two agree; swapping the texts swaps left and right only."""
    if asked.foreign or cached.foreign:
        alike = asked.foreign and cached.foreign and asked.plain == cached.plain
        return Evidence(None, asked.plain.count(" ") + 1) if alike else Evidence("wording")
    if asked.plain == cached.plain and asked.capitals == cached.capitals:
        return Evidence(None, len(asked.tokens))
    if asked.plain > cached.plain:  # words are aligned greedily: always from the same side
        found = _compared(cached, asked)
        return replace(found, left=found.right, right=found.left)
    return _compared(asked, cached)


def _compared(one: Reading, other: Reading) -> Evidence:
    pairs, related = _aligned(one.tokens, other.tokens)
    left = _unmatched(one.tokens, {i for i, _ in pairs})
    right = _unmatched(other.tokens, {j for _, j in pairs})
    extra = _extra(left, right)
    moved = _is_moved(pairs)
    return Evidence(
        _verdict(one, other, pairs, left, right),
        matched=len(pairs),
        left=len(left),
        right=len(right),
        related=related,
        extra=extra or 0,
        moved=moved,
        rephrased=one.kind != other.kind,
    )


def _verdict(
    one: Reading, other: Reading, pairs: Pairs, left: list[Token], right: list[Token]
) -> str | None:
    if one.numbers != other.numbers:
        return "number"
    reason = (
        (None if _extra(left, right) is not None else _name(left, right))
        or _frame(one, other)
        or _roles(one.tokens, other.tokens, pairs)
        or _voice(one, other, pairs)
    )
    if reason:
        return reason
    if not pairs:
        return "content"
    if _is_moved(pairs) and not _movable(one.tokens, other.tokens, pairs):
        return "order"
    return None


def _frame(asked: Reading, cached: Reading) -> str | None:
    """What the function words say: kind of question, tense, person, case."""
    if asked.kind != cached.kind and not _asks_alike(asked, cached):
        return "question"
    if asked.tense and cached.tense and asked.tense != cached.tense:
        return "tense"
    if asked.subject and cached.subject and asked.subject != cached.subject:
        return "person"
    if asked.owners and cached.owners and asked.owners != cached.owners:
        return "person"
    if not asked.capitals.isdisjoint(cached.lowers) or not cached.capitals.isdisjoint(asked.lowers):
        return "entity"
    named_by_both = asked.capitals & cached.capitals
    if (asked.definite ^ cached.definite) & named_by_both:
        return "entity"
    return None if _linked_alike(asked, cached) else "role"


def _linked_alike(asked: Reading, cached: Reading) -> bool:
    """A preposition that one side lacks must be a neutral one: report *to* a doctor, a doctor."""
    return (asked.links ^ cached.links) <= _NEUTRAL_LINKS


_NEUTRAL_LINKS = frozenset(("of", "in"))


def _asks_alike(asked: Reading, cached: Reading) -> bool:
    """A bare phrase asks what its question would; not so *delete my account*: that is an order."""
    personal = any(r.kind == "bare" and (r.subject or r.owners) for r in (asked, cached))
    return not personal and frozenset((asked.kind, cached.kind)) in _SAME_KIND


def _voice(asked: Reading, cached: Reading, pairs: Pairs) -> str | None:
    """*Who was hired* is not *who hired*; but *are needed* is *do I need*, which says who needs."""
    for i, j in pairs:
        one, other = asked.tokens[i], cached.tokens[j]
        if one.passive != other.passive and one.known and other.known:
            active = cached if one.passive else asked
            if active.subject == 0 and not (active.kind == "bare" and one.word == other.word):
                return "voice"
    return None


def _aligned(one: tuple[Token, ...], other: tuple[Token, ...]) -> tuple[Pairs, int]:
    """Pairs of places that say the same: the same word first, then a form, then a synonym."""
    pairs: Pairs = []
    places: dict[str, list[int]] = {}
    for j, token in enumerate(other):
        for form in token.forms:
            places.setdefault(form, []).append(j)
    free = dict.fromkeys(range(len(other)))
    rest: list[int] = []
    for i, token in enumerate(one):
        near = (j for form in token.forms for j in places.get(form, ()) if j in free)
        found = min((j for j in near if _same_form(token, other[j])), default=None)
        if found is None:
            rest.append(i)
        else:
            pairs.append((i, found))
            del free[found]
    related = 0
    for i in rest if max(len(rest), len(free)) <= _UNMATCHED_MAX else ():
        found = next((j for j in free if _related(one[i], other[j])), None)
        if found is not None:
            pairs.append((i, found))
            del free[found]
            related += 1
    pairs.sort()
    return pairs, related


def _same_form(one: Token, other: Token) -> bool:
    if one.word == other.word:
        return True
    if one.forms.isdisjoint(other.forms):
        return False
    boring = {one.word[-3:], other.word[-3:]}  # what bores is not what is bored
    return not ("ing" in boring and any(end.endswith("ed") for end in boring))


def _related(one: Token, other: Token) -> bool:
    if not one.related.isdisjoint(other.forms) or not other.related.isdisjoint(one.forms):
        return True
    if one.known == other.known or not one.kind == other.kind == "word":
        return False
    return _misspelt(one, other) if other.known else _misspelt(other, one)


def _misspelt(slip: Token, right: Token) -> bool:
    """One is no English word and one slip of the pen from the other, which is a common one.

    Two unknown words are two names (sertraline, setraline), and close to a rare word there are
    others that no dictionary has (ketamine, ketimine): those have to be equal.
    """
    a, b = slip.word, right.word
    if not english.common(b):
        return False
    if min(len(a), len(b)) < _SPELLING_LETTERS_MIN or a[0] != b[0] or abs(len(a) - len(b)) > 1:
        return False
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return (len(a) <= 1 and len(b) <= 1) or (a == b[::-1] and len(a) == 2)


def _unmatched(tokens: tuple[Token, ...], matched: set[int]) -> list[Token]:
    return [token for i, token in enumerate(tokens) if i not in matched]


def _extra(left: list[Token], right: list[Token]) -> int | None:
    """How many optional words one side has more; None when a word is left that matters."""
    if left and right:
        return None
    found = left or right
    if all(token.facet or token.word in lexicon.OPTIONAL for token in found):
        return len(found)
    return None


def _name(left: list[Token], right: list[Token]) -> str:
    """The most telling name for words that nothing answers to."""
    both = [*left, *right]
    kinds = {token.kind for token in both}
    measures = sum(not token.forms.isdisjoint(lexicon.UNITS) for token in both)
    if kinds & {"number", "ordinal"}:
        return "number"
    if "unit" in kinds or (left and right and measures == len(both)):
        return "unit"
    for kind in ("negation", "quantifier"):
        if kind in kinds:
            return kind
    few = len(both) <= _UNMATCHED_MAX
    if few and any(_opposed(one, other) for one in left for other in right):
        return "antonym"
    for kind, name in _NAMES.items():
        if kind in kinds:
            return name
    if any(not token.known for token in both):
        return "entity"
    return "content" if left and right else "detail"


def _opposed(one: Token, other: Token) -> bool:
    listed = any(not other.forms.isdisjoint(lexicon.OPPOSITES.get(f, ())) for f in one.forms)
    return listed or english.opposite(one.word, other.word) or _negated(one.word, other.word)


def _negated(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long in {prefix + short for prefix in ("un", "in", "im", "dis", "de", "non", "il", "ir")}


def _roles(one: tuple[Token, ...], other: tuple[Token, ...], pairs: Pairs) -> str | None:
    """*From* A is not *to* A, *by* A is not *about* A; neutral prepositions may be exchanged."""
    for i, j in pairs:
        a, b = _role(one[i]), _role(other[j])
        if a == b:
            continue
        like = frozenset((a, b)) in lexicon.LIKE_ROLES
        if {a, b} == {"of", "for"} and (_made(one, i) or _made(other, j)):
            like = False
        if not (like or _attributive(one[i], other[j]) or _attributive(other[j], one[i])):
            return "role"
    return None


def _made(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether the phrase at this place hangs on a participle: made *of*, made *for*."""
    before = [token for token in tokens[:at] if token.phrase != tokens[at].phrase]
    return bool(before) and english.participle(before[-1].word)


def _attributive(late: Token, early: Token) -> bool:
    """From a list *in Python*, from a *Python* list: it keeps its head's role where it leads."""
    return early.leads and _role(late) in ("in", "of", "for")


def _role(token: Token) -> str:
    return lexicon.PREPOSITIONS.get(token.role, token.role)


def _is_moved(pairs: Pairs) -> bool:
    return any(b[1] < a[1] for a, b in pairwise(pairs))


def _movable(one: tuple[Token, ...], other: tuple[Token, ...], pairs: Pairs) -> bool:
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
    return (
        _moves(right, one, other)
        or _moves(back, other, one)
        or _nominal(left, [b for _, b in right])
        or _nominal([(b, a) for a, b in right], [a for a, _ in left])
    )


def _nominal(acts: list[tuple[Token, Token]], objects: list[Token]) -> bool:
    """*Renew a passport* and *passport renewal*: the object leads the noun made from the verb."""
    (verb, noun), several = acts[0], len(acts) > 1
    made = english.names_the_act(noun.word, verb.word)
    return made and not several and all(token.leads for token in objects)


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
        modifies = all(token.leads for token in there)
        return modifies or (_is_phrase(there, early) and here[0].role == there[0].role)
    return False


def _is_phrase(block: list[Token], text: tuple[Token, ...]) -> bool:
    """Whether the block is a whole prepositional phrase."""
    phrase = block[0].phrase
    inside = [token for token in text if token.phrase == phrase]
    return phrase != 0 and len(inside) == len(block) and all(t.phrase == phrase for t in block)
