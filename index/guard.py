"""What no similarity excuses: two prompts that differ in a number, a name, a not, an order.

Cosine cannot see these: *is it safe* and *is it not safe* are at 0.995, real paraphrases between
0.87 and 0.99. So the guard does not weigh, it refuses. Its principle is the reverse of a list of
known traps: **every content word has to be accounted for by the other text**, as the same word, an
inflection, a spelling or a listed synonym, and in a compatible role and order. What is left over on
either side is a reason to miss; the lists of the language only give the reason its name.
"""

from dataclasses import dataclass
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
_NEUTRAL: Final = frozenset(("", "-", "to"))
_SPELLING_LETTERS_MIN: Final = 5

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """How two readings that may be served for each other agree."""

    veto: str | None
    related: int = 0
    """Words matched through a synonym or a presumed misspelling."""
    extra: int = 0
    """Optional words that only one side has."""
    moved: bool = False
    """Whether a phrase stands elsewhere."""
    rephrased: bool = False
    """Whether the kind of question differs, in a way that asks the same."""


def veto(asked: Reading, cached: Reading) -> str | None:
    """Why the answer to `cached` may not be served for `asked`; None when nothing speaks against it.

    Symmetric. The names: number, unit, negation, antonym, quantifier, comparator, modality,
    question, tense, person, entity, quoted, symbol, order, role, content, detail.
    """
    return compare(asked, cached).veto


def compare(asked: Reading, cached: Reading) -> Evidence:
    if asked.plain == cached.plain and asked.capitals == cached.capitals:
        return Evidence(None)
    if asked.numbers != cached.numbers:
        return Evidence("number")
    pairs, related = _aligned(asked.tokens, cached.tokens)
    left = _unmatched(asked.tokens, {i for i, _ in pairs})
    right = _unmatched(cached.tokens, {j for _, j in pairs})
    extra = _extra(left, right)
    reason = (
        (None if extra is not None else _name(left, right))
        or _frame(asked, cached)
        or _roles(asked.tokens, cached.tokens, pairs)
    )
    if reason:
        return Evidence(reason)
    if not pairs:
        return Evidence("content")
    moved = _is_moved(pairs)
    if moved and not _movable(asked.tokens, cached.tokens, pairs):
        return Evidence("order")
    return Evidence(None, related, extra or 0, moved, asked.kind != cached.kind)


def _frame(asked: Reading, cached: Reading) -> str | None:
    """What the function words say: kind of question, tense, person, case."""
    if asked.kind != cached.kind and frozenset((asked.kind, cached.kind)) not in _SAME_KIND:
        return "question"
    if asked.tense and cached.tense and asked.tense != cached.tense:
        return "tense"
    if asked.subject and cached.subject and asked.subject != cached.subject:
        return "person"
    if asked.owners and cached.owners and asked.owners != cached.owners:
        return "person"
    if not asked.capitals.isdisjoint(cached.lowers) or not cached.capitals.isdisjoint(asked.lowers):
        return "entity"
    return None


def _aligned(one: tuple[Token, ...], other: tuple[Token, ...]) -> tuple[Pairs, int]:
    """Pairs of places that say the same: the same word first, then a form, then a synonym."""
    pairs: Pairs = []
    free = list(range(len(other)))
    rest: list[int] = []
    for i, token in enumerate(one):
        found = next((j for j in free if _same_form(token, other[j])), None)
        if found is None:
            rest.append(i)
        else:
            pairs.append((i, found))
            free.remove(found)
    related = 0
    for i in rest:
        found = next((j for j in free if _related(one[i], other[j])), None)
        if found is not None:
            pairs.append((i, found))
            free.remove(found)
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
    return one.known != other.known and one.kind == other.kind == "word" and _misspelt(one, other)


def _misspelt(one: Token, other: Token) -> bool:
    """One is no English word and one slip of the pen from the other, which is.

    Two unknown words are two names (sertraline, setraline): those have to be equal.
    """
    a, b = one.word, other.word
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
    kinds = {token.kind for token in (*left, *right)}
    for kind, name in (
        ("number", "number"), ("unit", "unit"), ("negation", "negation"), ("ordinal", "number"),
    ):  # fmt: skip
        if kind in kinds:
            return name
    for one in left:
        for other in right:
            if _opposed(one, other):
                return "antonym"
    for kind, name in (
        ("quantifier", "quantifier"), ("comparator", "comparator"), ("modal", "modality"),
        ("symbol", "symbol"), ("quoted", "quoted"),
    ):  # fmt: skip
        if kind in kinds:
            return name
    if any(not token.known for token in (*left, *right)):
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
        a, b = one[i].role, other[j].role
        if a != b and not (a in _NEUTRAL and b in _NEUTRAL):
            return "role"
    return None


def _is_moved(pairs: Pairs) -> bool:
    return any(b[1] < a[1] for a, b in zip(pairs, pairs[1:], strict=False))


def _movable(one: tuple[Token, ...], other: tuple[Token, ...], pairs: Pairs) -> bool:
    """Whether each change of order leaves the meaning alone.

    Two places may be exchanged when they hang on different prepositions that stay theirs (*in
    Excel, with Python*), or when one modifies the other in both texts (*Peru's capital*, *capital of
    Peru*): it hangs on a neutral preposition here and leads there. Everything else, as *Germany beat
    Brazil*, is a change of role.
    """
    for at, (i, j) in enumerate(pairs):
        for k, m in pairs[at + 1 :]:
            if m < j and not _exchangeable((one[i], one[k]), (other[j], other[m])):
                return False
    return True


def _exchangeable(first: tuple[Token, Token], second: tuple[Token, Token]) -> bool:
    (a1, b1), (a2, b2) = first, second
    kept = a1.role == a2.role and b1.role == b2.role
    if kept and a1.role != b1.role:
        return True
    b_moves = _modifies(b1, b2) and _steady(a1, a2)
    a_moves = _modifies(a2, a1) and _steady(b1, b2)
    return b_moves or a_moves


def _modifies(later: Token, earlier: Token) -> bool:
    """After its head on a neutral preposition in one text, before it in the other."""
    return later.role == "-" and (earlier.leads or earlier.role == "-")


def _steady(one: Token, other: Token) -> bool:
    return {one.role, other.role} <= {"", "to"} or one.role == other.role
