"""Whom to evict: what is kept by value, on disk and in memory, against the other rules.

    python -m bench.eviction [--requests 60000]

Requests are drawn from a Zipf distribution over as many different prompts as a sixth of them;
answers have a median of 1.5 kB and prompts one of 150 tokens, both log-normal and unrelated to how
often they are asked for. `drift`: each twentieth of the way, three of ten prompts change places
with others. `once`: half of the requests are for what is never asked for again. The first quarter
warms up. A figure is the share of all tokens that hits saved, and of requests that were hits.

What holds with tenants is shown by tests/index/test_eviction.py.
"""

import argparse
import heapq
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from index.entry import CacheKey, Entry, Scope, Timestamp
from index.memory import OVERHEAD_BYTES, Memory, MemorySettings
from index.rows import Stored, encode
from index.store import Store, StoreSettings

NOW = Timestamp(1.8e9)
SCOPE = Scope("shared")
TRACES = {
    "zipf 0.8": (0.8, False, False),
    "zipf 1.0": (1.0, False, False),
    "zipf 0.9, drift": (0.9, True, False),
    "zipf 0.9, once": (0.9, False, True),
    "zipf 0.9, drift, once": (0.9, True, True),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    entry: Entry
    tokens: int
    disk_bytes: int
    memory_bytes: int


class Cache(Protocol):
    def ask(self, prompt: Prompt) -> bool:
        """Was it there? It is afterwards."""


class Model:
    """An ideal cache that evicts the lowest turn: LRU, LFU with aging, GreedyDual and kin."""

    def __init__(
        self,
        max_bytes: float,
        size: Callable[[Prompt], int],
        worth: Callable[[Prompt], float],
        hits_max: float = 15,
        half_life: float | None = None,
    ) -> None:
        self.left, self.size, self.worth = max_bytes, size, worth
        self.hits_max, self.half_life = hits_max, half_life
        self.age = 0.0
        self.kept: dict[CacheKey, tuple[float, float, float]] = {}  # turn, hits, age at the last
        self.turns: list[tuple[float, CacheKey, int]] = []

    def ask(self, prompt: Prompt) -> bool:
        key, worth, size = prompt.entry.key, self.worth(prompt), self.size(prompt)
        hit, hits = key in self.kept, 0.0
        if hit:
            _, hits, then = self.kept[key]
            if self.half_life is not None:
                hits *= 0.5 ** ((self.age - then) / worth / self.half_life)
            hits = min(hits + 1, self.hits_max)
        else:
            self.left -= size
            while self.left < 0:
                self.evict()
        self.kept[key] = (self.age + (1 + hits) * worth, hits, self.age)
        heapq.heappush(self.turns, (self.kept[key][0], key, size))
        return hit

    def evict(self) -> None:
        turn, key, size = heapq.heappop(self.turns)
        if key in self.kept and self.kept[key][0] == turn:
            self.age = max(self.age, turn)
            self.left += size
            del self.kept[key]


class Disk:
    """Our store, with hits written down every hundred requests."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.hits: Counter[int] = Counter()
        settings = StoreSettings(max_bytes=max_bytes, tick_s=3600)
        self.store = Store(Path(directory), settings, normaliser="1", follower=self)
        self.asked = 0

    def ask(self, prompt: Prompt) -> bool:
        found = self.store.get(SCOPE, prompt.entry.key)
        if found is None:
            self.store.put(self.store.next_id(), prompt.entry, None)
        else:
            self.hits[found.id] += 1
        self.asked += 1
        if self.asked % 100 == 0:
            writer = self.store._writer
            writer.run(lambda: writer._write_down_hits(writer._opened())).result()
        return found is not None

    def stored(self, puts: object) -> None: ...
    def removed(self, ids: object) -> None: ...
    def emptied(self) -> None: ...
    def touched(self) -> Sequence[tuple[int, int]]:
        hits, self.hits = self.hits, Counter()
        return list(hits.items())


class Hot:
    """Our memory, before a disk that keeps everything."""

    def __init__(self, max_bytes: int) -> None:
        self.memory = Memory(MemorySettings(max_bytes=max_bytes))
        self.on_disk: set[CacheKey] = set()
        self.last_id = 0

    def ask(self, prompt: Prompt) -> bool:
        key = prompt.entry.key
        if (hot := self.memory.get(SCOPE, key, NOW)) is not None:
            self.memory.touch(hot)
            return True
        self.last_id += 1
        self.memory.put(self.last_id, prompt.entry, proven=key in self.on_disk)
        self.on_disk.add(key)
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=60_000)
    count = options.parse_args().requests
    for name, shape in TRACES.items():
        asked = trace(count, *shape)
        different = {prompt.entry.key: prompt for prompt in asked[: count // 2]}.values()
        for share in (0.1, 0.3):
            on_disk = int(share * sum(prompt.disk_bytes for prompt in different))
            in_memory = int(share * sum(prompt.memory_bytes for prompt in different))
            print(f"{name}; room for {share:.0%} of what half of it asks for")
            for rule, cache in disks(on_disk).items():
                report("disk", rule, cache, asked)
            with tempfile.TemporaryDirectory() as directory:
                # What the file keeps free for its writer is not for answers.
                disk = Disk(directory, on_disk * 32 // 31)
                report("disk", "ours", disk, asked)
                disk.store.close()
            for rule, cache in memories(in_memory).items():
                report("memory", rule, cache, asked)


def disks(max_bytes: int) -> dict[str, Cache]:
    def size(prompt: Prompt) -> int:
        return prompt.disk_bytes

    def value(prompt: Prompt) -> float:
        return prompt.tokens / prompt.disk_bytes

    def one(prompt: Prompt) -> float:
        return 1.0

    return {
        "LRU": Model(max_bytes, size, one, hits_max=0),
        "LFU with aging": Model(max_bytes, size, one),
        "GDSF": Model(max_bytes, size, value),
        "GDSF, hits halved every turnover": Model(max_bytes, size, value, half_life=1),
        "GDSF, hits halved every 4": Model(max_bytes, size, value, half_life=4),
    }


def memories(max_bytes: int) -> dict[str, Cache]:
    def size(prompt: Prompt) -> int:
        return prompt.memory_bytes

    return {
        "LRU": Model(max_bytes, size, lambda prompt: 1.0, hits_max=0),
        "GDSF, each hit the same": Model(max_bytes, size, lambda prompt: 1e3 / size(prompt)),
        "ours": Hot(max_bytes),
    }


def report(where: str, rule: str, cache: Cache, asked: Sequence[Prompt]) -> None:
    warm = len(asked) // 4
    for prompt in asked[:warm]:
        cache.ask(prompt)
    hits = [(prompt.tokens, cache.ask(prompt)) for prompt in asked[warm:]]
    saved = sum(tokens for tokens, hit in hits if hit) / sum(tokens for tokens, _ in hits)
    print(
        f"    {where:6} {rule:34}{saved:7.1%} of tokens{sum(h for _, h in hits) / len(hits):8.1%}"
    )


def trace(count: int, power: float, drift: bool, once: bool) -> list[Prompt]:
    random = np.random.default_rng(1)
    different = count // 6
    weights = np.arange(1, different + 1) ** -power
    ranks = random.choice(different, size=count, p=weights / weights.sum())
    prompts = [make(n, random) for n in range(different)]
    asked = []
    for n, rank in enumerate(ranks):
        if drift and n % (count // 20) == 0:
            moved = random.choice(different, size=different * 3 // 10, replace=False)
            for one, other in zip(moved, random.permutation(moved), strict=True):
                prompts[one], prompts[other] = prompts[other], prompts[one]
        new = once and random.random() < 0.5
        asked.append(make(different + n, random) if new else prompts[rank])
    return asked


def make(n: int, random: np.random.Generator) -> Prompt:
    body = bytes(int(np.clip(random.lognormal(7.3, 1.0), 200, 60_000)))
    tokens = int(np.clip(random.lognormal(5.0, 1.5), 5, 100_000)) + len(body) // 4
    key = CacheKey(b"%032d" % n)
    entry = Entry(SCOPE, key, "m", body, NOW, Timestamp(NOW + 1e9), None, tokens)
    return Prompt(entry, tokens, encode(Stored(n, entry))[6], OVERHEAD_BYTES + len(body))


if __name__ == "__main__":
    main()
