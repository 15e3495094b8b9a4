"""Every setting of a node: defaults, then one TOML file, then the environment, then flags.

Each part owns its settings and documents them; this module composes them, reads them and says
exactly which line of which source is wrong. An environment variable is named after its setting:
`PROMPTEDGE__CACHE__TTL_S=600` is `[cache] ttl_s = 600`; its value is read as TOML, or else as text.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, MinLen
from pydantic import TypeAdapter, ValidationError

from edge.admission.plans import PlanSettings
from edge.cors import CorsSettings
from edge.line import AdmissionSettings
from edge.local_model import LocalModelSettings
from edge.outlook.settings import StatusSettings
from edge.policy import CacheSettings, RouteSettings
from edge.protection.settings import ProtectionSettings
from edge.refresh import RefreshSettings
from edge.regional.settings import RedisSettings
from edge.routing.settings import MaintenanceSettings, RoutingSettings, UpstreamSettings
from edge.rules import HttpSettings
from edge.sharing import SharingSettings
from edge.wire.http1 import Http1Settings
from edge.wire.http3_settings import Http3Settings
from index.decision import DecisionSettings
from index.embedding import EmbeddingSettings
from index.memory import MemorySettings
from index.store import StoreSettings
from index.verifier import VerifierSettings
from sync.settings import SyncSettings

ENVIRONMENT_PREFIX = "PROMPTEDGE__"

_Layers = list[tuple[str, Mapping[str, Any]]]
_Place = tuple[str | int, ...]


class ConfigError(Exception):
    """A setting that cannot be used; the message names its place and what it must be."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """This node, and where it listens."""

    name: Annotated[str, MinLen(1)] = "edge"
    """What `Cache-Status` calls this node, such as `fra-1`: letters, digits and `-._` only."""
    data: Path = Path("var")
    """The directory where answers, the secret and the certificate live. One node, one directory."""
    listen: str = "127.0.0.1:8443"
    """HTTPS: HTTP/1.1 on this TCP port and HTTP/3 on the same UDP port. Empty: off."""
    plain: str = "127.0.0.1:8080"
    """HTTP/1.1 in clear text, for use on this machine. Empty: off."""
    admin: str = "127.0.0.1:9090"
    """Probes, metrics and the operator's API. Keep it away from the public."""
    models: Path | None = None
    """Where the exported embedding model is kept; unset: `models` in the data directory."""
    public_port: Annotated[int, Ge(0)] = 0
    """The port that `Alt-Svc` names, where a load balancer changes it. 0: the one listened on."""
    drain_delay_s: Annotated[float, Ge(0)] = 0.0
    """After SIGTERM, how long to go on as before while `/readyz` already says no, in seconds."""
    drain_grace_s: Annotated[float, Gt(0)] = 30.0
    """How long requests in flight may then take to finish, in seconds."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The certificate. Without one a self-signed certificate is made in the data directory."""

    certificate: Path | None = None
    """PEM file with the certificate and its chain."""
    key: Path | None = None
    """PEM file with its private key."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the nodes of a fleet have in common."""

    secret_file: Path | None = None
    """32 random bytes in hexadecimal, the same on every node: keys of cached answers are made with
    it. Unset: `secret` in the data directory, made at the first start."""


