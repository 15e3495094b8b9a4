"""The middle of a WAN: moves packets between network namespaces, late, or not at all.

Run by `tests.fleet.wan`, as a process of its own so that nothing else delays its packets:

    python -m tests.fleet.router fra=wan-1-fra ams=wan-1-ams ...

Each site is a namespace with a TUN device, through which all it sends to 10.99.0.0/16 comes here.
Site number N of the command line has the address 10.99.N.1. Commands are lines on stdin, each
answered with a line on stdout; when stdin ends, so does the router, and with it the devices.

    set fra ams delay 0.04 jitter 0.001 loss 0.01    seconds each way, share of packets
    cut fra ams · heal fra ams · stats

The kernel's own means, netem, is not to be had everywhere; a TUN device is.
"""

import ctypes
import fcntl
import heapq
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from random import Random

MTU = 1500
BATCH = 64
"""Packets read from one site before the others have their turn."""
SPIN_S = 0.0005
"""epoll sleeps in whole milliseconds: what is due sooner is waited for awake."""

monotonic = time.monotonic  # noqa: TID251  real packets, real time

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Way:
    """What happens to packets from one site to another."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    cut: bool = False
    last_due: float = 0.0
    """Packets do not overtake one another: what jitters is the path, not each of them."""
    packets: int = 0
    octets: int = 0
    dropped: int = 0


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread's sockets and devices are made in that namespace meanwhile."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)
        os.close(there)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def device(namespace: str, number: int) -> int:
    """A TUN device in `namespace`, up and with its address; the descriptor of its other end."""
    with inside(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", b"wan0", _IFF_TUN | _IFF_NO_PI))
    for command in (
        "link set lo up",
        f"link set wan0 mtu {MTU} txqueuelen 5000 up",
        f"addr add 10.99.{number}.1/16 dev wan0",
    ):
        subprocess.run(["ip", "-n", namespace, *command.split()], check=True)
    return descriptor


class Router:
    def __init__(self, devices: dict[str, int], chance: Random) -> None:
        self._names = list(devices)
        self._devices = list(devices.values())
        self._chance = chance
        self._paths = {
            (a, b): Way() for a in range(len(devices)) for b in range(len(devices)) if a != b
        }
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._sent = 0
        self._commands = b""

    def run(self) -> None:
        poll = select.epoll()
        for descriptor in (*self._devices, sys.stdin.fileno()):
            poll.register(descriptor, select.EPOLLIN)
        sites = {descriptor: number for number, descriptor in enumerate(self._devices)}
        while True:
            for descriptor, _ in poll.poll(self._patience_s()):
                if descriptor in sites:
                    self._take(sites[descriptor])
                elif not self._command():
                    return
            self._deliver()

    def _patience_s(self) -> float:
        if not self._queue:
            return -1.0
        wait_s = self._queue[0][0] - monotonic()
        return wait_s if wait_s > SPIN_S else 0.0

    def _take(self, source: int) -> None:
        for _ in range(BATCH):
            try:
                packet = os.read(self._devices[source], MTU + 64)
            except BlockingIOError:
                return
            # IPv4 within our network; the kernel's own IPv6 chatter is not carried.
            if packet[0] >> 4 == 4 and packet[16:18] == b"\x0a\x63":
                self._send(source, packet[18], packet)

    def _send(self, source: int, target: int, packet: bytes) -> None:
        path = self._paths.get((source, target))
        if path is None:
            return
        if path.cut or (path.loss and self._chance.random() < path.loss):
            path.dropped += 1
            return
        path.packets += 1
        path.octets += len(packet)
        due = monotonic() + path.delay + self._chance.random() * path.jitter
        path.last_due = due = max(due, path.last_due)
        self._sent += 1
        heapq.heappush(self._queue, (due, self._sent, target, packet))

    def _deliver(self) -> None:
        now = monotonic()
        while self._queue and self._queue[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._queue)
            try:
                os.write(self._devices[target], packet)
            except OSError:  # its queue is full: as any router's, it drops
                continue

    # Commands.

    def _command(self) -> bool:
        """False at the end of stdin."""
        read = os.read(sys.stdin.fileno(), 4096)
        *lines, self._commands = (self._commands + read).split(b"\n")
        for line in lines:
            print(self._obey(*line.decode().split()), flush=True)
        return bool(read)

    def _obey(self, verb: str, *words: str) -> str:
        if verb == "stats":
            return json.dumps(
                {
                    f"{self._names[a]} {self._names[b]}": asdict(path)
                    for (a, b), path in self._paths.items()
                }
            )
        one, other = (self._names.index(name) for name in words[:2])
        for path in (self._paths[one, other], self._paths[other, one]):
            match verb:
                case "cut" | "heal":
                    path.cut = verb == "cut"
                case "set":
                    for name, value in zip(words[2::2], words[3::2], strict=True):
                        setattr(path, name, float(value))
                case _:
                    return "what?"
        return "done"


def main() -> None:
    places = dict(one.split("=") for one in sys.argv[2:])
    devices = {name: device(place, number) for number, (name, place) in enumerate(places.items())}
    print("ready", flush=True)
    Router(devices, Random(int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
