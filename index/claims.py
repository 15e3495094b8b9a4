"""What an answer claims that another can contradict: quantities, names, yes or no.

Two answers in other words are hard to compare, but *15 minutes* and *60 minutes* are not. A text is
read once, left to right, in linear time; what is read is the least that settles a contradiction,
in English (digits, units and capitals carry over to languages that share them).
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, NamedTuple

FACTS_MAX = 64
"""Quantities and names kept of one text: what decides stands at the beginning, and every one is
looked for in the other text."""

Lead = Literal["yes", "no", "depends"]


class Quantity(NamedTuple):
    """A number with its unit."""

    dimension: str
    """`time`, `length`, `$`, `length/time`; empty for a bare number."""
    value: float
    """In the base unit of its dimension: seconds, metres, grams, litres, Celsius."""
    said: float
    """In the unit that was written."""
    digits: int
    """How many it was given with, without the zeros that merely place the point."""

    def __eq__(self, other: object) -> bool:
        """Equal as precisely as both were said: 3.14 and 3.1416, 143,000 km and 142,984,000 m."""
        if not isinstance(other, Quantity) or self.dimension != other.dimension:
            return False
        if self.value == other.value:
            return True
        rough, exact = sorted((self, other), key=lambda one: one.digits)
        if 2 <= rough.digits < exact.digits and (rough._rounded or exact.said % 1):
            return f"{self.value:.{rough.digits - 1}e}" == f"{other.value:.{rough.digits - 1}e}"
        units_differ = abs(self.value * other.said - other.value * self.said) > 1e-9 * abs(
            self.value * other.said
        )
        near = abs(self.value - other.value) <= 1e-3 * max(abs(self.value), abs(other.value))
        return units_differ and near

    @property
    def _rounded(self) -> bool:
        """Not 1990, which may be a year, nor 2,500."""
        return self.said % 1 != 0 or (self.said >= 10_000 and self.said % 1000 == 0)

    def repeats(self, other: "Quantity") -> bool:
        """Equal and in the same unit: an hour's minutes are not answered with its seconds."""
        return self == other and self._replace(value=self.said) == other._replace(value=other.said)

    def __hash__(self) -> int:
        raise TypeError("nearly equal quantities have no common hash")


@dataclass(frozen=True, slots=True)
class Claims:
    """What one text says, as far as that is looked at."""

    quantities: tuple[Quantity, ...]
    names: frozenset[str]
    """Case-folded stems of words that are capitalised within a sentence, or hold capitals."""
    words: frozenset[str]
    """Case-folded stems of all its words."""
    initials: str
    """First letters of its words, in which an acronym may be found."""
    content: tuple[str, ...]
    """The same in order, without function words and without bare numbers."""
    lead: Lead | None
    negated: bool
    """Whether the first sentence has an odd number of negations, a leading *no* aside."""


_RAISED = re.compile(
    "([\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]+)|([\u00bc-\u00be\u2150-\u215e])"
)
_SIGNS = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2044: "/"}
_SIGNS |= dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), "-")


def fold(text: str) -> str:
    """NFKC, and one kind of quote and dash; a raised 2 stays apart from a 2, a half from a 1."""
    text = _RAISED.sub(lambda found: ("^" if found[1] else " ") + found[0], text)
    return unicodedata.normalize("NFKC", text).translate(_SIGNS)


_FENCED = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\[\]\n]*)\]\([^()\s]*\)")
_MARKER = re.compile(r"^[ \t]*(?:[-*+>#|]+|\d{1,3}[.)])(?=\s)", re.MULTILINE)


def unmarked(text: str) -> str:
    """The text without the signs of Markdown that only shape it. Code inside is kept."""
    return _MARKER.sub("", _LINK.sub(r"\1", text)).translate({ord("*"): " ", ord("`"): " "})


def without_code(text: str) -> str:
    """The text around fenced blocks: numbers and names of example code claim nothing."""
    return _FENCED.sub("\n", text)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _numbered(text: str, start: int, step: int = 1) -> dict[str, int]:
    return {word: start + step * number for number, word in enumerate(text.split())}


