"""Do the settings go together? What no single value shows, told all at once."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from edge import cors, listen
from edge.admission.source import Networks
from edge.config import Config
from edge.regional import settings as regional
from edge.routing import maintenance
from edge.routing.settings import UpstreamSettings
from index.eligibility import check_overrides
from index.entry import LABEL_CHARS_MAX

ROUTE_LABELS_MAX = 16

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def problems(config: Config) -> Iterator[str]:
    """A line for each that would keep a node from starting."""
    yield from _of_node(config)
    yield from _of_visitors(config)
    yield from _of_routes(config)
    yield from of_upstreams(config.upstreams)
    yield from _of_names(config)
    if wrong := regional.problem(config.redis):
        yield wrong
    if config.admission.quotas == "strict" and not config.redis.url:
        yield 'admission.quotas: "strict" counts in Redis; set redis.url, or "shared"'


def _of_node(config: Config) -> Iterator[str]:
    node, tls = config.node, config.tls
    if not _TOKEN.fullmatch(node.name):
        yield (
            f"node.name: must be letters, digits and -._ and begin with a letter, is {node.name!r}"
        )
    if bool(tls.certificate) != bool(tls.key):
        yield "tls: certificate and key belong together; set both or neither"
    if not (node.listen or node.plain):
        yield "node: listen and plain are both off; nobody could reach this node"
    for name in ("listen", "plain", "admin"):
        text = getattr(node, name)
        try:
            if text:
                listen.parse(text)
        except listen.ListenError as exc:
            yield f"node.{name}: {exc}"


def _of_visitors(config: Config) -> Iterator[str]:
    """Who may come from where, and what it may use."""
    try:
        Networks(config.protection.trusted)
    except ValueError as exc:
        yield f"protection.trusted: {exc}; name networks, such as 10.0.0.0/8 or 2001:db8::/32"
    for origin in config.cors.allow_origins:
        if cors.wrong(origin):
            yield (
                f"cors.allow_origins: {origin!r} is no origin; write it as browsers do, such as"
                " https://chat.example or http://localhost:3000, without a path, or *"
            )
    named = [one.name for one in config.plans]
    known = ", ".join(sorted(named)) or "none"
    if len(set(named)) < len(named):
        yield f"plans: two have the same name; there are {known}"
    for at, key in enumerate(config.keys):
        if key.plan and key.plan not in named:
            yield f"keys[{at}].plan: there is no plan {key.plan!r}; [[plans]]: {known}"


def _of_routes(config: Config) -> Iterator[str]:
    places = {f"routes[{at}].classes": one.classes for at, one in enumerate(config.routes)}
    for place, classes in {"cache.classes": config.cache.classes, **places}.items():
        try:
            check_overrides(classes)
        except ValueError as exc:
            yield f"{place}: {exc}"
    for at, one in enumerate(config.routes):
        for label in (f"route:{one.model}", *one.labels):
            if not 0 < len(label) <= LABEL_CHARS_MAX:
                yield f"routes[{at}]: {label!r} is not a label of 1 to {LABEL_CHARS_MAX} characters"
        if len(one.labels) > ROUTE_LABELS_MAX:
            yield f"routes[{at}].labels: at most {ROUTE_LABELS_MAX}"


def of_upstreams(settings: Iterable[UpstreamSettings]) -> Iterator[str]:
    taken = set()
    for at, one in enumerate(settings):
        if not is_base_url(one.base_url):
            shown = "holds a user or password" if "@" in one.base_url else f"is {one.base_url!r}"
            yield f"upstreams[{at}].base_url: must be http(s)://HOST[:PORT][/PATH], {shown}"
        elif name_of(one) in taken:
            yield f"upstreams[{at}].name: {name_of(one)!r} is taken; give each its own"
        taken.add(name_of(one))


def name_of(one: UpstreamSettings) -> str:
    """What it is called: as it was said, or after its host."""
    return one.name or one.base_url.split("//", 1)[-1].split("/", 1)[0]


def is_base_url(text: str) -> bool:
    try:
        port = urlsplit(text).port
    except ValueError:
        return False
    plain = re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", text) is not None
    return plain and port != 0


def _of_names(config: Config) -> Iterator[str]:
    """Are there the upstreams and regions that other settings name?"""
    names = {name_of(one) for one in config.upstreams}
    for at, one in enumerate(config.maintenance):
        if one.upstream not in names:
            yield f"maintenance[{at}].upstream: there is no upstream {one.upstream!r}"
        if why := maintenance.wrong(one):
            yield f"maintenance[{at}]: {why}"
    regions = {one.region for one in config.upstreams}
    asked = {f"routes[{at}].regions": one.regions for at, one in enumerate(config.routes)}
    asked |= {f"keys[{at}].regions": one.regions or () for at, one in enumerate(config.keys)}
    for place, wanted in asked.items():
        if wanted and not regions & set(wanted):
            yield f"{place}: no upstream is in {' or '.join(wanted)}"
