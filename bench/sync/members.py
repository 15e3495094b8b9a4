"""A fleet on this disk: keys, certificates and rosters, as `invite` and `join` leave them."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from index.entry import Version
from sync.certificates import node_name
from sync.credentials import Credentials, fleet_file, node_key
from sync.outbox import Outbox
from sync.roster import Enrolment, enrol


def found(directories: Mapping[str, Path], addresses: Mapping[str, str]) -> list[Enrolment]:
    """The first of them founds the fleet. All are in one region."""
    now = dt.datetime.now(dt.UTC)
    founder = Credentials.load(next(iter(directories.values())), next(iter(directories)), now)
    assert founder.operator is not None
    enrolments = []
    for name, directory in directories.items():
        key = node_key(directory)
        public = key.public_key().public_bytes_raw()
        if not fleet_file(directory).exists():
            _adopt(founder, directory, key, name, now)
        enrolments.append(
            Enrolment(
                node_name(name, public), public, "eu", addresses[name], Version(1), founder.name
            )
        )
    for directory in directories.values():
        outbox = Outbox(directory, founder.fleet, bytes(8))
        for one in enrolments:
            outbox.keep_line(one.name, enrol(one, founder.operator))
        outbox.close()
    return enrolments


def _adopt(
    founder: Credentials, directory: Path, key: Ed25519PrivateKey, name: str, now: dt.datetime
) -> None:
    public = key.public_key().public_bytes_raw()
    certificate = founder.issue(public, node_name(name, public), now)
    Credentials(fleet_file(directory), key, founder.authority, certificate, None).save()
