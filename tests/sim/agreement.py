"""What nodes that were left in peace must agree on."""

from collections.abc import Sequence

from index.entry import Purged
from tests.sim.facts import NEVER, Facts, Fetch
from tests.sim.node import Node
from tests.sim.shelves import vouched


def disagreement(facts: Facts, nodes: Sequence[Node], hub: Node | None) -> str | None:
    """In words what these nodes do not agree on yet; None when nothing is left.

    `hub`: all others are linked to this one alone.
    """
    return (
        _unknown_acts(facts, nodes)
        or _different_tables(nodes)
        or _unconfirmed(facts, nodes)
        or _missing(facts, nodes, hub)
    )


def _unknown_acts(facts: Facts, nodes: Sequence[Node]) -> str | None:
    for act in facts.acts.values():
        later = [one for one in facts.alike(act) if one.version >= act.version]  # says it all
        knowing = [
            node for node in nodes if any(one in facts.nodes[node.name].acts for one in later)
        ]
        lacking = [node.name for node in nodes if node not in knowing]
        if knowing and lacking:
            return f"{lacking[0]} does not know the {act}"
    return None


def _different_tables(nodes: Sequence[Node]) -> str | None:
    digests = {
        (node.replica.log.digest, node.replica.roster.digest, node.replica.log.confirmed)
        for node in nodes
        if node.replica is not None
    }
    return "tables or rosters differ" if len(digests) > 1 else None


def _unconfirmed(facts: Facts, nodes: Sequence[Node]) -> str | None:
    names = [node.name for node in nodes]
    for node in nodes:
        assert node.replica is not None
        for act in [act for act in facts.nodes[node.name].acts if act.by == node.name]:
            purged = Purged(act.purge, act.by, act.version, soft=act.soft)
            late = [one for one in node.replica.unconfirmed(purged, node.now) if one in names]
            if late:
                return f"{late[0]} did not confirm the {act} to {node.name}"
        live = [peer.name for peer in node.replica.peers.live(node.now)]
        if absent := [name for name in names if name not in (node.name, *live)]:
            return f"{node.name} takes {absent[0]} for dead"
    return None


def _missing(facts: Facts, nodes: Sequence[Node], hub: Node | None) -> str | None:
    """What a node fetched, told and still holds is held by all that may have it."""
    for node in nodes:
        assert node.shelf is not None
        for name in list(node.shelf.entries):
            fetch = _shown(facts, node, name)
            if fetch is None or fetch.node != node.name or fetch.published_at == NEVER:
                continue
            known = facts.nodes[node.name]
            if name in known.evicted or fetch.entry.body in known.regained:
                continue  # it has it back, which others may have joined in between
            if hub is not None and node is not hub:
                if _shown(facts, hub, name) is not fetch:
                    continue  # the relay has another, which perhaps not all may have
                if fetch.published_at <= facts.nodes[hub.name].log_lost_at:
                    continue  # it was told of it by a snapshot, if at all
            for other in nodes:
                if _lacks(facts, other, fetch):
                    return f"{other.name} lacks {fetch.number}, which {node.name} told"
    return None


def _lacks(facts: Facts, node: Node, fetch: Fetch) -> bool:
    known = facts.nodes[node.name]
    if not known.may_keep(fetch) or fetch.name in known.evicted:
        return False
    if fetch.entry.expires_at <= node.now.wall:
        return False
    held = node.shelf.entries.get(fetch.name) if node.shelf is not None else None
    if held is not None and vouched(held):
        return False  # it may be stale with the purges of who told it
    newest = known.newest.get(fetch.name)
    if newest is not None and newest.order > fetch.order:
        return False  # which may be gone itself
    return _shown(facts, node, fetch.name) is not fetch


def _shown(facts: Facts, node: Node, name: object) -> Fetch | None:
    assert node.shelf is not None
    entry = node.shelf.look(name, node.now.wall)  # type: ignore[arg-type]
    return None if entry is None else facts.fetches[entry.body]
