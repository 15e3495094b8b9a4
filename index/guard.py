"""What no similarity excuses: two prompts that differ in a number, a name, a not, an order.

Cosine cannot see these: *is it safe* and *is it not safe* are at 0.995, real paraphrases between
0.87 and 0.99. So the guard does not weigh, it refuses. Its principle is the reverse of a list of
known traps: **every content word has to be accounted for by the other text**, as the same word, an
inflection, a spelling or a listed synonym, and in a compatible role and order. What is left over on
either side is a reason to miss; the lists of the language only give the reason its name.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from index import alignment, english, lexicon, roles
from index.alignment import UNMATCHED_MAX, Pairs
from index.reading import read
from index.words import Reading, Token

__all__ = ["Evidence", "Reading", "compare", "read", "veto"]

_SAME_KIND: Final = frozenset(
    frozenset(pair)
    for pair in (
        ("bare", "how"), ("bare", "what"), ("bare", "explain"), ("what", "explain"),
        ("bare", "howis"), ("howis", "explain"), ("bare", "howmany"),
    )
)  # fmt: skip
_NAMES: Final = {
    "quantifier": "quantifier",
    "comparator": "comparator",
    "modal": "modality",
    "symbol": "symbol",
    "quoted": "quoted",
}


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
    """Words that only a synonym or a presumed misspelling pairs, counted as unmatched or not."""
    extra: int = 0
    """Optional words that only one side has."""
    moved: bool = False
    """Whether a phrase stands elsewhere."""
    rephrased: bool = False
    """Whether the kind of question differs, in a way that asks the same."""


def veto(asked: Reading, cached: Reading) -> str | None:
    """Why the answer to `cached` may not be served for `asked`; None when nothing forbids it.

    Symmetric. The names: wording for a language without a lexicon, where nothing but case and
    punctuation may differ; date (also time of day), number, unit (also month, weekday), negation,
    quantifier, antonym, comparator, modality, symbol, quoted, entity, spelling (two words of the
    dictionary, a letter apart), content, detail for words that nothing answers to; question, tense,
    person, voice, role, order for words that agree and mean another thing. Content and detail say
    no more than that the words differ; all the others say how.
    """
    return compare(asked, cached).veto


def compare(asked: Reading, cached: Reading) -> Evidence:
    """The veto, and how well the two agree; swapping the texts swaps left and right only."""
    if asked.foreign or cached.foreign:
        alike = asked.foreign and cached.foreign and asked.plain == cached.plain
        return Evidence(None, asked.plain.count(" ") + 1) if alike else Evidence("wording")
    if _same(asked) == _same(cached):
        return Evidence(None, len(asked.tokens))
    if asked.plain > cached.plain:  # words are aligned greedily: always from the same side
        found = _compared(cached, asked)
        return replace(found, left=found.right, right=found.left)
    return _compared(asked, cached)


def _same(text: Reading) -> tuple[object, ...]:
    return text.plain, text.persons, text.capitals, text.signs


def _compared(one: Reading, other: Reading) -> Evidence:
    strict = one.mention or other.mention
    pairs, related = alignment.aligned(one.tokens, other.tokens, strict=strict)
    left = _unmatched(one.tokens, {i for i, _ in pairs})
    right = _unmatched(other.tokens, {j for _, j in pairs})
    extra = _extra(left, right, manners=_asks_how(one, other))
    moved = roles.moved(pairs)
    return Evidence(
        _verdict(one, other, pairs, left, right),
        matched=len(pairs),
        left=len(left),
        right=len(right),
        related=related + alignment.kin(left, right),
        extra=extra or 0,
        moved=moved,
        rephrased=one.kind != other.kind,
    )


def _verdict(
    one: Reading, other: Reading, pairs: Pairs, left: list[Token], right: list[Token]
) -> str | None:
    if one.dates != other.dates:
        return "date"
    if one.numbers != other.numbers:
        return "number"
    reason = (
        (
            None
            if _extra(left, right, manners=_asks_how(one, other)) is not None
            else _name(left, right)
        )
        or _frame(one, other)
        or (None if roles.linked_alike(one, other, pairs) else "role")
        or (None if roles.hung_alike(one.tokens, other.tokens, pairs) else "role")
        or _voice(one, other, pairs)
        or _time(one, other, pairs)
        or _articles(one, other, pairs)
        or _count(one, other, pairs)
    )
    if reason:
        return reason
    if not pairs:
        return "content"
    if roles.moved(pairs) and not roles.movable(one.tokens, other.tokens, pairs):
        return "order"
    return None


def _frame(asked: Reading, cached: Reading) -> str | None:
    """What the function words say: kind of question, tense, person, case."""
    if asked.kind != cached.kind and not _asks_alike(asked, cached):
        return "question"
    if asked.addressed != cached.addressed:
        return "person"
    if {_WHAT_THEY_ARE.sub(r"\1", r.plain) for r in (asked, cached)} == {"is", "are"}:
        return "entity"  # what *are* pandas, what *is* pandas
    if asked.tense and cached.tense and asked.tense != cached.tense:
        return "tense"
    if asked.persons != cached.persons:
        return "person"
    if not _helped_alike(asked, cached):
        return "tense" if ("have" in asked.helpers) != ("have" in cached.helpers) else "voice"
    if not _signs_alike(asked, cached):
        return "symbol"
    if not asked.capitals.isdisjoint(cached.lowers) or not cached.capitals.isdisjoint(asked.lowers):
        return "entity"
    named_by_both = asked.capitals & cached.capitals
    if (asked.definite ^ cached.definite) & named_by_both:
        return "entity"
    return None


def _helped_alike(asked: Reading, cached: Reading) -> bool:
    """*What do cats like* is not *what are cats like*; a bare phrase has none, and asks no less."""
    told = {asked.kind, cached.kind} & {"bare", "explain"}
    if told or asked.helpers == cached.helpers:
        return True
    both = {asked.helpers, cached.helpers}
    counted = asked.kind == cached.kind == "howmany" and both == {(), ("be",)}
    return counted or both == {(), ("do",)}  # why cats purr, why do cats purr


def _signs_alike(asked: Reading, cached: Reading) -> bool:
    """Signs on both sides must be written alike; a unit may be small, unless mega is not milli."""
    if {s for s, _ in asked.signs if not s.isalnum()} != {
        s for s, _ in cached.signs if not s.isalnum()
    }:
        return False
    both = {s for s, _ in asked.signs} & {s for s, _ in cached.signs}
    return {w for s, w in asked.signs if s in both} == {w for s, w in cached.signs if s in both}


_WHAT_THEY_ARE: Final = re.compile(r"^what (is|are) \w+s$")


def _asks_alike(asked: Reading, cached: Reading) -> bool:
    """A bare phrase asks what its question would; not so *delete my account*: that is an order."""
    personal = any(r.kind == "bare" and (r.subject or r.owners) for r in (asked, cached))
    return not personal and frozenset((asked.kind, cached.kind)) in _SAME_KIND


def _voice(asked: Reading, cached: Reading, pairs: Pairs) -> str | None:
    """*Who was hired* is not *who hired*; but *are needed* is *do I need*, which says who needs."""
    for i, j in pairs:
        one, other = asked.tokens[i], cached.tokens[j]
        if one.passive != other.passive and one.known and other.known:
            active, passive = (cached, asked) if one.passive else (asked, cached)
            if active.subject in (0, passive.subject) and not (
                active.kind == "bare" and one.word == other.word
            ):
                return "voice"
    return None


def _time(asked: Reading, cached: Reading, pairs: Pairs) -> str | None:
    """*Who played Batman* is not *who plays Batman*, where no auxiliary tells."""
    if asked.kind == cached.kind == "how":
        return None
    for i, j in pairs:
        one, other = asked.tokens[i], cached.tokens[j]
        if one.word == other.word or one.forms.isdisjoint(other.forms):
            continue
        if one.passive or other.passive:
            continue
        if english.participle(one.word) != english.participle(other.word):
            return "tense"
    return None


def _articles(asked: Reading, cached: Reading, pairs: Pairs) -> str | None:
    """*Lead* is no *a lead*, *the tube* no *tube*; with another word to tell which, they may be.

    So may *the moon* and *moon*, and what a capital makes a name on both sides.
    """
    for i, j in pairs:
        one, other = asked.tokens[i], cached.tokens[j]
        articles = {one.article, other.article}
        if len(articles) == 1 or one.role != other.role:
            continue
        singular = articles == {"a", ""}
        alone = all(_alone(text, at, singular) for text, at in ((asked, i), (cached, j)))
        if not (alone or (articles == {"a", "the"} and not one.role)):
            continue
        unique = one.word in lexicon.CASELESS or one.word not in asked.lowers | cached.lowers
        if not (unique and articles == {"the", ""}):
            return "entity" if one.name or other.name else "detail"
    return None


def _alone(text: Reading, at: int, singular: bool) -> bool:
    """Whether no other word tells which is meant: then *a room in my house* is told from *room*."""
    token = text.tokens[at]
    before = text.tokens[at - 1] if at else None
    acts = before and at == 1 and not before.article and english.verb(before.word)
    led = before and before.leads and not acts
    after = text.tokens[at + 1].word if token.leads else ""
    acted = english.participle(after) or (english.verb(after) and not english.noun(after))
    leads = token.leads and not acted
    told = token.extended and not singular
    return token.kind == "word" and not (leads or told or led)


def _count(asked: Reading, cached: Reading, pairs: Pairs) -> str | None:
    """One or many: it matters after an article or owner, in a count, and to a superlative."""
    everywhere = "howmany" in (asked.kind, cached.kind) or any(
        token.word.endswith("est") or token.word in _TOPS for token in asked.tokens
    )
    for i, j in pairs:
        one, other = asked.tokens[i], cached.tokens[j]
        if one.word == other.word or one.leads or other.leads:
            continue
        if (everywhere or one.article or other.article) and _plural(one.word, other.word):
            return "detail"
    return None


def _plural(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=lambda word: (len(word), word))
    stem = short[:-1]
    plurals = (f"{short}s", f"{short}es", f"{stem}ies", f"{stem}ves", f"{short[:-2]}ves")
    men = short.endswith("man") and long == f"{short[:-3]}men"
    return men or (long in plurals and english.noun(short))


_TOPS: Final = frozenset(("most", "least", "first", "last"))


def _unmatched(tokens: tuple[Token, ...], matched: set[int]) -> list[Token]:
    return [token for i, token in enumerate(tokens) if i not in matched]


def _asks_how(one: Reading, other: Reading) -> bool:
    """Whether both are how-tos without a negation."""
    kinds = {one.kind, other.kind}
    return kinds <= {"how", "howis"} and not any(t.kind == "negation" for t in one.tokens)


def _extra(left: list[Token], right: list[Token], *, manners: bool) -> int | None:
    """How many optional words one side has more; None when a word is left that matters."""
    if left and right:
        return None
    found = left or right
    optional = lexicon.OPTIONAL | lexicon.MANNERS if manners else lexicon.OPTIONAL
    if all(token.facet or token.word in optional for token in found):
        return len(found)
    return None


def _name(left: list[Token], right: list[Token]) -> str:
    """The most telling name for words that nothing answers to.

    A kind of word counts where both sides have one, or where nothing else is missing: else the
    whole is said in other words, and it is not known what the word stands for.
    """
    both = [*left, *right]
    lefts, rights = {token.kind for token in left}, {token.kind for token in right}
    kinds = lefts | rights
    if "number" in kinds or "ordinal" in kinds:
        return "number"
    if "unit" in kinds or (left and right and all(map(_measures, both))):
        return "unit"
    if "negation" in kinds:
        return "negation"
    few = len(both) <= UNMATCHED_MAX
    telling = lefts & rights if left and right else kinds
    for kind, name in _NAMES.items():
        if kind == "comparator" and few and _opposites(left, right):
            return "antonym"
        if kind in telling:
            return name
    if all(any(token.name for token in side) for side in (left, right) if side):
        return "entity"
    if few and any(alignment.alike(one, other) for one in left for other in right):
        return "spelling"
    return "content" if left and right else "detail"


def _measures(token: Token) -> bool:
    return not token.forms.isdisjoint(lexicon.UNITS)


def _opposites(left: list[Token], right: list[Token]) -> bool:
    return any(_opposed(one, other) for one in left for other in right)


def _opposed(one: Token, other: Token) -> bool:
    for form in one.forms:
        if form in lexicon.OPPOSITES and not other.forms.isdisjoint(lexicon.OPPOSITES[form]):
            return True
    return english.opposite(one.word, other.word) or _negated(one.word, other.word)


def _negated(one: str, other: str) -> bool:
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    return long.endswith(short) and long.removesuffix(short) in _NEGATING


_NEGATING: Final = frozenset(("un", "in", "im", "dis", "de", "non", "il", "ir"))
