"""Listening sockets: bound early, so that a port in use is said before anything else is done."""

import errno
import socket
from dataclasses import dataclass

SAME_PORT_TRIES = 16
BACKLOG = 1024


class ListenError(Exception):
    """An address that cannot be listened on; the message says which setting and why."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse(text: str) -> Address:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (every address). Raises ListenError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{text!r} is not HOST:PORT")
    return Address(host.strip("[]") or _every(), int(port))


def _every() -> str:
    """Without IPv6 in the kernel there is no `::` to listen on."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def bind_tcp(address: Address) -> socket.socket:
    return _bind(address, socket.SOCK_STREAM)


def bind_tcp_and_udp(address: Address) -> tuple[socket.socket, socket.socket]:
    """Both on one port number; with port 0 on one that is free for both."""
    for _ in range(SAME_PORT_TRIES):
        tcp = bind_tcp(address)
        port = tcp.getsockname()[1]
        try:
            return tcp, _bind(Address(address.host, port), socket.SOCK_DGRAM)
        except ListenError:
            tcp.close()
            if address.port:
                raise
    raise ListenError(f"{address}: no port is free for both TCP and UDP")


def bound(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def _bind(address: Address, kind: socket.SocketKind) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind)[0]
        sock = socket.socket(found[0], kind)
    except OSError as exc:
        raise ListenError(f"{address}: {exc.strerror}") from exc
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if found[0] == socket.AF_INET6:
            # "::" takes IPv4 as well; any other address is what it says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        sock.bind(found[4])
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)  # now, or another listener on the port would not be seen
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        name = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        hint = ": is a node running there already?" if exc.errno == errno.EADDRINUSE else ""
        raise ListenError(f"{address} ({name}): {exc.strerror}{hint}") from exc
    return sock
