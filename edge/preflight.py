"""Whether a node could start with a configuration, short of starting it.

What is made of settings and files on the way (keys, upstreams, TLS) is what the node is then built
of. All that is wrong is told at once.
"""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from edge import coherence, identity
from edge.admission import key_format
from edge.admission.keys import KEY_CHARS_MAX, KeyRing
from edge.config import Config, ConfigError, KeySettings
from edge.policy import ReachName
from edge.regional import settings as regional
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from edge.wire.tls import ServerTls
from edge.wire.upstream import key_of
from sync.enrolment import DEFAULT_REGION


def server_tls(certificate: Path, key: Path) -> ServerTls:
    """TLS for HTTP/1.1. ALPN names what is spoken on TCP and nothing else (no h2 yet).

    Raises:
        ConfigError: the files are not a certificate and its key.
    """
    context = ServerTls(ssl.PROTOCOL_TLS_SERVER)
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
    problems = []
    for at, one in enumerate(settings):
        place = f"keys[{at}]"
        try:
            key = _key(place, one, environ)
        except ConfigError as exc:
            problems.append(str(exc))
            continue
        if key in keys:
            problems.append(f"{place}: this key belongs to another tenant already")
        keys[key] = one.tenant
        plans[key] = one.plan
        if one.residency is not None:
            residency[key] = one.residency
        if one.regions is not None:
            regions[key] = one.regions
    _refuse(problems)
    return KeyRing(keys, residency, plans, regions)


def _key(place: str, one: KeySettings, environ: Mapping[str, str]) -> str:
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
    return key


def upstreams(settings: tuple[UpstreamSettings, ...]) -> list[Upstream]:
    _refuse([*coherence.of_upstreams(settings)])
    return _made(settings)


def _made(settings: tuple[UpstreamSettings, ...]) -> list[Upstream]:
    """Those with a good URL: the name of another may hold a password."""
    good = [one for one in settings if coherence.is_base_url(one.base_url)]
    return [Upstream(one, coherence.name_of(one), frozenset(one.models)) for one in good]


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
    """Everything that would keep a node from starting, short of starting it.

    Raises:
        ConfigError: listing every problem.
    """
    _refuse([*coherence.problems(config), *_files(config, environ)])


def check_values(config: Config) -> None:
    """What no single value shows.

    Raises:
        ConfigError: listing every problem.
    """
    _refuse([*coherence.problems(config)])


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))


def _problem(check: Callable[[], object]) -> Iterator[str]:
    """What `check` raises, if it does."""
    try:
        check()
    except ConfigError as exc:
        yield str(exc)


def _files(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    yield from _problem(lambda: key_ring(config.keys, environ))
    for upstream in _made(config.upstreams):
        yield from _problem(partial(upstream_key, upstream, environ))
    yield from _problem(lambda: redis_password(config, environ))
    tls, secret_file = config.tls, config.fleet.secret_file
    if tls.certificate and tls.key:
        yield from _problem(partial(server_tls, tls.certificate, tls.key))
    if secret_file:
        try:
            identity.fleet_secret(secret_file, config.node.data)
        except identity.IdentityError as exc:
            yield f"fleet.secret_file: {exc}"


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
