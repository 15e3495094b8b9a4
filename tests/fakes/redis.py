"""A real redis-server, in a process of its own, on a port that nobody has."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.fakes.process import ServerProcess

BINARIES = {name: shutil.which(f"{name}-server") for name in ("redis", "valkey")}
"""Whichever is installed: Debian has redis-server, and later ones valkey-server as well."""


def installed(*names: str) -> str:
    """The first of these that is on this machine; without one the test is skipped."""
    found = next((binary for name in names if (binary := BINARIES[name]) is not None), None)
    if found is None:
        pytest.skip(f"there is no {' or '.join(f'{name}-server' for name in names)} here")
    return found


class RedisServer(ServerProcess):
    """The same port after `start`, and nothing kept."""

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        super().__init__("Ready to accept connections")
        self.port = free_port()
        self._directory = directory
        self._options = options
        self._binary = binary
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", str(self._directory)),
            *("--enable-debug-command", "yes", *self._options),
        ]

    def call(self, *words: str | bytes) -> bytes:
        """One command, by a connection of its own; its reply as it came, of 64 KiB at most."""
        with self._connected() as connection:
            connection.sendall(_written(words))
            return connection.recv(1 << 16)

    def say(self, *words: str) -> None:
        """The same without waiting for a reply."""
        with self._connected() as connection:
            connection.sendall(_written(words))

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def names(self) -> list[str]:
        """All that is there."""
        return [word for word in self.call("KEYS", "*").decode().split() if word[0] not in "*$"]


@contextmanager
def redis_server(binary: str, directory: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(binary, directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _written(words: tuple[str | bytes, ...]) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)
