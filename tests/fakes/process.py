"""A server that is no part of the product, in a process of its own."""

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import IO


class ServerProcess(ABC):
    """`start`, `kill` and `start` again. `pause` is a partition: connections stay open, and nothing
    comes over them."""

    def __init__(self, ready: str) -> None:
        """`ready`: what it says when it serves."""
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it."""

    def start(self) -> None:
        """Returns when it serves."""
        self._process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.read_until(self._ready)

    def read_until(self, wanted: str) -> None:
        lines = []
        for line in self._output():
            lines.append(line)
            if wanted in line:
                return
        raise AssertionError(f"{self.command()[0]} ended:\n{''.join(lines)}")

    def _output(self) -> IO[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def kill(self) -> None:
        """As the machine's power does, but for what the kernel holds already."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, which: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, which)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()
        self._process = None
