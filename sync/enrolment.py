"""How a node comes to belong to a fleet, and ceases to: the side that decides.

    newcomer                                host (has the operator's key)
                                            invite ─► token, carried by a person
    proves the host by the token ─────────► proves the newcomer by the secret in it
    name, region, address, request  ──────► terms kept? name free? clock right?
                                            the invite is used, the line of the roster signed
    certificate, roster, secrets    ◄────── and told to everybody

All of `admit` happens in one step, between two awaits: two newcomers with one token cannot both be
let in. A newcomer whose answer was lost asks again with the same key and gets it again.
"""

import datetime as dt
import secrets
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice

from cryptography.hazmat.primitives import serialization

from index.clock import AHEAD_MAX_S
from index.entry import NodeName, Timestamp, Version
from sync import certificates, tokens
from sync.application import (
    Admission,
    Application,
    Refused,
    check_address,
    check_name,
    check_region,
    requested_key,
)
from sync.certificates import node_name
from sync.credentials import Credentials, pem
from sync.invites import Invite, InviteError, Invites, Terms
from sync.roster import Enrolment, Roster, enrol

VALID_S = 3600.0
"""How long a token is good for, unless said otherwise."""
VALID_S_MAX = 7 * 86_400.0
DEFAULT_REGION = "default"
ANY_NAME = "edge"
"""What a node is called that was given no name: so, or with the next number that is free."""


