"""A UDP socket read until it is empty and written in batches.

Three things make UDP affordable in Python, all of them fewer system calls: reading until the
kernel has nothing left, UDP_GRO (several datagrams of one flow arrive as one), and UDP_SEGMENT
(several datagrams to one address leave as one). Where the kernel or the device does not take a
batch, the same datagrams go out one by one.
"""

import asyncio
import errno
import logging
import socket
import struct
from collections import deque
from typing import Any, Final

log = logging.getLogger("h3")

Address = Any
"""What the socket says about a peer: (host, port), with two more members in IPv6."""

# Not in the socket module of Python 3.11; from linux/udp.h and asm-generic/socket.h.
SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
SO_RXQ_OVFL: Final = 40

SEGMENTS_MAX: Final = 44
"""Datagrams in one batch: the kernel allows 64, and 65,507 bytes in all (44 x 1,452 fit)."""

BACKLOG_MAX: Final = 1024
"""Datagrams kept while the kernel takes none. Beyond that they are lost, which QUIC repairs."""

# What the kernel or the device says when it will not cut a batch into segments.
_NO_SEGMENTS: Final = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT})

_ANCILLARY_SPACE: Final = socket.CMSG_SPACE(4) * 2


class UdpSocket:
    """Batches in, batches out. Owns nothing but the reading and writing of `sock`."""

    def __init__(self, sock: socket.socket, *, receive_buffer_bytes: int) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._backlog: deque[tuple[bytes, Address]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receive_bytes = 65535
        self.segments = True
        """Whether batches leave as one; False once the kernel refused one."""
        self.dropped_out = 0
        """Datagrams given up because the kernel would not take them."""
        self.dropped_in = 0
        """Datagrams the kernel dropped because we did not read fast enough."""
        self._raise_receive_buffer(receive_buffer_bytes)
        self._offer_gro()

    def __repr__(self) -> str:
        return (
            f"<UdpSocket {self._sock.getsockname()} segments={self.segments} "
            f"backlog={len(self._backlog)} dropped_in={self.dropped_in} "
            f"dropped_out={self.dropped_out}>"
        )

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._loop = None
        self._sock.close()

    def read(self, datagrams_max: int) -> list[tuple[bytes, Address]]:
        """What has arrived, about `datagrams_max` at most, so that others get their turn too."""
        arrived: list[tuple[bytes, Address]] = []
        recvmsg = self._sock.recvmsg
        while len(arrived) < datagrams_max:
            try:
                data, ancillary, _, address = recvmsg(self._receive_bytes, _ANCILLARY_SPACE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:  # an ICMP error of an earlier send: not about this read
                log.debug("event=receive_error errno=%s", exc.errno)
                break
            segment = self._segment_size(ancillary) if ancillary else 0
            if 0 < segment < len(data):
                arrived += [
                    (data[at : at + segment], address) for at in range(0, len(data), segment)
                ]
            else:
                arrived.append((data, address))
        return arrived

    def send(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """Send in order; what the kernel will not take now goes out when it will."""
        if self._backlog:
            self._keep(datagrams)
        elif len(datagrams) == 1 or not self.segments:
            for at, (data, address) in enumerate(datagrams):
                if not self._send_one(data, address):
                    self._keep(datagrams[at:])
                    return
        else:
            self._send_runs(datagrams)

    def _send_runs(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """A run is datagrams to one address, equally long except that the last may be shorter."""
        start, count = 0, len(datagrams)
        while start < count:
            first, address = datagrams[start]
            size = len(first)
            end = start + 1
            while end < count and end - start < SEGMENTS_MAX:
                data, to = datagrams[end]
                if to != address or len(data) > size:
                    break
                end += 1
                if len(data) < size:
                    break
            if not self._send_run(datagrams[start:end], size, address):
                self._keep(datagrams[start:])
                return
            start = end

    def _send_run(self, run: list[tuple[bytes, Address]], size: int, address: Address) -> bool:
        if len(run) > 1 and self.segments:
            ancillary = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            try:
                self._sock.sendmsg([data for data, _ in run], ancillary, 0, address)
                return True
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as exc:
                if exc.errno in _NO_SEGMENTS:
                    log.info("event=segmentation_off errno=%s", exc.errno)
                    self.segments = False
        return all(self._send_one(data, to) for data, to in run)

    def _send_one(self, data: bytes, address: Address) -> bool:
        try:
            self._sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:  # unreachable, too long for the device, filtered: as good as lost
            self.dropped_out += 1
            log.debug("event=send_error errno=%s", exc.errno)
        return True

    def _keep(self, datagrams: list[tuple[bytes, Address]]) -> None:
        room = BACKLOG_MAX - len(self._backlog)
        self._backlog.extend(datagrams[:room])
        self.dropped_out += max(0, len(datagrams) - room)
        if self._loop is None and self._backlog:
            self._loop = asyncio.get_running_loop()
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        while self._backlog:
            if not self._send_one(*self._backlog[0]):
                return
            self._backlog.popleft()
        if self._loop is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._loop = None

    def _segment_size(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        size = 0
        for level, kind, data in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                size = struct.unpack("=i", data[:4])[0]
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                self.dropped_in = struct.unpack("=I", data[:4])[0]
        return size

    def _raise_receive_buffer(self, wanted: int) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        # Linux reports twice what it granted, the other half being its own bookkeeping.
        granted = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if granted < wanted:
            log.warning(
                "event=receive_buffer_clamped bytes=%d wanted=%d raise=net.core.rmem_max",
                granted,
                wanted,
            )

    def _offer_gro(self) -> None:
        for level, option in ((SOL_UDP, UDP_GRO), (socket.SOL_SOCKET, SO_RXQ_OVFL)):
            try:
                self._sock.setsockopt(level, option, 1)
            except OSError as exc:
                log.debug(
                    "event=socket_option level=%d option=%d errno=%s", level, option, exc.errno
                )
