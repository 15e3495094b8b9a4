"""One notation for what has several: 5th of May and May 5, 3 pm and 15:00, two weeks and 14 days.

Only what is exact: a month is no number of days, and 7:30 is not known to be in the evening. The
libraries that read dates and quantities were measured: dateparser takes 2.6 ms a text, quantulum3
1.1 ms and 2.2 s to start, and both guess where this must not; pint converts, but finds nothing, for
31 MB. These patterns take 10 us.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from index import lexicon

MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH_NAMES: Final[Mapping[str, int]] = {
    name: number
    for number, month in enumerate(MONTHS, 1)
    for name in {month, month[:3], "sept" if month == "september" else month}
}
_MONTH = "(" + "|".join(sorted(_MONTH_NAMES, key=len, reverse=True)) + r")\b\.?"
_DAY_FIRST = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? (?:of )?(\d{{4}})\b)?"
)
_MONTH_FIRST = re.compile(
    rf"\b{_MONTH} (?:the )?(\d{{1,2}})(?:(?:st|nd|rd|th)\b|(?![\w:]))(?:,? (\d{{4}})\b)?"
)
_MONTH_OF_YEAR = re.compile(rf"\b{_MONTH},? (?:of )?(\d{{4}})\b")
_ISO = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_CLOCK = re.compile(r"\b(\d{1,2})(?:[:.](\d{2}))? ?([ap])\.?m\b\.?|\b(\d{1,2}):(\d{2})\b(?!:)")
_NOON = re.compile(r"\b(?:12 )?(noon|midnight)\b")
_MONEY = re.compile(r"([$€£¥₹]) ?(\d[\d,]*(?:\.\d+)?)( ?(?:k|m|bn|thousand|million|billion)\b)?")
_CODED = re.compile(r"\b(usd|eur|gbp|jpy|inr|cny) ?(\d[\d,]*(?:\.\d+)?)")
_CURRENCIES: Final = {"$": "dollar", "€": "euro", "£": "quid", "¥": "yen", "₹": "rupee"}


def dated(text: str) -> str:
    """The lower-case text with dates and times as `@05-05`, `@2024-05-05`, `@15:00`; money as
    amount and currency."""
    if not any(character.isdigit() for character in text):
        return _NOON.sub(_at_noon, text)
    text = _ISO.sub(lambda m: _date(int(m[2]), int(m[3]), m[1], m[0]), text)
    text = _DAY_FIRST.sub(lambda m: _date(_MONTH_NAMES[m[2]], int(m[1]), m[3], m[0]), text)
    text = _MONTH_FIRST.sub(lambda m: _date(_MONTH_NAMES[m[1]], int(m[2]), m[3], m[0]), text)
    text = _MONTH_OF_YEAR.sub(lambda m: f"@{m[2]}-{_MONTH_NAMES[m[1]]:02}", text)
    text = _NOON.sub(_at_noon, _CLOCK.sub(_time, text))
    text = _MONEY.sub(lambda m: f"{m[2]}{m[3] or ''} {_CURRENCIES[m[1]]}", text)
    return _CODED.sub(r"\2 \1", text)


def _date(month: int, day: int, year: str | None, written: str) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return written
    return f"@{year}-{month:02}-{day:02}" if year else f"@{month:02}-{day:02}"


def _time(match: re.Match[str]) -> str:
    if match[3]:
        hour, minute = int(match[1]), int(match[2] or 0)
        if not 1 <= hour <= 12:
            return match[0]
        return f"@{hour % 12 + 12 * (match[3] == 'p'):02}:{minute:02}"
    hour, minute = int(match[4]), int(match[5])
    of_24 = hour > 12 or match[4].startswith("0")
    return f"@{hour:02}:{minute:02}" if of_24 else match[0]


def _at_noon(match: re.Match[str]) -> str:
    return "@12:00" if match[1] == "noon" else "@00:00"


_SCALES: Final[Mapping[str, tuple[str, int]]] = {
    **dict.fromkeys(("second", "sec"), ("second", 1)),
    **dict.fromkeys(("minute", "min"), ("second", 60)),
    **dict.fromkeys(("hour", "hr"), ("second", 3_600)),
    "day": ("second", 86_400),
    **dict.fromkeys(("week", "wk"), ("second", 604_800)),
    "month": ("month", 1),
    **dict.fromkeys(("year", "yr"), ("month", 12)),
    **dict.fromkeys(("millimeter", "millimetre", "mm"), ("millimeter", 1)),
    **dict.fromkeys(("centimeter", "centimetre", "cm"), ("millimeter", 10)),
    **dict.fromkeys(("meter", "metre"), ("millimeter", 1_000)),
    **dict.fromkeys(("kilometer", "kilometre", "km"), ("millimeter", 1_000_000)),
    **dict.fromkeys(("milligram", "mg"), ("milligram", 1)),
    **dict.fromkeys(("gram", "gramme"), ("milligram", 1_000)),
    **dict.fromkeys(("kilogram", "kilogramme", "kilo", "kg"), ("milligram", 1_000_000)),
    **dict.fromkeys(("milliliter", "millilitre", "ml"), ("milliliter", 1)),
    **dict.fromkeys(("liter", "litre"), ("milliliter", 1_000)),
}
"""Units, and how many of which smaller unit they are."""

Pieces = list[tuple[str, str]]


def joined(pieces: Pieces) -> Pieces:
    """Numbers in words become digits: *twenty five thousand* is 25000, *2.5 million* 2500000."""
    found: Pieces = []
    at = 0
    while at < len(pieces):
        length, value = _number_at(pieces, at)
        if length:
            found.append(("number", value))
            at += length
        else:
            found.append(pieces[at])
            at += 1
    return found


def _number_at(pieces: Pieces, at: int) -> tuple[int, str]:
    group, text = pieces[at]
    if group == "number":
        scale = pieces[at + 1][1] if at + 1 < len(pieces) else ""
        if scale in lexicon.SCALES or scale == "k":
            whole = float(text.replace(",", "")) if text.count(".") < 2 else 0.0
            return 2, f"{whole * lexicon.SCALES.get(scale, 1000):.10g}"
        return 0, ""
    if text not in lexicon.NUMBER_WORDS or group != "word":
        return 0, ""
    total, current, length = 0, 0, 0
    last = 0
    for _, word in pieces[at:]:
        if word in lexicon.NUMBER_WORDS:
            value = lexicon.NUMBER_WORDS[word]
            if length and not (last >= 20 and last % 10 == 0 and value < 10) and last != 100:
                break
            current += value
            last = value
        elif word == "hundred":
            current, last = current * 100, 100
        elif word in lexicon.SCALES:
            total, current, last = total + current * lexicon.SCALES[word], 0, 100
        else:
            break
        length += 1
    return length, str(total + current)


def converted(pieces: Pieces) -> Pieces:
    """Quantities in the smallest unit of their kind, unless the text is about that kind of unit.

    *How many days are two weeks* asks for a conversion, and so would be another question.
    """
    units = [_scale(text) for group, text in pieces if group == "word"]
    if not any(units):
        return pieces
    found = list(pieces)
    measured = 0
    for at in range(1, len(pieces)):
        scale = _scale(pieces[at][1]) if pieces[at - 1][0] == "number" else None
        if scale is None:
            continue
        try:
            value = Decimal(pieces[at - 1][1].replace(",", "")) * scale[1]
        except InvalidOperation:  # 3.10.1 is a version
            continue
        measured += 1
        found[at - 1 : at + 1] = ("number", f"{value.normalize():f}"), ("word", scale[0])
    return found if measured == sum(unit is not None for unit in units) else pieces


def _scale(word: str) -> tuple[str, int] | None:
    return _SCALES.get(word) or (_SCALES.get(word[:-1]) if word.endswith("s") else None)
