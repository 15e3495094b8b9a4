"""A fleet, its network, its disks and its clocks, all drawn from one seed.

calm or brutal   which faults there are, and how often, is drawn for each run
faults           everything happens at once; what is unsafe is found at the event that made it
healing          links mend, nodes start again, nothing new happens: all must come to agree
quiet            having agreed, they say that they are there and nothing else
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from random import Random

from index.entry import (
    EVERYWHERE,
    CacheKey,
    Entry,
    NodeName,
    Purge,
    Reach,
    Scope,
    Timestamp,
    Version,
)
from sync.dialogue import Aside, Batch, read, written
from sync.frames import peek, signed
from sync.messages import Entries, Kind, MessageError, State
from sync.outbox import OutboxSettings
from sync.replica import PurgeRefused
from sync.roster import enrol
from tests.fakes.fleet import FLEET, OPERATOR, enrolment, key
from tests.sim.agreement import disagreement
from tests.sim.bus import Bus
from tests.sim.disk import Disk
from tests.sim.facts import Facts, Fetch, Violation
from tests.sim.network import Network
from tests.sim.node import SKEW_MAX_S, Node
from tests.sim.shelves import AnswersShelf
from tests.sim.weather import NOTICED_S, Carrier, Weather

SCOPES = (Scope("shared"), Scope("tenant:a"), Scope("tenant:b"))
REACHES: tuple[Reach, ...] = (EVERYWHERE, EVERYWHERE, ("eu",), ("us",), ("eu", "us"), ())
LABELS = ("news", "sport")
MODELS = ("m", "n")
KEYS = tuple(CacheKey(bytes([number]) * 32) for number in range(8))
HEALED_S = 240.0
QUIET_S = 9.0


class World:
    def __init__(self, seed: int, directory: Path) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = 0.0
        self.facts = Facts()
        self.nodes: dict[str, Node] = {}
        self._lines: dict[NodeName, bytes] = {}
        """What the operator last said of each node."""
        self._directory = directory
        self._trace = hashlib.blake2b(digest_size=16)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._over = False
        random = self.random
        self.weather = Weather(
            delay_s=random.choice([0.001, 0.04, 0.11, 0.5]),
            jitter_s=random.choice([0.0, 0.01, 0.3]),
            breaks_per_message=random.choice([0.0, 0.0, 0.003, 0.02]),
        )
        carrier = Carrier(random, self.weather, self.later, self._clock, self.touched)
        self.network, self.bus = Network(carrier), Bus(carrier)
        self.shape = random.choice(["mesh", "mesh", "star", "bus"])
        """Everybody is linked to everybody; or to one that relays; or all are on a bus."""
        self.real = seed % 4 == 3
        """Answers are kept by what keeps them in production."""
        self.limited = random.random() < 0.4
        self._draw_actions()
        for number in range(random.randint(2, 5)):
            self.add(number)

    # Time.

    def _clock(self) -> float:
        return self.time

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._events, (self.time + seconds, self._number, what))

    def run_until(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.time, _, what = heappop(self._events)
            what()
        self.time = until

    def touched(self, node: Node) -> None:
        """Something happened at a node: send what it says, look at what it holds, wake it later."""
        if node.replica is None:
            return
        for end, data in node.replica.outbox():
            self._note(f"{self.time:.6f} {node.stem} {end.role.value} {end.peer}", data)
            self.network.send(node, end, data)
        self.bus.say(node)
        self.network.shut_out(node)
        news = node.news()
        node.check()
        if news and self.worst and not self._over and self.random.random() < self.worst:
            self._note(f"{self.time:.6f} {node.stem} dies")
            self._end(node, power=self.random.random() < 0.3)
            return
        due = node.replica.wake_at()
        if node.wake is None or due < node.wake:
            node.wake = due
            self.later(max(0.0, due - self.time), partial(self._tick, node, due))

    def _tick(self, node: Node, due: float) -> None:
        if node.wake != due:
            return
        node.wake = None
        if node.replica is not None:
            node.replica.tick(node.now)
            self.touched(node)

    def _note(self, line: str, data: bytes = b"") -> None:
        self._trace.update(line.encode() + data)

    @property
    def trace(self) -> str:
        """Of everything that was ever said, and when."""
        return self._trace.hexdigest()

    # The fleet.

    def add(self, number: int, host: Node | None = None) -> Node:
        random, stem = self.random, f"n{number}"
        line = enrolment(
            stem,
            random.choice(["eu", "us"]),
            max(1, host.replica.stamp(host.now) if host and host.replica else 1),
            may_publish=random.random() < 0.9,
            scopes=random.choice([["*"], ["*"], ["*"], ["shared"], ["shared", "tenant:a"]]),
        )
        if number == 0:  # the founder, and the relay of a star, may have everything
            line = replace(line, may_publish=True, scopes=("*",))
        log_max_bytes = random.choice([4_000, 40_000, 64 << 20])
        if self.shape == "bus":  # which is told nothing in place of what a log has lost
            log_max_bytes = 64 << 20
        settings = OutboxSettings(log_max_bytes=log_max_bytes)
        disk = Disk(self._directory / stem, FLEET, settings)
        if self.real:
            disk.cache = self._directory / f"{stem}.cache"
        node = Node(stem, line, self.facts, disk, lambda: self.time, random)
        self.facts.know(line)
        node.skew = random.choice([0.0, random.uniform(-SKEW_MAX_S, SKEW_MAX_S)])
        star = self.shape == "star"
        node.relay, node.relayed = star and number == 0, star and number > 0
        node.write_s = random.choice([0.01, 0.8])
        if self.limited:
            node.entries_max = random.randint(3, 30)
        if number and self.swarm["broken clock"] and not any(n.broken for n in self.nodes.values()):
            node.broken = True
            node.skew = random.choice([-100_000.0, -500.0, 500.0, 100_000.0])
        self.nodes[stem] = node
        signed_line = self._lines[node.name] = enrol(line, OPERATOR)
        if host is not None and host.replica is not None:
            host.replica.enrol(signed_line, host.now)
            node.lines = [*host.replica.roster.lines()]
            self.touched(host)
            node.start()
            self.touched(node)
        self._link_up(node)
        return node

    def _link_up(self, node: Node) -> None:
        if self.shape == "bus":
            self.later(self.random.random(), partial(self.bus.connect, node))
            return
        hub = self.nodes["n0"]
        for other in list(self.nodes.values()):
            if other is node or (self.shape == "star" and hub not in (node, other)):
                continue
            for reader, source in ((node, other), (other, node)):
                self.later(self.random.random(), partial(self.network.dial, reader, source))

    def _found(self) -> None:
        lines = list(self._lines.values())
        for node in self.nodes.values():
            node.lines = lines
            node.start()
            self.touched(node)

    @property
    def hub(self) -> Node | None:
        return self.nodes["n0"] if self.shape == "star" else None

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def honest(self) -> list[Node]:
        """Who must agree in the end."""
        return [
            node
            for node in self.nodes.values()
            if not node.broken and node.name not in self.facts.revoked
        ]

    # What happens.

    def _draw_actions(self) -> None:
        random = self.random
        self.swarm: dict[str, float] = {}
        for name in ACTIONS:
            self.swarm[name] = random.random() if random.random() < 0.6 else 0.0
        self.swarm["broken clock"] = float(random.random() < 0.25)
        self.swarm["copy disk"] = self.swarm["restore disk"] = random.choice([0.0, 1.0, 2.0])
        self.swarm["fetch"] = 6.0
        self.swarm["purge"] = random.choice([0.3, 1.0, 4.0])
        self.worst = random.choice([0.0, 0.02, 0.07])
        """How often a node dies right after something was told to it."""
        self.per_s = random.choice([1.0, 3.0, 8.0])
        self.faulty_s = random.choice([20.0, 40.0])

    def _act(self) -> None:
        if self._over:
            return
        names = [name for name in ACTIONS if self.swarm[name]]
        name = self.random.choices(names, [self.swarm[name] for name in names])[0]
        self._note(f"{self.time:.6f} {name}")
        ACTIONS[name](self)
        self.later(self.random.expovariate(self.per_s), self._act)

    def one_up(self) -> Node | None:
        up = self.up()
        return self.random.choice(up) if up else None

    def fetch(self, node: Node | None = None, within_s: float | None = None) -> None:
        """A node asks its upstream; the answer comes later, and may be told to others."""
        node = node or self.one_up()
        if node is None or node.shelf is None:
            return
        random = self.random
        began, seen = self.time, node.shelf.begin()
        knew = dict(self.facts.nodes[node.name].acts)
        name = (random.choice(SCOPES), random.choice(KEYS))
        replica = node.replica

        def arrives() -> None:
            if node.replica is not replica or node.replica is None or node.shelf is None:
                return  # it died meanwhile
            number = len(self.facts.fetches)
            stored_at = Timestamp(node.now.wall)
            above = node.shelf.newest(name)
            entry = Entry(
                scope=name[0],
                key=name[1],
                model=random.choice(MODELS),
                body=f"fetch {number} ".encode() + bytes(random.choice([10, 10, 500, 2_000])),
                stored_at=stored_at,
                expires_at=Timestamp(stored_at + random.choice([15.0, 400.0, 4_000.0])),
                question=None,
                stored_by=node.name,
                version=node.replica.stamp(node.now, above),
                seen=seen,
                reach=random.choice(REACHES),
                labels=tuple(label for label in LABELS if random.random() < 0.3),
            )
            fetch = Fetch(number, node.name, entry, began, knew)
            self.facts.fetched(fetch)
            popular = node.shelf.put(entry) and random.random() < 0.8
            if popular and node.replica.publish([(entry, None)], node.now):
                fetch.published_at = self.time
            self.touched(node)

        self.later(random.choice([0.0, 0.1, 3.0]) if within_s is None else within_s, arrives)

    def purge(self, node: Node | None = None) -> None:
        node = node or self.one_up()
        if node is None or node.replica is None:
            return
        random = self.random
        purge = Purge(
            random.choice([None, *SCOPES]),
            random.choice([None, None, *LABELS, "model:m", f"by:{random.choice(self._names())}"]),
            random.choice([None, *KEYS, *KEYS]),
        )
        mine = [one.purge for one in self.facts.nodes[node.name].acts if one.by == node.name]
        if mine and random.random() < 0.4:
            purge = random.choice(mine[-3:])
        with suppress(PurgeRefused):
            node.replica.purge(purge, node.now, soft=random.random() < 0.3)
        self.touched(node)

    def _names(self) -> list[NodeName]:
        return [node.name for node in self.nodes.values()]

    def ask(self) -> None:
        """Somebody asks: what is asked for stays longest."""
        node = self.one_up()
        if node is not None and node.shelf is not None:
            node.shelf.recall(self.random.choice(SCOPES), self.random.choice(KEYS), node.now.wall)

    def cut(self) -> None:
        nodes = list(self.nodes.values())
        one, other = self.random.sample(nodes, 2)
        self.network.cut(one, other)
        self.bus.cut(one)
        self.later(self.random.uniform(1, 20), partial(self._mend, one, other))

    def _mend(self, one: Node, other: Node) -> None:
        self.network.cuts.pop((one.stem, other.stem), None)
        self.bus.cuts.pop(one.stem, None)

    def break_link(self) -> None:
        if wires := self.network.wires:
            self.network.break_(self.random.choice(wires))
        if sessions := self.bus.sessions:
            self.bus.break_(self.random.choice(sessions))

    def kill(self) -> None:
        self._end(self.one_up(), power=False)

    def fail_power(self) -> None:
        self._end(self.one_up(), power=True)

    def _end(self, node: Node | None, *, power: bool) -> None:
        if node is None:
            return
        node.check(everything=True)
        self._gone(node, power=power)
        self.later(self.random.choice([0.1, 5.0]), partial(self._start, node))

    def _start(self, node: Node) -> None:
        if not node.up and not node.retired:
            node.start()
            self.touched(node)

    def _gone(self, node: Node, *, power: bool) -> None:
        node.kill(power=power)
        self.network.gone(node)
        self.bus.gone(node)

    def copy_disk(self) -> None:
        if (node := self.one_up()) is not None:
            node.take_copy()

    def restore_disk(self) -> None:
        """A node starts from an old copy of its disk, and acts before it hears from others."""
        copied = [node for node in self.up() if node.disk.copy is not None]
        if not copied:
            return
        node = self.random.choice(copied)
        self._end(node, power=False)
        self.bus.restored(node, node.restore())
        if self.random.random() < 0.8:
            self._start(node)
            for _ in range(self.random.randint(1, 3)):
                self.purge(node)
                self.fetch(node, within_s=0.0)

    def join(self) -> None:
        host = self.one_up()
        if host is None or len(self.nodes) > 5 or host not in self.honest():
            return
        if host.replica and host.replica.roster.member(host.name):
            self.add(len(self.nodes), host)

    def revoke(self) -> None:
        """The operator throws a node out, on another one."""
        victims = [
            node for node in list(self.nodes.values())[1:] if node.name not in self.facts.revoked
        ]
        host = self.nodes["n0"]
        if len(victims) < 2 or host.replica is None:
            return
        victim = self.random.choice(victims)
        known = host.replica.roster.get(victim.name) or victim.enrolment
        version = host.replica.stamp(host.now, known.version)
        line = replace(victim.enrolment, version=version, revoked=True)
        self.facts.revoked[victim.name] = None
        self._lines[victim.name] = enrol(line, OPERATOR)
        host.replica.enrol(self._lines[victim.name], host.now)
        host.replica.purge(Purge(label=f"by:{victim.name}"), host.now)
        self.touched(host)

    # Who lies, and who breaks things.

    def _two_linked(self) -> tuple[Node, Node] | None:
        wires = [wire for wire in self.network.wires if wire.reader.up and wire.source.up]
        if not wires:
            return None
        wire = self.random.choice(wires)
        pair = [wire.reader, wire.source]
        self.random.shuffle(pair)
        return pair[0], pair[1]

    def _say(self, liar: Node, victim: Node, frame: bytes) -> None:
        """Over their link, whatever the liar's replica thinks of it."""
        for wire in self.network.wires:
            if {wire.reader, wire.source} == {liar, victim} and victim.replica is not None:
                data = written(Aside((frame,)))
                victim.replica.receive(wire.end_at(victim), data, victim.now)
                self.touched(victim)
                return

    def leak(self) -> None:
        """A node tells what it holds to who may not have it, under its own name."""
        if (pair := self._two_linked()) is None:
            return
        liar, victim = pair
        if liar.shelf is None or liar.replica is None or not liar.shelf.entries:
            return
        entry = self.random.choice(list(liar.shelf.entries.values()))
        if not entry.reach:
            return
        self._say(liar, victim, self._frame(liar, entry))

    def lie(self) -> None:
        """A node tells what nobody could have fetched."""
        if (pair := self._two_linked()) is None:
            return
        liar, victim = pair
        if liar.shelf is None or liar.replica is None or not liar.shelf.entries:
            return
        entry = self.random.choice(list(liar.shelf.entries.values()))
        ahead = Version(liar.replica.stamp(liar.now) + (1 << 30))
        lies = [
            {"seen": tuple((name, ahead) for name in sorted(self._names()))},
            {"version": ahead},
            {"expires_at": Timestamp(entry.stored_at + 40 * 86_400)},
            {"stored_by": NodeName("nobody.00000000")},
        ]
        entry = replace(entry, body=b"a lie", reach=EVERYWHERE, **self.random.choice(lies))  # type: ignore[arg-type]
        self._say(liar, victim, self._frame(liar, entry))

    def _frame(self, liar: Node, entry: Entry) -> bytes:
        assert liar.replica is not None
        version = liar.replica.stamp(liar.now)
        return signed(Entries(((entry, None),)), liar.name, version, key(liar.stem), FLEET)

    def forge(self) -> None:
        """A node tells something in another's name, or of another fleet."""
        if (pair := self._two_linked()) is None:
            return
        liar, victim = pair
        random = self.random
        assert liar.replica is not None
        entry = Entry(
            SCOPES[0],
            KEYS[0],
            "m",
            b"forged",
            Timestamp(victim.now.wall),
            Timestamp(victim.now.wall + 100),
            None,
            stored_by=random.choice(self._names()),
            version=liar.replica.stamp(liar.now),
            reach=EVERYWHERE,
        )
        by, fleet = random.choice(
            [(key("mallory"), FLEET), (key(liar.stem), bytes(16)), (key("mallory"), bytes(16))]
        )
        frame = signed(Entries(((entry, None),)), entry.stored_by, entry.version, by, fleet)
        self._say(liar, victim, frame)

    def babble(self) -> None:
        """Bytes that mean nothing, or what was said with a bit changed."""
        if (pair := self._two_linked()) is None:
            return
        liar, victim = pair
        random = self.random
        data = bytearray(random.randbytes(random.randint(0, 200)))
        if self.network.sent and random.random() < 0.7:
            data = bytearray(random.choice(self.network.sent[-50:])[2])
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            with suppress(MessageError):
                if not isinstance(read(bytes(data)), Aside):
                    return  # what only TLS can tell from what was said
        for wire in self.network.wires:
            if {wire.reader, wire.source} == {liar, victim} and victim.replica is not None:
                victim.replica.receive(wire.end_at(victim), bytes(data), victim.now)
                self.touched(victim)
                return

    def replay(self) -> None:
        """Somebody says again what was said by whomever, at any time before."""
        if (pair := self._two_linked()) is None or not self.network.sent:
            return
        data = self.random.choice(self.network.sent)[2]
        message = read(data)
        if isinstance(message, Aside | Batch):
            for frame in message.frames:
                self._say(*pair, frame)

    # A run.

    def run(self) -> None:
        """Raises Violation."""
        try:
            self._found()
            self._act()
            while self.time < self.faulty_s:
                self.run_until(self.time + 2.0)
                self._look()
            self._heal()
            self._agree()
            self._be_quiet()
            self._audit()
        except Violation as violation:
            raise Violation(f"seed {self.seed}, at {self.time:.3f} s: {violation}") from violation
        finally:
            for node in self.up():
                assert node.replica is not None
                node.replica.log.close()
                if isinstance(node.shelf, AnswersShelf):
                    node.shelf.close()

    def _look(self) -> None:
        for node in self.nodes.values():
            node.check(everything=True)
            node.check_confirmed()
            if node.replica is not None:
                node.replica.check()

    def _heal(self) -> None:
        self._over = True
        self.network.cuts.clear()
        self.bus.cuts.clear()
        self.weather.breaks_per_message = 0.0
        for node in list(self.nodes.values()):
            self._start(node)
        # Who started from an old disk may have forgotten whom it enrolled: the operator has not.
        founder = self.nodes["n0"]
        assert founder.replica is not None
        for line in self._lines.values():
            founder.replica.enrol(line, founder.now)
        self.touched(founder)

    def _agree(self) -> None:
        """All must come to hold the same."""
        until = self.time + HEALED_S
        while True:
            self.run_until(self.time + 2.0)
            self._look()
            why = disagreement(self.facts, self.honest(), self.hub)
            if why is None:
                return
            if self.time > until:
                raise Violation(why)

    def _be_quiet(self) -> None:
        """Who agrees says that it is there, and nothing else."""
        for node in [node for node in self.up() if node.broken]:
            self._gone(node, power=False)  # it never agrees, and others tell it so
            node.retired = True
        # Links that broke before are noticed and dialled anew by then, and cursors written down.
        self.run_until(max(self.time + 3.0, self.faulty_s + NOTICED_S + 4.0))
        self.network.sent.clear()
        self.bus.said.clear()
        self.run_until(self.time + QUIET_S)
        honest = self.honest()
        for sender, receiver, data in self.network.sent:
            if sender in honest and receiver in honest:
                message = read(data)
                if not isinstance(message, Aside) or any(
                    peek(frame).kind != Kind.PRESENCE for frame in message.frames
                ):
                    raise Violation(f"{sender.name} still says {type(message).__name__}")

        for sender, publication in self.bus.said:
            if sender in honest and publication.kind != Kind.PRESENCE:
                raise Violation(f"{sender.name} still says {publication.kind.name}")

    def _audit(self) -> None:
        for node in self.up():
            assert node.replica is not None
            node.replica.check()
            node.replica.turn(State.LEAVING, node.now)
            assert repr(node.replica).startswith(f"<Replica {node.name}")


ACTIONS: dict[str, Callable[[World], None]] = {
    "fetch": World.fetch,
    "purge": World.purge,
    "ask": World.ask,
    "cut": World.cut,
    "break link": World.break_link,
    "kill": World.kill,
    "fail power": World.fail_power,
    "copy disk": World.copy_disk,
    "restore disk": World.restore_disk,
    "join": World.join,
    "revoke": World.revoke,
    "leak": World.leak,
    "lie": World.lie,
    "forge": World.forge,
    "babble": World.babble,
    "replay": World.replay,
}
