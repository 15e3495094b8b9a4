"""A real nats-server, in a process of its own, on a port that nobody has."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.ports import free_port

NEWEST = Path(sys.executable).parent / "nats-server"
"""From the development requirements."""
DEBIAN = shutil.which("nats-server", path="/usr/sbin:/usr/bin")
"""The system's, where it is installed: the oldest that is worked with."""

BINARIES = {"newest": str(NEWEST) if NEWEST.exists() else None, "system": DEBIAN}


class NatsServer:
    """`start`, `kill` and `start` again: same port, same files. `pause` is a partition."""

    def __init__(
        self,
        binary: str,
        directory: Path,
        configuration: str = "",
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        """`within` is a command that runs another: where `host` is an address."""
        self.directory = directory
        self._command = (*within, binary)
        self._host = host
        self._file = directory / "nats-server.conf"
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(configuration)

    @property
    def url(self) -> str:
        return f"nats://{self._host}:{self._port}"

    def configure(self, configuration: str) -> None:
        self._file.write_text(
            f'jetstream {{ store_dir: "{self.directory}/store", max_file_store: 10GB }}\n'
            "max_payload: 2MB\n" + configuration
        )

    def start(self) -> None:
        """Returns when it serves."""
        self._process = subprocess.Popen(
            [*self._command, "-c", str(self._file), "-a", self._host, "-p", str(self._port)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._read_until("Server is ready")

    def _read_until(self, wanted: str) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if wanted in line:
                return
        raise AssertionError(f"nats-server ended:\n{''.join(lines)}")

    def reload(self, configuration: str) -> None:
        assert self._process is not None
        self.configure(configuration)
        self._process.send_signal(signal.SIGHUP)
        self._read_until("Reloaded server configuration")

    def kill(self) -> None:
        """As the machine's power does, but for what the kernel holds already."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()
        self._process = None


@contextmanager
def nats_server(
    binary: str,
    directory: Path,
    configuration: str = "",
    host: str = "127.0.0.1",
    within: Sequence[str] = (),
) -> Iterator[NatsServer]:
    server = NatsServer(binary, directory, configuration, host, within)
    server.start()
    try:
        yield server
    finally:
        server.kill()
