"""Do two answers say the same? What labels are made of, so: when in doubt, undecided.

Steps, cheapest first, and the first that knows decides. A contradiction outweighs any likeness, as
vectors hardly see it (*open from 9 am* and *from 9 pm*), and likeness in words outweighs vectors.
All steps are symmetric and look at the texts alone: the upstream's disagreement with itself, which
the same function measures, then cancels what this function gets wrong about wording.

Measured with all-MiniLM-L6-v2 on answers of SmolLM2-135M-Instruct, 40 questions, two system texts,
temperature 0.7. It invents much: of its second answers that are called different, most are.

                                           same    different    undecided
    the same question asked again (80)      11 %      26 %         63 %
    a question nearby (160)                0.6 %      68 %         31 %
    any other question (80)                  0       100 %          0

and on answers as larger models word them, written with the rules (tests/vectors/answers.json):

    the same in other words (40)            58 %       0           42 %
    to a question nearby (80)                0        84 %         16 %

So `different` is found more readily than `same`, and the share of errors among the decided alone
overstates them, by up to a half.

50 words cost 0.3 ms, 64 kB 0.2 s, without the vectors.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from index.claims import Claims, Quantity, claims, fold, unmarked

TEXT_CHARS_MAX = 65_536
"""Longer answers are compared for being equal only."""

KEY_CHARS = 320
"""An answer begins with its point. What contradicts within that many characters is a contradiction;
further on are examples, steps and asides, of which a second sample has others."""

SHORT_CHARS = 200
"""Of answers up to this, every name matters; of longer ones, that they share none."""

Verdict = Literal["same", "different", "undecided"]
Cosine = Annotated[float, Ge(-1.0), Le(1.0)]


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """How near the vectors of two answers have to be to settle what their words leave open."""

    same_min: Cosine = 0.88
    same_min_quantities: Cosine = 0.80
    """When both also give the same quantities."""
    different_max: Cosine = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    verdict: Verdict
    step: str
    """What decided: exact, empty, too-long, refusal, lead, quantity, name, negation, opposite,
    words, cosine; or no-vector, where only a vector could have."""


def compare_answers(
    one: str,
    other: str,
    cosine: Callable[[], float] | None,
    settings: ComparisonSettings = ComparisonSettings(),
) -> Agreement:
    """`cosine` embeds the two answers, and is called at most once, when words do not settle it.

    Vectors of how the answers begin (the encoder's window) will do. None where there are none, as
    for texts of which the encoder does not know the letters.
    """
    if not one.strip() or not other.strip():
        return Agreement("undecided", "empty")
    if one == other:
        return Agreement("same", "exact")
    if max(len(one), len(other)) > TEXT_CHARS_MAX:
        return Agreement("undecided", "too-long")
    one, other = fold(one), fold(other)
    if _plain(one) == _plain(other):
        return Agreement("same", "exact")
    refusals = _refuses(one) + _refuses(other)
    if refusals:
        return Agreement("different" if refusals == 1 else "undecided", "refusal")
    pair = _Pair(one, other)
    return pair.contradiction() or pair.repetition() or _by_vector(pair, cosine, settings)


def _by_vector(
    pair: "_Pair", cosine: Callable[[], float] | None, settings: ComparisonSettings
) -> Agreement:
    if cosine is None:
        return Agreement("undecided", "no-vector")
    near = cosine()
    if near >= (settings.same_min_quantities if pair.same_quantities else settings.same_min):
        return Agreement("undecided" if pair.doubtful else "same", "cosine")
    if near <= settings.different_max and not pair.related:
        return Agreement("different", "cosine")
    return Agreement("undecided", "cosine")  # NaN as well


_CODE = re.compile(r"[`{}=<>\\^|]")
_NO_WORDS = re.compile(rf"{_CODE.pattern}|[^\W\d_\x00-\u024f]")
_DROPPED = re.compile(
    r"[.,:](?!\w)|(?<!\w)'|'(?!\w)|-(?!\d)|(?<=\w)-|[;!?\"()\[\]#_…。、「」]"  # not the - of -18
)


def _plain(text: str) -> str:
    """Equal for texts that differ in layout, case and punctuation. Code keeps all but layout."""
    if _CODE.search(text):
        return "\n".join(filter(None, map(str.rstrip, text.splitlines())))
    return " ".join(_DROPPED.sub(" ", unmarked(text)).casefold().split())


_REFUSAL_CHARS = 240
_REFUSAL = re.compile(
    r"\b(?:i|we)(?:'m| am|'re| are)? (?:can't|cannot|can not|couldn't|could not|won't|will not"
    r"|unable to|not able to|don't|do not) (?:actually |directly |currently )?"
    r"(?:help|assist|provide|answer|access|fulfil|fulfill|comply|discuss|share|do that|do this"
    r"|create|generate|offer|engage|tell|find|verify|look up|have (?:any |enough |the )?"
    r"(?:access|information|ability|real-time|personal|data)|know\b)"
    r"|\bas an ai\b|\b(?:sorry|apologi[sz]e),? but (?:i|we)\b"
    r"|(?:抱歉|对不起|很遗憾).{0,12}(?:无法|不能|没法)",
    re.IGNORECASE,
)


def _refuses(text: str) -> bool:
    return _REFUSAL.search(text[:_REFUSAL_CHARS]) is not None


def _opposites(pairs: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    sides = [pair.split("|") for pair in pairs.split()]
    return [(frozenset(one.split("/")), frozenset(other.split("/"))) for one, other in sides]


_OPPOSITES = _opposites(
    "safe|unsafe/dangerous true|false legal|illegal possible|impossible allowed|forbidden "
    "increase/raise|decrease/reduce higher|lower before|after more|less/fewer above|below "
    "open|close/closed enable|disable ascending|descending left|right on|off first|last "
    "maximum|minimum include|exclude healthy|unhealthy correct|incorrect largest|smallest"
)

ALIKE_MIN = 0.5
"""Share of content words that two beginnings have in common, from which on one *not* more, or one
word against its opposite, turns the meaning, and is not just another sentence."""

REPLACED_MAX = 2
"""*Cancel* in the place of *renew* is one word; a second sample of an answer replaces many."""

REPEATED_MIN = 0.6
"""Share of content words in common, from which on the same facts with nothing replaced are said."""

TERSE_WORDS = 4
"""An answer of so few content words is a bare fact, and its vector says little: *Paris* is far from
*The capital of France is Paris*."""


class _Pair:
    """Two folded answers, read."""

    def __init__(self, one: str, other: str) -> None:
        self.short = max(len(one), len(other)) <= SHORT_CHARS
        self.worded = all(
            len(text) <= KEY_CHARS and not _NO_WORDS.search(text) for text in (one, other)
        )
        """Whether words say all there is: further on, in code and in other letters, they do not."""
        whole = claims(one), claims(other)
        self.key = [
            read if len(text) <= KEY_CHARS else claims(_beginning(text))
            for text, read in zip((one, other), whole, strict=True)
        ]
        self.quantities = [_lacking(self.key[i], whole[1 - i]) for i in (0, 1)]
        self.names = [_unnamed(self.key[i], whole[1 - i]) for i in (0, 1)]
        content = [frozenset(key.content) for key in self.key]
        self.both = content[0] & content[1]
        self.replaced = min(len(content[0] - self.both), len(content[1] - self.both))
        """Content words of one that may stand for as many of the other."""
        either = len(content[0] | content[1])
        self.alike = len(self.both) / either if either else 1.0
        self.terse = min(map(len, content)) <= TERSE_WORDS

    @property
    def same_quantities(self) -> bool:
        one, other = (key.quantities for key in self.key)
        return bool(one and other) and not any(self.quantities)

    @property
    def same_facts(self) -> bool:
        """Both give the same quantities and names, and at least one quantity or two names."""
        named = all(len(key.names) >= 2 for key in self.key)
        return (self.same_quantities or named) and not any(self.quantities) and not any(self.names)

    @property
    def turned(self) -> bool:
        """One negates what the other affirms, as far as counting *not* tells."""
        one, other = self.key
        return one.negated != other.negated and (one.lead is None or one.lead != other.lead)

    @property
    def opposed(self) -> bool:
        return _opposed(self.key[0].words, self.key[1].words)

    @property
    def doubtful(self) -> bool:
        """Each says something in the place of what the other says. No likeness outweighs that."""
        return (
            all(self.quantities)
            or all(self.names)
            or len({key.lead for key in self.key} - {None}) == 2
            or self.turned
            or self.opposed
            or (0 < self.replaced <= REPLACED_MAX and self.alike >= ALIKE_MIN)
        )

    @property
    def related(self) -> bool:
        """A bare fact that the other states too, however far their vectors are apart."""
        said = [{one.said for one in key.quantities} for key in self.key]
        return self.terse and bool(self.both or said[0] & said[1])

    def contradiction(self) -> Agreement | None:
        """The step that finds that not both can be right, or None."""
        one, other = self.key
        if {one.lead, other.lead} == {"yes", "no"}:
            return Agreement("different", "lead")
        if self._quantities_clash():
            return Agreement("different", "quantity")
        shared = one.names & other.names
        if all(self.names) and (not shared or (self.short and not self.same_quantities)):
            return Agreement("different", "name")
        if self.turned and self.both and self.replaced == 0:
            return Agreement("different", "negation")
        if self.opposed and self.alike >= ALIKE_MIN:
            return Agreement("different", "opposite")
        return None

    def _quantities_clash(self) -> bool:
        lacking = [{one.dimension for one in side} for side in self.quantities]
        shared = {
            one.dimension
            for key, side in zip(self.key, self.quantities, strict=True)
            for one in key.quantities
            if one not in side
        }
        return any(self.short or one not in shared for one in lacking[0] & lacking[1])

    def repetition(self) -> Agreement | None:
        """The step that finds that one says no more than the other, in the same words, or None."""
        if not self.worded or self.turned or self.opposed or self.replaced:
            return None
        if not self._repeats_quantities():
            return None
        one, other = sorted((key.content for key in self.key), key=len)
        ends = one in (other[: len(one)], other[len(other) - len(one) :])
        if self.short and self.terse and ends and (one or self.same_quantities):
            return Agreement("same", "words")
        if self.same_facts and self.alike >= REPEATED_MIN:
            return Agreement("same", "words")
        return None

    def _repeats_quantities(self) -> bool:
        one, other = (key.quantities for key in self.key)
        return all(any(a.repeats(b) for b in other) for a in one) and all(
            any(b.repeats(a) for a in one) for b in other
        )


def _beginning(text: str) -> str:
    cut = text[:KEY_CHARS]
    return cut[: cut.rfind(" ")] if " " in cut else cut


def _lacking(key: Claims, whole: Claims) -> list[Quantity]:
    return [one for one in key.quantities if one not in whole.quantities]


def _unnamed(key: Claims, whole: Claims) -> frozenset[str]:
    """Names that the other text has neither as a word, nor spelt out, nor as an adjective."""
    return frozenset(
        name
        for name in key.names - whole.words
        if (len(name) < 2 or name not in whole.initials)
        and not any(name + ending in whole.words for ending in _OF)
        and not any(name.removesuffix(ending) in whole.words for ending in _OF)
    )


_OF = ("n", "an", "ian", "ese", "ish", "y")


def _opposed(one: frozenset[str], other: frozenset[str]) -> bool:
    return any(
        (one & left and other & right and not one & right and not other & left)
        or (one & right and other & left and not one & left and not other & right)
        for left, right in _OPPOSITES
    )
