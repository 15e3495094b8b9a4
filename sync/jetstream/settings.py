"""How a node reaches NATS, and what the streams keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le, MinLen

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """NATS JetStream between the nodes of a large fleet. Without `urls` they talk to each other."""

    urls: tuple[str, ...] = ()
    """Servers of one cluster, such as `tls://nats-1.example:4222`: the first that answers is used.
    With `tls://` a server that does not speak TLS is refused. Empty: no NATS."""
    credentials_file: Path | None = None
    """A `.creds` file, or one with an nkey seed. Unset: the node proves itself with its own key, as
    `promptedge nats-permissions` tells the server to expect."""
    ca_file: Path | None = None
    """PEM file with the authority of the servers' certificates. Unset: those of the system."""
    certificate: Path | None = None
    """PEM file with a certificate for servers that ask for one."""
    key: Path | None = None
    """PEM file with its private key."""
    prefix: Annotated[str, MinLen(1)] = "pe"
    """What all subjects begin with, and streams in capitals: letters, digits, `-` and `_`."""
    replicas: Annotated[int, Ge(1), Le(5)] = 1
    """How many servers of the cluster keep each stream, when a node makes it: 3 in production."""
    max_bytes: Annotated[int, Ge(1 << 20)] = 4 * GIB
    """What the stream of answers may hold on disk, in bytes; the oldest leave. A node that was away
    for longer than that fetches what it missed from another node."""
