"""The next 24 hours as a bar chart: inline SVG, made here, so that a page needs no script.

It has no viewBox: bars are as wide as the page lets them be, in shares of it, and words keep their
size on a telephone.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from html import escape

from edge.outlook.history import Expected
from edge.outlook.quiet import CALM

HEIGHT, BASE, TOP = 180.0, 152.0, 18.0
"""In pixels: of all, of the bars' foot, of the line that is 100 %."""
LABEL_EVERY = 3
GAP = 0.18
"""Of a bar's place."""


def chart(hours: Sequence[Expected]) -> str:
    if not hours:
        return ""
    most = max([1.0, *(one.utilisation or 0.0 for one in hours)])
    place = 100 / len(hours)
    bars = "".join(_bar(one, at * place, place, most) for at, one in enumerate(hours))
    # The last one's would stick out of a page that is as narrow as a telephone.
    labels = "".join(_label(one, (at + 0.5) * place, at) for at, one in enumerate(hours[:-1]))
    return (
        f'<svg class="chart" width="100%" height="{HEIGHT:.0f}" role="img" '
        'aria-labelledby="chart-title chart-text">'
        '<title id="chart-title">Expected load in the next 24 hours</title>'
        f'<desc id="chart-text">{escape(_in_words(hours))}</desc>'
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect class="hatch" width="2" height="6"/></pattern></defs>'
        f"{_line(1.0, most)}{bars}{_line(CALM, most)}"
        f'<line class="foot" x1="0" x2="100%" y1="{BASE}" y2="{BASE}"/>{labels}</svg>'
    )


def words(one: Expected) -> str:
    """What is expected of one hour, and how well that is known."""
    if one.utilisation is None:
        return "not known yet"
    if one.weeks:
        return f"{one.utilisation:.0%}, from {_count(one.weeks, 'week')}"
    return f"{one.utilisation:.0%}, from this hour of {_count(one.days, 'other day')}"


def clock(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%H:%M")


def _bar(one: Expected, left: float, place: float, most: float) -> str:
    known = one.utilisation is not None
    height = (BASE - TOP) * (one.utilisation or 0.0) / most if known else BASE - TOP
    kind = "unknown" if one.utilisation is None else "calm" if one.utilisation < CALM else "full"
    height = max(height, 2.0)
    return (
        f'<rect class="bar {kind}" x="{left + place * GAP / 2:.2f}%" y="{BASE - height:.1f}" '
        f'width="{place * (1 - GAP):.2f}%" height="{height:.1f}" rx="2">'
        f"<title>{clock(one.begins)}–{clock(one.ends)} UTC: {escape(words(one))}</title></rect>"  # noqa: RUF001
    )


def _label(one: Expected, middle: float, at: int) -> str:
    if at == 0:
        return f'<text class="now" x="0" y="{BASE + 20}">now</text>'
    if int(one.begins // 3600) % LABEL_EVERY or at <= LABEL_EVERY:  # or it would touch the first
        return ""
    return (
        f'<text x="{middle:.2f}%" y="{BASE + 20}" text-anchor="middle">{clock(one.begins)}</text>'
    )


def _line(share: float, most: float) -> str:
    y = BASE - (BASE - TOP) * share / most
    return (
        f'<line class="mark" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="mark" x="100%" y="{y - 4:.1f}" text-anchor="end">{share:.0%}</text>'
    )


def _in_words(hours: Iterable[Expected]) -> str:
    return "; ".join(f"{clock(one.begins)} UTC {words(one)}" for one in hours)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
