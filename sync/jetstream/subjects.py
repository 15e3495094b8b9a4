"""Where things are said on NATS, and where they are kept.

    pe.1.FLEET.entries.fleet.SCOPE.NODE          answers that may be kept in every region
    pe.1.FLEET.entries.region.REGION.SCOPE.NODE  answers that may be kept there; for each region
    pe.1.FLEET.purges.NODE                       purges, and what else all must hear one day
    pe.1.FLEET.presence.NODE                     who is there: heard now or never
    pe.1.FLEET.canaries.NODE                     how far a node's words have come: now or never

The last token is who speaks, and a server that knows its users (`permissions`) lets nobody speak
for another. Region and scope come before it, so that a server can refuse a node what it may not
keep: a consumer's filter is part of the subject on which it is asked for.

Two streams keep what must not be missed. Subscribers of a stream's subjects hear a message at once,
before it is kept; so a purge is published once, and is heard twice.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from index.entry import NodeName, Reach, Scope

FORMAT = "1"
"""Of the subjects and of what is said on them. Another number is another fleet."""

FLEET_CHARS = 16
_ESCAPED = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Source:
    """What is read, in order, from where one left off."""

    name: str
    """Of its cursor, and in canaries: `purges`, `fleet` or `region.REGION`; of one scope alone:
    `fleet.SCOPE`, `region.REGION.SCOPE`."""
    stream: str
    filter: str


@dataclass(frozen=True, slots=True)
class Subjects:
    """The subjects of one fleet."""

    prefix: str
    fleet: str
    """The beginning of the fleet's id, in hexadecimal."""

    @classmethod
    def of(cls, prefix: str, fleet: bytes) -> "Subjects":
        return cls(prefix, fleet.hex()[:FLEET_CHARS])

    @property
    def root(self) -> str:
        return f"{token(self.prefix)}.{FORMAT}.{token(self.fleet)}"

    @property
    def entries_stream(self) -> str:
        return f"{token(self.prefix).upper()}_{token(self.fleet)}_ENTRIES"

    @property
    def purges_stream(self) -> str:
        return f"{token(self.prefix).upper()}_{token(self.fleet)}_PURGES"

    def entries(self, reach: Reach, scope: Scope, node: NodeName) -> tuple[str, ...]:
        """Where answers are published: one subject for each region of their reach."""
        return tuple(
            f"{self.root}.entries.{place}.{token(scope)}.{speaker(node)}" for place in places(reach)
        )

    def purges(self, node: NodeName) -> str:
        return f"{self.root}.purges.{speaker(node)}"

    def presence(self, node: NodeName) -> str:
        return f"{self.root}.presence.{speaker(node)}"

    def canaries(self, node: NodeName) -> str:
        return f"{self.root}.canaries.{speaker(node)}"

    def sources(self, region: str, scopes: Iterable[str]) -> tuple[Source, ...]:
        """All that a node in `region` reads: purges first, nothing that it may not keep."""
        purges = Source("purges", self.purges_stream, f"{self.root}.purges.>")
        found = [purges]
        for scope in scope_tokens(scopes):
            for place in ("fleet", *places((region,))):
                name = place if scope == "*" else f"{place}.{scope}"
                filter_ = f"{self.root}.entries.{place}.{scope}.*"
                found.append(Source(name, self.entries_stream, filter_))
        return tuple(found)

    def source_of(self, subject: str) -> str:
        """The name of the source, of all scopes, that has what is published on `subject`."""
        path = subject.removeprefix(f"{self.root}.").split(".")[:-1]
        return ".".join(path[1:-1] if path[0] == "entries" else path)


def places(reach: Reach) -> tuple[str, ...]:
    """What stands for a reach in subjects; nothing for that of one node alone."""
    if "*" in reach:
        return ("fleet",)
    return tuple(f"region.{token(region)}" for region in reach)


def scope_tokens(scopes: Iterable[str]) -> tuple[str, ...]:
    """What stands in subjects for scopes that somebody is limited to. Names with wildcards in them
    have no such token, but for the one that is all scopes: what they mean is not to be had here."""
    if "*" in scopes:
        return ("*",)
    return tuple(token(scope) for scope in scopes if not any(sign in scope for sign in "*?["))


def speaker(node: NodeName) -> str:
    """A node's name as one token. The key's hash at its end keeps names apart."""
    return token(node.replace(".", "_"))


def inbox(node: NodeName) -> str:
    """What a node alone may listen to: answers of the server come there."""
    return f"_INBOX.{speaker(node)}"


def token(text: str) -> str:
    """Any text as one token of a subject, different for different texts."""
    return _ESCAPED.sub(_escape, text) or "="


def _escape(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))
