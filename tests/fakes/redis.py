"""A real redis-server, in a process of its own, on a port that nobody has."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.ports import free_port

BINARIES = {name: shutil.which(f"{name}-server") for name in ("redis", "valkey")}
"""Whichever is installed: Debian has redis-server, and later ones valkey-server as well."""


class RedisServer:
    """`start`, `kill` and `start` again: same port, nothing kept. `pause` stops it dead."""

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        self.port = free_port()
        self._directory = directory
        self._options = options
        self._binary = binary
        self._process: subprocess.Popen[str] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it serves."""
        self._process = subprocess.Popen(
            [
                *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._directory)),
                *("--enable-debug-command", "yes", *self._options),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "Ready to accept connections" in line:
                return
        raise AssertionError(f"{self._binary} ended:\n{''.join(lines)}")

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

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Its connections stay open, and nothing comes over them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()
        self._process = None


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
