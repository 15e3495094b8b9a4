"""The public page, of one piece: no script, nothing loaded from anywhere, made anew each time.

All that comes from the configuration is escaped, and the policy that goes with it
(`Content-Security-Policy`) allows this style sheet alone, so that a name can be nothing but text.
"""

import datetime as dt
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from edge.outlook.chart import chart, clock, words
from edge.outlook.facts import Facts, Wait, iso
from edge.outlook.health import Health, Word
from edge.outlook.history import Expected
from edge.outlook.load import Level, level
from edge.outlook.quiet import CALM, Span, calmest, quiet
from edge.routing.maintenance import Window
from edge.routing.settings import Tier
from index.entry import Timestamp

REFRESH_S = 30
_STYLE = Path(__file__).with_name("page.css").read_text("utf-8")
_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_HEADLINES: dict[Level, tuple[str, str]] = {
    "idle": ("Quiet", "Prompts are answered at once."),
    "normal": ("Normal", "Prompts are answered at once."),
    "busy": ("Busy", "New prompts may have to wait. Stored answers are served at full speed."),
    "overloaded": (
        "Overloaded",
        "New prompts wait, and some are refused. Stored answers are served at full speed.",
    ),
    "unavailable": (
        "No model available",
        "New prompts cannot be answered now. Stored answers are served at full speed.",
    ),
}
_STATES: dict[Word, str] = {
    "healthy": "healthy",
    "slow": "slower than usual",
    "limited": "at its rate limit",
    "down": "down",
    "draining": "taken out of service",
    "maintenance": "in maintenance",
}
_TIERS: dict[Tier, str] = {
    "primary": "primary",
    "secondary": "secondary",
    "local": "stand-in",
}


def page(facts: Facts) -> str:
    title, said = _HEADLINES[level(facts.load)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="{REFRESH_S}">
<title>{escape(title)}: status of {escape(facts.node)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<header>
<p class="where">{escape(" · ".join(filter(None, (facts.node, facts.region))))}</p>
<h1>Status</h1>
</header>
<main>
<section class="banner {level(facts.load)}" aria-labelledby="now">
<h2 id="now"><span class="dot" aria-hidden="true"></span>{escape(title)}</h2>
<p>{escape(said)}</p>
{_meter(facts.load)}
</section>
{_section("upstreams", "Upstreams", _upstreams(facts.upstreams, facts.at))}
{_section("waiting", "Waiting", _waits(facts.waits, facts.waiting))}
{_section("maintenance", "Maintenance", _work(facts.maintenance, facts.at))}
{_section("ahead", "Next 24 hours", _ahead(facts))}
</main>
<footer>
<p>As of {iso(facts.at)}. All times are UTC. This page renews itself every
{REFRESH_S} seconds; programs read <a href="/v1/status">/v1/status</a>.</p>
</footer>
</body>
</html>
"""


def _section(name: str, title: str, content: str) -> str:
    head = f'<h2 id="{name}">{title}</h2>'
    return f'<section class="{name}" aria-labelledby="{name}">{head}{content}</section>'


def _meter(load: float | None) -> str:
    if load is None:
        return ""
    width = min(load, 1.0) * 100
    return (
        '<svg class="meter" width="100%" height="8" aria-hidden="true">'
        '<rect class="track" width="100%" height="8" rx="4"/>'
        f'<rect class="fill" width="{width:.1f}%" height="8" rx="4"/></svg>'
        f'<p class="small">Load: {load:.0%} of capacity</p>'
    )


def _waits(waits: Sequence[Wait], waiting: int) -> str:
    some = f"{waiting} {'prompt waits' if waiting == 1 else 'prompts wait'} for an upstream."
    said = "<p>Nobody waits.</p>" if not waiting else f"<p>{some}</p>"
    rows = [(_plan(one, waits), escape(_wait(one))) for one in waits]
    return said + _list(rows)


def _plan(one: Wait, waits: Sequence[Wait]) -> str:
    if one.plan is not None:
        return escape(one.plan)
    return "without a plan" if len(waits) > 1 else "a prompt that comes now"


def _wait(one: Wait) -> str:
    if one.predicted_s is None:
        return "cannot be answered"
    if not one.predicted_s:
        return "answered at once"
    if one.predicted_s > one.most_s:
        return f"refused: it would take {_length(one.predicted_s)}"
    return f"waits about {_length(one.predicted_s)}"


def _upstreams(upstreams: Iterable[Health], now: Timestamp) -> str:
    rows = [
        (
            f"{escape(one.name)} <small>{_TIERS[one.tier]}</small>",
            f'<span class="state {one.word}">{_STATES[one.word]}</span> '
            f"<small>since {_time(one.since, now)}</small>",
        )
        for one in upstreams
    ]
    return _list(rows) or "<p>There is none yet.</p>"


def _work(windows: Iterable[Window], now: Timestamp) -> str:
    rows = [(escape(one.upstream), _when(one, now)) for one in windows]
    return _list(rows) or "<p>None is planned.</p>"


def _when(one: Window, now: Timestamp) -> str:
    length = f" <small>({_length(one.ends - one.begins)})</small>"
    if one.holds(now):
        return f"<strong>now</strong>, until {_time(one.ends, now)}{length}"
    return f"{_time(one.begins, now)} to {_time(one.ends, one.begins)}{length}"


def _list(rows: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return f"<dl>{items}</dl>" if items else ""


def _ahead(facts: Facts) -> str:
    legend = (
        '<p class="legend small"><span class="calm">calm, under 60%</span> '
        '<span class="full">busier</span> <span class="unknown">not known yet</span></p>'
    )
    advice, table = _advice(facts.to_come_in, facts.at), _table(facts.hours, facts.at)
    return advice + chart(facts.hours) + legend + table


def _advice(hours: Sequence[Expected], now: Timestamp) -> str:
    spans, best = quiet(hours), calmest(hours)
    if spans is None or best is None or best.utilisation is None:
        return "<p>Too little has been seen yet to tell which hours will be calm.</p>"
    what = "Calm" if best.utilisation < CALM else "No hour will be calm. Least busy"
    named = ", ".join(_span(one, now) for one in spans)
    return f"<p>{what}: <strong>{named}</strong>. Best of all: {_span(best, now)}.</p>"


def _span(span: Span | Expected, now: Timestamp) -> str:
    begins = "now" if span.begins <= now else clock(span.begins)
    return f"{begins} to {clock(span.ends)}"


def _table(hours: Iterable[Expected], now: Timestamp) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_time(one.begins, now)}</th><td>{escape(words(one))}</td></tr>'
        for one in hours
    )
    return (
        "<details><summary>As a table</summary><table><thead><tr>"
        '<th scope="col">Hour from</th><th scope="col">Expected load</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _time(moment: float, beside: float) -> str:
    """With its day, if that is another than of the one beside."""
    then, today = (dt.datetime.fromtimestamp(at, dt.UTC) for at in (moment, beside))
    shown = f"{then:%H:%M}" if then.date() == today.date() else f"{then:%-d %b %H:%M}"
    return f'<time datetime="{iso(moment)}">{shown}</time>'


def _length(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return (
        f"{round(seconds / 3600, 1):g} h" if seconds < 72 * 3600 else f"{seconds / 86_400:.0f} days"
    )
