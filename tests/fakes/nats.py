"""A real nats-server, in a process of its own, on a port that nobody has."""

import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.ports import free_port
from tests.fakes.process import ServerProcess

NEWEST = Path(sys.executable).parent / "nats-server"
"""From the development requirements."""
DEBIAN = shutil.which("nats-server", path="/usr/sbin:/usr/bin")
"""The system's, where it is installed: the oldest that is worked with."""

BINARIES = {"newest": str(NEWEST) if NEWEST.exists() else None, "system": DEBIAN}


class NatsServer(ServerProcess):
    """The same port after `start`, and the same files."""

    def __init__(
        self,
        binary: str,
        directory: Path,
        configuration: str = "",
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        """`within` is a command that runs another: where `host` is an address."""
        super().__init__("Server is ready")
        self.directory = directory
        self._binary = (*within, binary)
        self._host = host
        self._file = directory / "nats-server.conf"
        self._port = free_port()
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

    def command(self) -> list[str]:
        address = ("-a", self._host, "-p", str(self._port))
        return [*self._binary, "-c", str(self._file), *address]

    def reload(self, configuration: str) -> None:
        self.configure(configuration)
        self.send(signal.SIGHUP)
        self.read_until("Reloaded server configuration")


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