class Registrar:
    """Decides who belongs to the fleet, on a node that has the operator's key."""

    def __init__(
        self,
        credentials: Credentials,
        roster: Roster,
        invites: Invites,
        secret: bytes,
        *,
        tick: Callable[[], Version],
        tell: Callable[[bytes], None],
        had_keys: bool = False,
    ) -> None:
        """`tell` is given each new line: it is to be merged, kept and told to the others.
        `had_keys`: if there are no API keys in the roster, they were lost."""
        self._credentials = credentials
        self._roster = roster
        self._invites = invites
        self._secret = secret
        self._tick = tick
        self._tell = tell
        self._had_keys = had_keys

    def settle(self, name: str, region: str, address: str, now: dt.datetime) -> None:
        """Have the roster say of this node what its configuration says, where nobody else has to
        be asked for that. An empty `region` is as it was."""
        own = self._credentials
        if own.operator is None:
            return
        alone = all(one.public_key == own.public_key for one in self._roster)
        if alone and own.name != node_name(name, own.public_key):
            former = self._roster.get(own.name)
            own.rename(name, now)
            if former is not None:  # what it signed under that name stays true; nobody dials it
                self._enrol(replace(former, address="", version=self._tick()))
        known = self._roster.get(own.name) or Enrolment(
            own.name, own.public_key, DEFAULT_REGION, "", Version(0), own.name
        )
        wanted = replace(known, region=region or known.region, address=address)
        if not known.version or wanted != known:
            self._enrol(replace(wanted, version=self._tick()))

    def invite(self, terms: Terms, address: str, valid_s: float, now: Timestamp) -> str:
        """A token for one node that keeps to `terms`, which finds this one at `address`.

        Raises:
            Refused: this node may not, or nobody could keep to these terms.
        """
        own = self._credentials
        if own.operator is None:
            raise Refused(f"{own.name} may not invite others: ask {self._inviting()}", 403)
        self._check_keys()
        if terms.name is not None:
            check_name(terms.name)
        if terms.region is not None:
            check_region(terms.region)
        check_address(address)
        if not 0 < valid_s <= VALID_S_MAX:
            raise Refused(f"A token is good for up to {VALID_S_MAX:.0f} s, not for {valid_s:.0f}")
        secret = secrets.token_bytes(tokens.SECRET_BYTES)
        until = Timestamp(float(int(now + valid_s)))
        try:
            self._invites.add(secret, terms, until, now)
        except InviteError as exc:
            raise Refused(str(exc), 429) from exc
        host = certificates.key_hash(own.public_key)
        authority = own.authority.public_bytes(serialization.Encoding.DER)
        return tokens.spell(tokens.Token(address, host, authority, until, secret))

    def find(self, secret: bytes, now: Timestamp) -> Invite:
        """The invite of whoever has that secret. Raises Refused."""
        if self._credentials.operator is None:
            raise Refused("This node may no longer invite others", 403)
        self._check_keys()
        try:
            return self._invites.find(secret, now)
        except InviteError as exc:
            raise Refused(str(exc), 401) from exc

    def admit(self, secret: bytes, said: Application, now: Timestamp) -> Admission:
        """Enrol a newcomer. The invite is used up only if it is let in. Raises Refused."""
        invite = self.find(secret, now)
        enrolment = self._enrolment(said, invite.terms, now)
        try:
            self._invites.use(invite, enrolment.public_key)
        except InviteError as exc:
            raise Refused(str(exc), 401) from exc
        self._enrol(enrolment)
        return self._admission(enrolment, now)

    def renew(self, name: NodeName, request: str, now: dt.datetime) -> str:
        """The next certificate of a member, PEM. Raises Refused."""
        member = self._roster.member(name)
        if self._credentials.operator is None or member is None:
            raise Refused("This node cannot renew certificates", 403)
        if requested_key(request) != member.public_key:
            raise Refused("A certificate is renewed for the same key only", 403)
        return pem(self._credentials.issue(member.public_key, name, now)).decode()

    def revoke(self, name: str) -> Enrolment:
        """Whoever `name` is, whole or without its hash, belongs to the fleet no more.

        Raises:
            Refused: there is no such node, or more than one, or it is this one.
        """
        if self._credentials.operator is None:
            raise Refused(f"This node may not revoke others: ask {self._inviting()}", 403)
        found = [one for one in self._roster if name in (one.name, _stem(one.name))]
        found = [one for one in found if not one.revoked] or found
        if not found:
            raise Refused(f"There is no node {name}: see promptedge status", 404)
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise Refused(f"There are several: {names}. Say which", 409)
        (member,) = found
        if member.name == self._credentials.name:
            raise Refused("A node cannot revoke itself: say so on another node", 409)
        self._enrol(replace(member, revoked=True, version=self._tick()))
        return member

    def _enrolment(self, said: Application, terms: Terms, now: Timestamp) -> Enrolment:
        """The newcomer's line of the roster. Raises Refused."""
        public_key = requested_key(said.request)
        ahead_s = said.now - now
        if not abs(ahead_s) <= AHEAD_MAX_S:
            raise Refused(
                f"The clock of the joining machine is {abs(ahead_s):.0f} s "
                f"{'ahead' if ahead_s > 0 else 'behind'}: set both clocks (NTP), then join again"
            )
        own_name = said.name or terms.name or self._free_name(public_key)
        check_name(own_name)
        if terms.name not in (None, own_name):
            raise Refused(f"This token is for a node called {terms.name}: join --name {terms.name}")
        own = self._roster.get(self._credentials.name)
        region = said.region or terms.region or (own.region if own else DEFAULT_REGION)
        check_region(region)
        if terms.region not in (None, region):
            raise Refused(f"This token is for region {terms.region}: join --region {terms.region}")
        if said.address:
            check_address(said.address)
        name = node_name(own_name, public_key)
        self._check_free(name, public_key)
        return Enrolment(
            name=name,
            public_key=public_key,
            region=region,
            address=said.address,
            version=self._tick(),
            sponsor=self._credentials.name,
            may_publish=terms.may_publish,
            may_invite=terms.may_invite,
            scopes=terms.scopes,
        )

    def _free_name(self, public_key: bytes) -> str:
        """For a node that does not care: its own, if it was here before; or else a number."""
        others = {one.public_key: _stem(one.name) for one in self._roster if not one.revoked}
        if (known := others.get(public_key)) is not None:
            return known
        taken = set(others.values())
        numbered = (f"{ANY_NAME}-{number}" for number in count(2))
        return next(one for one in (ANY_NAME, *islice(numbered, len(taken))) if one not in taken)

    def _check_keys(self) -> None:
        """Raises Refused while nobody knows the API keys: who joined now would ask for none."""
        if self._had_keys and not self._roster.keybook:
            raise Refused(
                "The API keys of this node were lost, and nodes that join it would ask nobody for"
                " one: put back a copy of fleet.db, or make a key (promptedge keys create) first",
                409,
            )

    def _check_free(self, name: NodeName, public_key: bytes) -> None:
        """Raises Refused unless a node of this key may be called that."""
        for one in self._roster:
            same = one.public_key == public_key
            if same and one.revoked:
                raise Refused("This node was revoked: it can join with a new data directory", 403)
            if same and one.name != name:
                raise Refused(f"This node is {one.name}: join --name {_stem(one.name)}", 409)
            if not same and not one.revoked and _stem(one.name) == _stem(name):
                raise Refused(f"That name is taken, by {one.name}: join --name ANOTHER", 409)

    def _admission(self, enrolment: Enrolment, now: Timestamp) -> Admission:
        own = self._credentials
        when = dt.datetime.fromtimestamp(now, dt.UTC)
        certificate = own.issue(enrolment.public_key, enrolment.name, when)
        given = own.operator if enrolment.may_invite else None
        return Admission(
            name=enrolment.name,
            certificate=pem(certificate).decode(),
            secret=self._secret.hex(),
            roster=tuple(line.hex() for line in self._roster.lines()),
            operator_key=pem(given).decode() if given else None,
        )

    def _enrol(self, enrolment: Enrolment) -> None:
        assert self._credentials.operator is not None
        self._tell(enrol(enrolment, self._credentials.operator))

    def _inviting(self) -> str:
        names = [one.name for one in self._roster if one.may_invite and not one.revoked]
        return " or ".join(names) or "whoever founded the fleet"


def _stem(name: NodeName) -> str:
    """A node's own part of its name."""
    return name.rpartition(".")[0]