@dataclass(frozen=True, slots=True)
class KeySettings:
    """An API key and the tenant it belongs to. With any, every request needs one."""

    tenant: Annotated[str, MinLen(1)]
    """Whose key it is. A tenant's answers are served to that tenant alone."""
    key_file: Path | None = None
    """A file that holds the key."""
    key_env: str = ""
    """An environment variable that holds the key."""
    plan: str = ""
    """One of `[[plans]]`: what its tenant may use. Unset: whatever it likes."""
    residency: tuple[str, ...] | None = None
    """Regions (`sync.region`) that answers to requests with this key may be kept in, such as
    `["eu"]`; a node elsewhere answers and keeps nothing. Unset: all."""
    regions: tuple[str, ...] | None = None
    """Regions whose upstreams (`upstreams.region`) may be sent prompts with this key, such as
    `["eu"]`; where there is none, they are refused. Unset: all."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, to standard error. Never a prompt, an answer or a key."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG logs every request, INFO what was refused or went wrong, WARNING only the latter."""


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of a node. None has to be set."""

    node: NodeSettings = field(default_factory=NodeSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    log: LogSettings = field(default_factory=LogSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    http1: Http1Settings = field(default_factory=Http1Settings)
    http3: Http3Settings = field(default_factory=Http3Settings)
    protection: ProtectionSettings = field(default_factory=ProtectionSettings)
    cors: CorsSettings = field(default_factory=CorsSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    refresh: RefreshSettings = field(default_factory=RefreshSettings)
    sharing: SharingSettings = field(default_factory=SharingSettings)
    semantic: DecisionSettings = field(default_factory=DecisionSettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    verifier: VerifierSettings = field(default_factory=VerifierSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    local_model: LocalModelSettings = field(default_factory=LocalModelSettings)
    routes: tuple[RouteSettings, ...] = ()
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    plans: tuple[PlanSettings, ...] = ()
    keys: tuple[KeySettings, ...] = ()
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    upstreams: tuple[UpstreamSettings, ...] = ()
    maintenance: tuple[MaintenanceSettings, ...] = ()
    status: StatusSettings = field(default_factory=StatusSettings)


def load(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration from `path` (TOML), the environment and flags, the later over the earlier.

    `flags` has the shape of the file.

    Raises:
        ConfigError: listing every wrong value and unknown name with its place.
    """
    from_environment, problems = _environment(environ)
    layers: _Layers = [
        (str(path), _read(path) if path else {}),
        ("environment", from_environment),
        ("command line", flags or {}),
    ]
    merged: Mapping[str, Any] = {}
    for source, document in layers:
        problems += _unknown(document, Config, source)
        merged = _merge(merged, document)
    problems += [
        f"{_source(layers, place)}: {_spelt(place)}: must be a finite number"
        for place in _infinite(merged)
    ]
    try:
        config = _adapter().validate_python(merged)
    except ValidationError as exc:
        problems += [_explain(error, layers) for error in exc.errors()]
        raise ConfigError("\n".join(problems)) from exc
    if problems:
        raise ConfigError("\n".join(problems))
    return config


@cache
def _adapter() -> TypeAdapter[Config]:
    """Made once, when it is needed: that takes 20 ms."""
    return TypeAdapter(Config)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from exc


def _environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings in it, and what is wrong with the names of the others."""
    found: dict[str, Any] = {}
    problems = []
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        *sections, last = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
        table = found
        for section in sections:
            inner = table.setdefault(section, {})
            table = inner if isinstance(inner, dict) else {}
            if table is not inner:
                problems.append(f"environment: {name}: {section} is set as a whole already")
        table[last] = _value(environ[name])
    return found, problems


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _unknown(document: Any, kind: Any, source: str, place: str = "") -> Iterator[str]:
    """A line for each name in `document` that `kind` does not have, with the nearest one it has."""
    if not isinstance(document, Mapping):
        return
    hints = _hints(kind)
    for name, value in document.items():
        here = f"{place}.{name}" if place else name
        if name not in hints:
            yield f"{source}: {here}: unknown setting; there are {', '.join(sorted(hints))}"
        elif is_dataclass(hints[name]):
            yield from _unknown(value, hints[name], source, here)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            item = item_of(hints[name])
            for at, element in enumerate(value if item else ()):
                yield from _unknown(element, item, source, f"{here}[{at}]")


_hints = cache(get_type_hints)


def item_of(hint: Any) -> Any:
    """The dataclass that a tuple setting holds, if it holds one."""
    arguments = getattr(hint, "__args__", ())
    return arguments[0] if arguments and is_dataclass(arguments[0]) else None


def _explain(error: Any, layers: _Layers) -> str:
    place, given = error["loc"], error["input"]
    shown = "" if isinstance(given, Mapping | list | tuple) else f", is {given!r}"
    message = error["msg"].replace("Input should be", "must be")
    message = message.replace("a dictionary or an instance of", "a table:")
    message = message.replace("a valid dictionary", "a table")
    message = message.replace("a valid boolean, unable to interpret input", "true or false")
    if error["type"] == "timezone_aware":
        message, shown = "must have its offset from UTC, such as 2026-11-01T02:00:00Z", ""
    return f"{_source(layers, place)}: {_spelt(place)}: {message[:1].lower()}{message[1:]}{shown}"


def _spelt(place: _Place) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).removeprefix(".")


def _source(layers: _Layers, place: _Place) -> str:
    """Which layer the value at `place` came from: the last that has as much of it as any."""
    return max(enumerate(layers), key=lambda one: (_depth(one[1][1], place), one[0]))[1][0]


def _depth(document: Any, place: _Place) -> int:
    """How many steps of `place` can be gone in `document`."""
    for at, part in enumerate(place):
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return at
    return len(place)


def _infinite(value: Any, place: _Place = ()) -> Iterator[_Place]:
    if isinstance(value, float) and not isfinite(value):
        yield place
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _infinite(inner, (*place, name))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _infinite(inner, (*place, at))
