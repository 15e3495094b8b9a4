"""Whether a node could start with a configuration, short of starting it.

What no single value shows is checked here, and what is made of settings and files on the way (keys,
upstreams, TLS) is what the node is then built of.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from edge import cors, identity, listen
from edge.admission import key_format
from edge.admission.keys import KEY_CHARS_MAX, KeyRing
from edge.admission.source import Networks
from edge.config import Config, ConfigError, KeySettings
from edge.policy import ReachName
from edge.regional import settings as regional
from edge.routing import maintenance
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from edge.wire.upstream import key_of
from index.eligibility import check_overrides
from index.entry import LABEL_CHARS_MAX
from sync.enrolment import DEFAULT_REGION

ROUTE_LABELS_MAX = 16

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for HTTP/1.1. ALPN names what is spoken on TCP and nothing else (no h2 yet).

    Raises:
        ConfigError: the files are not a certificate and its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"tls: {certificate} and {key} cannot be used: {exc}") from exc
    return context


def key_ring(settings: tuple[KeySettings, ...], environ: Mapping[str, str]) -> KeyRing:
    keys: dict[str, str] = {}
    residency: dict[str, tuple[str, ...]] = {}
    plans: dict[str, str] = {}
    regions: dict[str, tuple[str, ...]] = {}
    for at, one in enumerate(settings):
        place = f"keys[{at}]"
        if bool(one.key_file) == bool(one.key_env):
            raise ConfigError(f"{place}: set one of key_file and key_env")
        if one.key_env and not one.key_env.isidentifier():  # likely the key itself: not shown
            raise ConfigError(f"{place}.key_env: must be the name of a variable")
        try:
            key = one.key_file.read_text("ascii") if one.key_file else environ[one.key_env]
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{place}.key_file: {one.key_file} cannot be read: {exc}") from exc
        except KeyError as exc:
            raise ConfigError(f"{place}.key_env: the variable {exc} is not set") from exc
        key = key.strip()
        if not re.fullmatch(rf"[!-~]{{1,{KEY_CHARS_MAX}}}", key):
            raise ConfigError(
                f"{place}: a key is 1 to {KEY_CHARS_MAX} printable ASCII characters without spaces"
            )
        if key.startswith(key_format.PREFIX) and not key_format.well_formed(key):
            raise ConfigError(
                f"{place}: what begins with {key_format.PREFIX} ends with a checksum, and this does"
                " not; make one with promptedge keys create, or choose another form"
            )
        if key in keys:
            raise ConfigError(f"{place}: this key belongs to another tenant already")
        keys[key] = one.tenant
        plans[key] = one.plan
        if one.residency is not None:
            residency[key] = one.residency
        if one.regions is not None:
            regions[key] = one.regions
    return KeyRing(keys, residency, plans, regions)


def upstreams(settings: tuple[UpstreamSettings, ...]) -> list[Upstream]:
    made: list[Upstream] = []
    for at, one in enumerate(settings):
        if not _is_base_url(one.base_url):
            shown = "holds a user or password" if "@" in one.base_url else f"is {one.base_url!r}"
            raise ConfigError(
                f"upstreams[{at}].base_url: must be http(s)://HOST[:PORT][/PATH], {shown}"
            )
        name = one.name or one.base_url.split("//", 1)[1].split("/", 1)[0]
        if name in {other.name for other in made}:
            raise ConfigError(f"upstreams[{at}].name: {name!r} is taken; give each its own")
        made.append(Upstream(one, name, frozenset(one.models)))
    return made


def _is_base_url(text: str) -> bool:
    try:
        port = urlsplit(text).port
    except ValueError:
        return False
    plain = re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", text) is not None
    return plain and port != 0


def upstream_key(upstream: Upstream, environ: Mapping[str, str]) -> str | None:
    try:
        return key_of(upstream.settings, environ)
    except ValueError as exc:
        raise ConfigError(f"upstreams: {upstream.name}: {exc}") from exc


def redis_password(config: Config, environ: Mapping[str, str]) -> str | None:
    if not config.redis.url:
        return None
    try:
        return regional.password_of(config.redis, environ)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def warnings(config: Config) -> list[str]:
    """What works, and is better changed."""
    return [found for found in (regional.warning(config.redis), _regionless(config)) if found]


def _regionless(config: Config) -> str | None:
    """Of a node that is to be in a fleet and was not told where it is. Of one that is in one:
    `edge.advice`."""
    sync = config.sync
    wanted = sync.listen or sync.address or sync.parents or sync.relay or sync.nats.urls
    stays = bool(config.keys) and "region" in reaches(config, keys=True)
    if not wanted or sync.region or not stays:
        return None
    return (
        "sync.region: not set, and with API keys answers stay in the region of the node that"
        " fetched them: they are shared only with nodes that have none either, or with the region"
        ' that this node joined in. Set it, or cache.reach = "fleet"'
    )


def check_files(config: Config, environ: Mapping[str, str]) -> None:
    """Everything that would keep a node from starting, short of starting it. Raises ConfigError."""
    check_values(config)
    key_ring(config.keys, environ)
    for upstream in upstreams(config.upstreams):
        upstream_key(upstream, environ)
    redis_password(config, environ)
    if config.tls.certificate and config.tls.key:
        server_tls(config.tls.certificate, config.tls.key)
    if config.fleet.secret_file:
        try:
            identity.fleet_secret(config.fleet.secret_file, config.node.data)
        except identity.IdentityError as exc:
            raise ConfigError(f"fleet.secret_file: {exc}") from exc


def check_values(config: Config) -> None:
    """What no single value shows. Raises ConfigError."""
    if not _TOKEN.fullmatch(config.node.name):
        raise ConfigError(
            f"node.name: must be letters, digits and -._ and begin with a letter,"
            f" is {config.node.name!r}"
        )
    if bool(config.tls.certificate) != bool(config.tls.key):
        raise ConfigError("tls: certificate and key belong together; set both or neither")
    if not (config.node.listen or config.node.plain):
        raise ConfigError("node: listen and plain are both off; nobody could reach this node")
    try:
        Networks(config.protection.trusted)
    except ValueError as exc:
        raise ConfigError(
            f"protection.trusted: {exc}; name networks, such as 10.0.0.0/8 or 2001:db8::/32"
        ) from exc
    for origin in config.cors.allow_origins:
        if cors.wrong(origin):
            raise ConfigError(
                f"cors.allow_origins: {origin!r} is no origin; write it as browsers do, such as"
                " https://chat.example or http://localhost:3000, without a path, or *"
            )
    named = [one.name for one in config.plans]
    if len(set(named)) < len(named):
        raise ConfigError(f"plans: two have the same name; there are {', '.join(sorted(named))}")
    for at, key in enumerate(config.keys):
        if key.plan and key.plan not in named:
            known = ", ".join(sorted(named)) or "none"
            raise ConfigError(f"keys[{at}].plan: there is no plan {key.plan!r}; [[plans]]: {known}")
    places = {f"routes[{at}].classes": one.classes for at, one in enumerate(config.routes)}
    for place, classes in {"cache.classes": config.cache.classes, **places}.items():
        try:
            check_overrides(classes)
        except ValueError as exc:
            raise ConfigError(f"{place}: {exc}") from exc
    for at, one in enumerate(config.routes):
        for label in (f"route:{one.model}", *one.labels):
            if not 0 < len(label) <= LABEL_CHARS_MAX:
                raise ConfigError(
                    f"routes[{at}]: {label!r} is not a label of 1 to {LABEL_CHARS_MAX} characters"
                )
        if len(one.labels) > ROUTE_LABELS_MAX:
            raise ConfigError(f"routes[{at}].labels: at most {ROUTE_LABELS_MAX}")
    _check_upstreams(config)
    if wrong := regional.problem(config.redis):
        raise ConfigError(wrong)
    if config.admission.quotas == "strict" and not config.redis.url:
        raise ConfigError('admission.quotas: "strict" counts in Redis; set redis.url, or "shared"')
    for name in ("listen", "plain", "admin"):
        text = getattr(config.node, name)
        try:
            if text:
                listen.parse(text)
        except listen.ListenError as exc:
            raise ConfigError(f"node.{name}: {exc}") from exc


def _check_upstreams(config: Config) -> None:
    """Are there the upstreams and regions that other settings name? Raises ConfigError."""
    there = upstreams(config.upstreams)
    for at, one in enumerate(config.maintenance):
        if one.upstream not in {upstream.name for upstream in there}:
            raise ConfigError(f"maintenance[{at}].upstream: there is no upstream {one.upstream!r}")
        if why := maintenance.wrong(one):
            raise ConfigError(f"maintenance[{at}]: {why}")
    regions = {upstream.settings.region for upstream in there}
    asked = {f"routes[{at}].regions": one.regions for at, one in enumerate(config.routes)}
    asked |= {f"keys[{at}].regions": one.regions or () for at, one in enumerate(config.keys)}
    for place, names in asked.items():
        if names and not regions & set(names):
            raise ConfigError(f"{place}: no upstream is in {' or '.join(names)}")


def check_residency(config: Config, region: str) -> None:
    """Raises ConfigError when a tenant's answers may be kept in regions, and the node, whose region
    that is, does not know where it is: none of them would be kept, and nobody would notice."""
    for at, key in enumerate(config.keys):
        if region == DEFAULT_REGION and key.residency and region not in key.residency:
            raise ConfigError(
                f"keys[{at}].residency: answers may be kept in {' or '.join(key.residency)}, and"
                " this node does not know where it is, so it would keep none: set sync.region"
            )


def reaches(config: Config, *, keys: bool) -> frozenset[ReachName]:
    """How far answers may travel, on all routes of a node that asks for API `keys` or not."""
    default: ReachName = config.cache.reach or ("region" if keys else "fleet")
    return frozenset([default, *(one.reach or default for one in config.routes)])
