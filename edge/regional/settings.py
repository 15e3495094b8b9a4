"""Where the region's Redis is, and how much of it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from annotated_types import Ge, Gt

_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """A Redis or Valkey server that the nodes of a region share as a second cache: see
    docs/redis.md. A node without it, or that lost it, serves all the same."""

    url: str = ""
    """`rediss://HOST:PORT/DB` (TLS), `redis://HOST:PORT/DB` (clear text) or `unix:///PATH`, in this
    node's region. Empty: none."""
    username: str = ""
    """Of its ACL. Empty: the default user."""
    password_file: Path | None = None
    """A file that holds the password."""
    password_env: str = ""
    """An environment variable that holds the password."""
    ca_file: Path | None = None
    """PEM file with who signed the server's certificate. Unset: whom this machine trusts."""
    timeout_s: Annotated[float, Gt(0)] = 0.05
    """How long a request that nothing here answers may wait for it, in seconds. Where that is not
    enough five times in a row, nobody waits for some seconds."""
    connections: Annotated[int, Gt(0)] = 32
    """To the server, at most; who finds none free in time does without it."""
    answer_bytes_max: Annotated[int, Ge(1024)] = 256 * 1024
    """Larger answers are neither put there nor taken from there."""
    queue_bytes_max: Annotated[int, Gt(0)] = 32 * 1024 * 1024
    """Answers that wait to be put there, in bytes; beyond that they are not put there."""


def problem(settings: RedisSettings) -> str | None:
    """What is wrong with them, for the operator."""
    if not settings.url:
        return None
    try:
        parts = urlsplit(settings.url)
        port = parts.port
    except ValueError:
        return "redis.url: is not a URL"
    if parts.scheme not in _SCHEMES:
        return f"redis.url: must begin with {', '.join(f'{one}://' for one in _SCHEMES)}"
    if "@" in parts.netloc:  # not shown: it may be a password
        return "redis.url: holds a user or password; set username, password_file or password_env"
    if parts.query or parts.fragment:
        return "redis.url: takes no options after the path"
    if parts.scheme == "unix":
        return None if parts.path and not parts.netloc else "redis.url: must be unix:///PATH"
    if not parts.hostname or port == 0 or not _is_database(parts.path):
        return f"redis.url: must be {parts.scheme}://HOST[:PORT][/DB], is {settings.url!r}"
    if settings.password_file and settings.password_env:
        return "redis: set one of password_file and password_env"
    if settings.username and not (settings.password_file or settings.password_env):
        return "redis.username: needs password_file or password_env"
    if settings.ca_file and parts.scheme != "rediss":
        return "redis.ca_file: is for rediss:// only"
    return None


def warning(settings: RedisSettings) -> str | None:
    """What a careful operator would change."""
    parts = urlsplit(settings.url)
    if parts.scheme != "redis" or _is_loopback(parts):
        return None
    return (
        f"redis.url: {settings.url} is clear text over a network. Answers are encrypted all the "
        "same, but whoever listens reads the password and may delete them: use rediss://"
    )


def password_of(settings: RedisSettings, environ: Mapping[str, str]) -> str | None:
    """Raises ValueError, which shows nothing of it."""
    if settings.password_file:
        try:
            password = settings.password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(
                f"redis.password_file: {settings.password_file} cannot be read"
            ) from exc
    elif settings.password_env:
        if not settings.password_env.isidentifier():  # likely the password itself
            raise ValueError("redis.password_env: must be the name of a variable")
        password = environ.get(settings.password_env, "")
    else:
        return None
    if not password:
        raise ValueError("redis: the password is empty, or its variable is not set")
    return password


def _is_database(path: str) -> bool:
    name = path.removeprefix("/")
    return not name or (name.isascii() and name.isdecimal() and len(name) < 6)


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
