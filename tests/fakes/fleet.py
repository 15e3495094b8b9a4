"""A fleet's keys and names, the same in every run."""

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from index.entry import NodeName, Version
from sync.certificates import node_name
from sync.roster import Enrolment, Roster, enrol, fleet_id


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


OPERATOR = key("operator")
FLEET = fleet_id(OPERATOR.public_key())


def node(name: str) -> NodeName:
    return node_name(name, key(name).public_key().public_bytes_raw())


def enrolment(
    name: str,
    region: str = "eu",
    version: int = 1,
    *,
    may_publish: bool = True,
    scopes: Sequence[str] = ("*",),
    revoked: bool = False,
) -> Enrolment:
    return Enrolment(
        name=node(name),
        public_key=key(name).public_key().public_bytes_raw(),
        region=region,
        address=f"{name}.example:8444",
        version=Version(version),
        sponsor=node("a"),
        may_publish=may_publish,
        scopes=tuple(scopes),
        revoked=revoked,
    )


def roster(*enrolments: Enrolment) -> Roster:
    made = Roster(OPERATOR.public_key())
    for one in enrolments:
        made.merge(enrol(one, OPERATOR))
    return made
