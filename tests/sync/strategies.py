"""Any message there is, for laws that hold for all of them."""

from dataclasses import replace

from hypothesis import strategies as st

from index.entry import (
    CacheKey,
    Entry,
    Hint,
    NodeName,
    PartitionKey,
    Purge,
    Purged,
    Question,
    Scope,
    Timestamp,
    Version,
)
from sync.dialogue import Aside, Batch, DialogueMessage, Heard, Hello, Start
from sync.messages import (
    Enrolments,
    Entries,
    Grant,
    Grants,
    Item,
    Message,
    Presence,
    State,
    Table,
)
from tests.fakes.fleet import node

BY = node("fra-1")
NAMES = st.text(min_size=1, max_size=12)
BLOBS = st.binary(max_size=64)
TIMES = st.floats(0, 1e10, allow_nan=False)
VERSIONS = st.integers(1, (1 << 63) - 1).map(Version)
DIGESTS = st.integers(0, (1 << 64) - 1)
KEYS = st.binary(min_size=32, max_size=32)
SEENS = st.lists(st.tuples(NAMES.map(NodeName), VERSIONS), max_size=3).map(tuple)
QUESTIONS = st.none() | st.builds(Question, KEYS.map(PartitionKey), st.text(max_size=40))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    stored_at = draw(TIMES)
    return Entry(
        scope=Scope(draw(NAMES)),
        key=CacheKey(draw(KEYS)),
        model=draw(NAMES),
        body=draw(BLOBS),
        stored_at=Timestamp(stored_at),
        expires_at=Timestamp(stored_at + draw(st.floats(1, 1e6))),
        question=draw(QUESTIONS),
        tokens=draw(st.integers(0, 1 << 31)),
        stored_by=NodeName(draw(NAMES)),
        version=draw(VERSIONS),
        seen=draw(SEENS),
        reach=tuple(draw(st.lists(NAMES, min_size=1, max_size=3))),
        labels=tuple(draw(st.lists(NAMES, max_size=3))),
        pinned=draw(st.booleans()),
    )


@st.composite
def items(draw: st.DrawFn) -> tuple[Item, ...]:
    first = draw(entries())
    encoder = draw(NAMES)
    together = [first, *draw(st.lists(entries(), max_size=4))]
    return tuple(
        (
            replace(one, scope=first.scope, reach=first.reach),
            draw(st.none() | BLOBS.map(lambda codes: Hint(encoder, codes))),
        )
        for one in together
    )


PURGES = st.builds(
    Purge, st.none() | NAMES.map(Scope), st.none() | NAMES, st.none() | KEYS.map(CacheKey)
)


@st.composite
def purgeds(draw: st.DrawFn) -> Purged:
    version = draw(VERSIONS)
    previous = draw(st.integers(0, version - 1))
    return Purged(draw(PURGES), BY, version, Version(previous), draw(st.booleans()))


UNITS = st.floats(0, 1e9)
METERS = st.lists(st.tuples(UNITS, UNITS, UNITS), max_size=3).map(tuple)
FRAMES = st.lists(BLOBS, max_size=4).map(tuple)
MESSAGES: st.SearchStrategy[Message] = (
    st.builds(Entries, items())
    | purgeds()
    | st.builds(Enrolments, FRAMES)
    | st.builds(
        Presence,
        st.sampled_from(State),
        NAMES,
        st.text(max_size=12),
        SEENS,
        st.integers(0, 1 << 40),
        VERSIONS,
        DIGESTS,
        DIGESTS,
    )
    | st.builds(Table, SEENS, SEENS, FRAMES)
    | st.builds(Grants, st.lists(st.builds(Grant, NAMES, NAMES, METERS), max_size=3).map(tuple))
)
RUNS = st.binary(min_size=8, max_size=8) | st.just(b"")
DIALOGUE: st.SearchStrategy[DialogueMessage] = (
    st.builds(Hello, VERSIONS, RUNS, SEENS, DIGESTS, st.booleans(), st.booleans())
    | st.builds(Start, RUNS, VERSIONS, VERSIONS, st.booleans())
    | st.builds(Batch, VERSIONS, VERSIONS, FRAMES)
    | st.builds(Heard, DIGESTS)
    | st.builds(Aside, FRAMES)
)