_MONTHS = _numbered("jan feb mar apr may jun jul aug sep oct nov dec", 1)
"""By their first three letters."""
_MONTH = re.compile(
    "january|february|march|april|may|june|july|august|september|october|november|december"
    "|sept|" + "|".join(_MONTHS)
)
_SMALL = _numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen",
    0,
)
_TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SECONDS = {
    "second": 1.0, "sec": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "hr": 3600.0,
    "h": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2629800.0, "year": 31557600.0,
}  # fmt: skip
_UNITS: dict[str, tuple[str, float]] = {
    **{name: ("time", size) for name, size in _SECONDS.items()},
    "ms": ("time", 1e-3), "millisecond": ("time", 1e-3), "decade": ("time", 315576000.0),
    "century": ("time", 3155760000.0), "centurie": ("time", 3155760000.0),
    "mm": ("length", 1e-3), "millimeter": ("length", 1e-3), "cm": ("length", 1e-2),
    "centimeter": ("length", 1e-2), "m": ("length", 1.0), "meter": ("length", 1.0),
    "km": ("length", 1e3), "kilometer": ("length", 1e3), "inch": ("length", 0.0254),
    "inche": ("length", 0.0254), "foot": ("length", 0.3048), "feet": ("length", 0.3048),
    "ft": ("length", 0.3048), "yard": ("length", 0.9144), "mile": ("length", 1609.344),
    "mg": ("mass", 1e-3), "milligram": ("mass", 1e-3), "g": ("mass", 1.0), "gram": ("mass", 1.0),
    "kg": ("mass", 1e3), "kilogram": ("mass", 1e3), "kilo": ("mass", 1e3),
    "tonne": ("mass", 1e6), "pound": ("mass", 453.592), "lb": ("mass", 453.592),
    "ounce": ("mass", 28.3495), "oz": ("mass", 28.3495),
    "ml": ("volume", 1e-3), "milliliter": ("volume", 1e-3), "l": ("volume", 1.0),
    "liter": ("volume", 1.0), "gallon": ("volume", 3.78541), "cup": ("cups", 1.0),
    "tablespoon": ("spoons", 3.0), "tbsp": ("spoons", 3.0), "teaspoon": ("spoons", 1.0),
    "tsp": ("spoons", 1.0),
    "%": ("%", 1.0), "percent": ("%", 1.0),
    "dollar": ("$", 1.0), "usd": ("$", 1.0), "euro": ("€", 1.0), "eur": ("€", 1.0),
    "gbp": ("£", 1.0), "yen": ("¥", 1.0), "cent": ("cents", 1.0),
    "kb": ("bytes", 1e3), "mb": ("bytes", 1e6), "gb": ("bytes", 1e9), "tb": ("bytes", 1e12),
    "mph": ("length/time", 0.44704), "kph": ("length/time", 1 / 3.6),
    "kmh": ("length/time", 1 / 3.6),
    "degree": ("degrees", 1.0), "calorie": ("energy", 1.0), "kcal": ("energy", 1.0),
}  # fmt: skip
"""Singular to dimension and size. Never converted between dimensions, nor between currencies."""

_TOKEN = re.compile(
    r"(?P<date>\b\d{4}-\d\d-\d\d\b)"
    r"|(?P<code>\b\d{1,4}(?:[./]\d++){2,}+|\b[^\W\d_]{1,10}-?\d[\w.-]*\b)"  # 3.11.2, COVID-19
    r"|(?P<clock>\b\d{1,2}(?::\d\d(?:\s?[ap]\.?m\b)?|\s?[ap]\.?m\b))"
    r"|(?P<number>(?:(?<![\w.)])-)?\d+(?:,\d{3}(?!\d))*(?:\.\d+)?(?:/\d+)?)"
    r"|(?P<degrees>°\s?[CF]?\b)"
    r"|(?P<word>(?:[^\W\d_]\.){2,}|[^\W\d_]+(?:'[^\W\d_]+)*)"
    r"|(?P<sign>[%$€£¥/+#<>=^])"
    r"|(?P<end>[.!?:;\n]+)",
    re.IGNORECASE,
)
_FUNCTION = _words(
    "a an the this that these those it its it's they them their there here he she his her you "
    "your we our us i i'm i'll my me is are was were be been being am do does did have has had "
    "can could will would should shall may might must of in on at to for from by with about into "
    "over under as than then so and or but if when while because which who whom whose what where "
    "how why also just very too up out not no yes never roughly approximately around please sure "
    "certainly course however each per"
)
_NEGATIONS = _words("not no never cannot none neither nor nobody nothing")
_PREDICATES = _words("is are was were has had wrote painted invented won means stands")
"""After the first word of an answer: what stands before is what the answer is about."""
_JOINS = frozenset(("to", "or", "and", "-"))
_RATES = frozenset(("/", "per", "a", "an", "each", "every"))
_CURRENCIES = frozenset("$€£¥")
_YES = re.compile(r"\W*(?:yes|yep|yeah|是的|可以|对)(?![^\W_])", re.IGNORECASE)
_NO = re.compile(
    r"\W*(?:no|nope)(?![\w']|[ -](?:one|problem|worries|matter|doubt|more|need)\b)"
    r"|\W*(?:不是|不可以|不能|不行|不对)",
    re.IGNORECASE,
)
_DEPENDS = re.compile(r"\W*(?:it|that|this) (?:really |all )?depends\b", re.IGNORECASE)


