"""The page for people: what is on it, and what cannot get onto it."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from edge.outlook.chart import chart
from edge.outlook.facts import Facts, Wait
from edge.outlook.health import Health
from edge.outlook.history import HOUR_S, Expected
from edge.outlook.page import POLICY, page
from edge.routing.maintenance import Window
from index.entry import Timestamp

NOW = Timestamp(1_795_672_251.0)
"""2026-11-26T05:50:51Z"""
HOUR = NOW // HOUR_S * HOUR_S
HOSTILE = "\"><script>alert(1)</script><b onclick='x'>&amp;"


def facts(
    load: float | None = 0.5, waits: tuple[Wait, ...] = (), name: str = "one", known: bool = True
) -> Facts:
    shares = [0.1 + 0.05 * at if known else None for at in range(24)]
    return Facts(
        node="fra-1",
        region="eu",
        at=NOW,
        load=load,
        waiting=2,
        waits=waits or (Wait(None, 1.0, 0.0, 15.0),),
        upstreams=[Health(name, "primary", "healthy", Timestamp(NOW - 86_400))],
        maintenance=[Window(name, Timestamp(NOW + 3600), Timestamp(NOW + 10_800))],
        hours=[
            Expected(Timestamp(HOUR + at * HOUR_S), share, weeks=3)
            for at, share in enumerate(shares)
        ],
    )


class Text(HTMLParser):
    """The words of a page, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.style = ""
        self._styles = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._styles = tag == "style"
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self._styles:
            self.style += data
            self._styles = False
        else:
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.words))


def test_it_says_what_there_is_to_say() -> None:
    waits = (Wait(None, 1.0, 3.2, 15.0), Wait("free", 1.0, 21.0, 15.0), Wait("pro", 4.0, 0.0, 15.0))
    text = Text(page(facts(load=1.34, waits=waits))).text
    for part in (
        "Overloaded",
        "134% of capacity",
        "2 prompts wait",
        "without a plan waits about 3 s",
        "free refused: it would take 21 s",
        "pro answered at once",
        "one primary healthy since 25 Nov 05:50",
        "06:50 to 08:50 (2 h)",
        "Calm: 06:00 to 15:00",
        "Best of all: 06:00 to 07:00",
        "All times are UTC",
        "As a table Hour from Expected load 05:00 10%, from 3 weeks",
    ):
        assert part in text, text


def test_the_hour_under_way_is_calm_only_if_it_is() -> None:
    assert "Calm: now to 15:00" in Text(page(facts(load=0.5))).text
    for load in (0.6, 2.0, None):
        assert "Calm: 06:00 to 15:00" in Text(page(facts(load=load))).text


@pytest.mark.parametrize("load", [None, 0.0, 0.3, 0.7, 2.0])
@pytest.mark.parametrize("known", [True, False])
def test_it_is_well_formed_whatever_is_known(load: float | None, known: bool) -> None:
    html = page(facts(load=load, known=known))
    chart = html[html.index('<svg class="chart"') :]
    ElementTree.fromstring(chart[: chart.index("</svg>") + 6])
    opened = [tag for tag, _ in Text(html).elements]
    assert opened.count("h1") == 1
    if not known:
        assert "Too little has been seen yet" in html


def test_names_can_be_nothing_but_text() -> None:
    waits = (Wait(HOSTILE, 1.0, 0.0, 15.0), Wait(None, 1.0, None, 15.0))
    seen = Text(page(facts(name=HOSTILE, waits=waits)))
    assert HOSTILE in seen.text
    assert not [tag for tag, _ in seen.elements if tag in ("script", "b")]


def test_nothing_is_loaded_and_no_script_may_run() -> None:
    seen = Text(page(facts()))
    for tag, attributes in seen.elements:
        assert tag not in ("script", "img", "iframe", "object", "embed")
        assert not {name for name in attributes if name.startswith("on") or name == "style"}
        address = attributes.get("href") or attributes.get("src") or ""
        assert address in ("", "data:,", "/v1/status")
    digest = b64encode(sha256(seen.style.encode()).digest()).decode()
    assert POLICY.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "url(http" not in seen.style
    assert "@import" not in seen.style


@pytest.mark.parametrize("first", range(24))
def test_no_hour_sticks_out_on_a_telephone(first: int) -> None:
    """Of a page 390 pixels wide the chart has 316, and half of `00:00` takes 17."""
    hours = [Expected(Timestamp(HOUR + (first + at) * HOUR_S), 0.5) for at in range(24)]
    middles = re.findall(r'<text x="([0-9.]+)%" [^>]*"middle"', chart(hours))
    assert len(middles) >= 6
    assert all(316 * float(middle) / 100 + 17 <= 316 for middle in middles)


def test_it_can_be_read_without_seeing_it() -> None:
    seen = Text(page(facts()))
    named = {value for _, attributes in seen.elements if (value := attributes.get("id"))}
    for tag, attributes in seen.elements:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in named
        if tag == "html":
            assert attributes["lang"] == "en"
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert "05:00 UTC 10%, from 3 weeks" in seen.text  # the picture in words