def claims(text: str) -> Claims:
    """Read a folded text. O(len(text))."""
    return _Reader(unmarked(without_code(text))).claims()


def stem(word: str) -> str:
    """Crude, and the same on both sides: folded, singular, American."""
    word = word.casefold().replace(".", "").removesuffix("'s")
    if word.endswith(("metre", "litre", "metres", "litres")):
        word = word.replace("tre", "ter")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


class _Reader:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.tokens: list[str] = []
        end = 0
        for found in _TOKEN.finditer(text):
            if text[end : found.start()].strip() == "-":
                self._add("join", "-")
            self._add(str(found.lastgroup), found[0])
            end = found.end()
        self.quantities: list[Quantity] = []
        self.names: set[str] = set()
        self.words: list[str] = []

    def _add(self, kind: str, token: str) -> None:
        self.kinds.append(kind)
        self.tokens.append(token)

    def _is(self, at: int, *kinds: str) -> bool:
        return at < len(self.kinds) and self.kinds[at] in kinds

    def _folded(self, at: int) -> str:
        return self.tokens[at].casefold() if at < len(self.tokens) else ""

    def claims(self) -> Claims:
        at, opens, small, first = 0, True, set[str](), 0
        while at < len(self.tokens):
            after = self._date(at) or self._quantity(at)
            if after:
                at, opens = after, False
                continue
            kind, token = self.kinds[at], self.tokens[at]
            if kind in ("word", "code"):
                if self._named(at, opens):
                    self.names.add(stem(token))
                elif not opens:
                    small.add(stem(token))
                self.words.append(token.casefold())
            elif kind == "sign":
                self.words.append(token)
            opens = kind == "end"
            first = first or (opens and len(self.words))
            at += 1
        return Claims(
            quantities=tuple(self.quantities[:FACTS_MAX]),
            names=frozenset(sorted(self.names - small)[:FACTS_MAX]),
            words=frozenset(map(stem, self.words)),
            content=tuple(stem(word) for word in self.words if word not in _FUNCTION),
            initials="".join(word[0] for word in self.words),
            lead=_lead(self.text),
            negated=self._negated(first or len(self.words)),
        )

    def _negated(self, words: int) -> bool:
        said = self.words[self.words[:1] == ["no"] : words]
        return sum(word in _NEGATIONS or word.endswith("n't") for word in said) % 2 == 1

    def _named(self, at: int, opens: bool) -> bool:
        token = self.tokens[at]
        if self.kinds[at] == "code":
            return True
        if not token[0].isupper() or token.casefold() in _FUNCTION:
            return False
        return not opens or token[1:].lower() != token[1:] or self._subject(at)

    def _subject(self, at: int) -> bool:
        return at == 0 and (len(self.tokens) == 1 or self._folded(1) in _PREDICATES)

    def _date(self, at: int) -> int:
        """Where a date that starts here ends, or 0."""
        if self.kinds[at] == "date":
            year, month, day = map(int, self.tokens[at].split("-"))
            self._keep("", year, 4)
            return self._day(month, day, at + 1)
        month = _month(self._folded(at))
        if month and self.tokens[at][0].isupper() and self._is(at + 1, "number"):
            day = _whole(self.tokens[at + 1])
            after = at + 3 if self._folded(at + 2) in _ORDINALS else at + 2
            return self._day(month, day, after) if 1 <= day <= 31 else 0
        if self.kinds[at] == "number":
            after = at + 2 if self._folded(at + 1) in _ORDINALS else at + 1
            after += self._folded(after) == "of"
            month, day = _month(self._folded(after)), _whole(self.tokens[at])
            return self._day(month, day, after + 1) if month and 1 <= day <= 31 else 0
        return 0

    def _day(self, month: int, day: int, after: int) -> int:
        self._keep("date", 100 * month + day, 4)
        return after

    def _keep(self, dimension: str, value: float, digits: int, size: float = 1.0) -> None:
        base = (value - 32) / 1.8 if dimension == "fahrenheit" else value * size
        dimension = dimension.replace("fahrenheit", "celsius")
        self.quantities.append(Quantity(dimension, base, value, digits))

    def _quantity(self, at: int) -> int:
        """Where a quantity that starts here ends, or 0: 5 km, $5, 5-10 minutes, 8 glasses a day."""
        if self.kinds[at] == "clock":
            self._keep("clock", _minutes(self.tokens[at].casefold()), 4)
            return at + 1
        currency = self.tokens[at] if self.tokens[at] in _CURRENCIES else ""
        first = self._number(at + 1 if currency else at)
        if first is None:
            return 0
        numbers, after = [first[:2]], first[2]
        if self._folded(after) in _JOINS and (second := self._number(after + 1)):
            numbers.append(second[:2])
            after = second[2]
        dimension, size, after = self._unit(after)
        if not dimension and self._folded(at) == "one" and after == at + 1:
            return 0  # a pronoun
        if currency:  # $5 a month
            dimension = currency + (dimension if dimension == "/time" else "")
        for value, digits in numbers:
            self._keep(dimension, value, digits, size)
        return after

    def _number(self, at: int) -> tuple[float, int, int] | None:
        """Value, significant digits, and where it ends: 1,200, 5 million, three hundred and two."""
        if self._is(at, "number"):
            value, digits = _value(self.tokens[at])
            at += 1
        else:
            value, after = self._below_100(at)
            if after == at:
                return None
            at, digits = after, 0
        while scale := _SCALES.get(self._folded(at)):
            value *= scale
            at += 1
            rest, after = self._below_100(at + (self._folded(at) == "and"))
            if scale == 100 and rest:
                value, at = value + rest, after
        return value, digits or len(f"{value:.0f}".rstrip("0")) or 1, at

    def _below_100(self, at: int) -> tuple[float, int]:
        """A number in words, and where it ends."""
        tens = _TENS.get(self._folded(at), 0)
        if tens:
            at += 1 + self._is(at + 1, "join")
        units = _SMALL.get(self._folded(at), -1)
        if units < 0 or (tens and not 0 < units < 10):
            return tens, at
        return tens + units, at + 1

    def _unit(self, at: int) -> tuple[str, float, int]:
        """Dimension, size and where it ends. What is unknown counts something: no dimension."""
        at += self._folded(at) in _ORDINALS
        start = at
        at += self._folded(at) == "-"  # a two-year warranty
        dimension, size = "", 1.0
        if self._folded(at) in ("degree", "degrees") and self._folded(at + 1) in _HEAT:
            at += 1
        if self._is(at, "degrees") or self._folded(at) in _HEAT:
            letter = self._folded(at).lstrip("° ")[:1]
            dimension = {"f": "fahrenheit", "c": "celsius"}.get(letter, "degrees")
            at += 1
        elif self._is(at, "word", "sign"):
            # One letter is what it is: 5 m, not 5 M.
            token = self.tokens[at]
            dimension, size = _UNITS.get(token if len(token) == 1 else stem(token), ("", 1.0))
            at += dimension != ""
        for rate in (at, at + (dimension == "" and self._is(at, "word"))):
            unit = stem(self._folded(rate + 1))
            if self._folded(rate) in _RATES and (unit in _SECONDS or unit == "s"):
                return dimension + "/time", size / _SECONDS.get(unit, 1.0), rate + 2
        return (dimension, size, at) if dimension else ("", 1.0, start)


_ORDINALS = frozenset(("st", "nd", "rd", "th"))
_HEAT = frozenset(("celsius", "centigrade", "fahrenheit"))


def _lead(text: str) -> Lead | None:
    if _YES.match(text):
        return "yes"
    if _NO.match(text):
        return "no"
    return "depends" if _DEPENDS.match(text) else None


def _month(word: str) -> int:
    return _MONTHS[word[:3]] if _MONTH.fullmatch(word) else 0


def _whole(number: str) -> int:
    return int(number) if number.isascii() and number.isdigit() and len(number) < 3 else 0


def _value(number: str) -> tuple[float, int]:
    whole, _, below = number.replace(",", "").partition("/")
    value = float(whole) / (float(below) or 1.0) if below else float(whole)
    digits = whole.lstrip("-").replace(".", "").lstrip("0")
    return value, max(1, len(digits if "." in whole else digits.rstrip("0")))


def _minutes(clock: str) -> int:
    hour, _, rest = clock.rstrip("apm. ").partition(":")
    half = 12 if "p" in clock else 0
    return (int(hour) % 12 + half if "m" in clock else int(hour)) * 60 + int(rest or 0)
