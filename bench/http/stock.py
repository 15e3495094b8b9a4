"""Stores filled before a node starts, and wordings to ask for what is in them.

Questions are made of verb, thing and place, so that each has neighbours that differ from it in one
word: the candidates that the node's guard has to tell apart.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

import numpy as np

from bench.http.work import ANSWER_BYTES, Scratch, answer, chat
from edge.admission.keys import SHARED
from edge.dialects.openai_chat import OpenAiChat
from edge.identity import fleet_secret
from index import prompt
from index.answers import Answers
from index.decision import DecisionSettings
from index.embedding import EmbeddingSettings, Encoder, load
from index.entry import CacheKey, Entry, PartitionKey, Question, Timestamp
from index.memory import MemorySettings
from index.store import StoreSettings

TOKENS = 13
LIFE_S = 86_400.0
EMBED_AT_ONCE = 8
PUT_AT_ONCE = 1_000

# fmt: off
VERBS = (
    "clean", "paint", "move", "store", "wrap", "sell", "dry", "carry", "polish", "replace",
    "measure", "decorate", "protect", "label", "photograph", "repair", "lift", "hide", "cover",
    "inspect",
)
KINDS = (
    "leather", "wooden", "white", "broken", "heavy", "glass", "metal", "plastic", "small",
    "dusty", "antique", "wet", "green", "rusty",
)
THINGS = (
    "sofa", "table", "mirror", "lamp", "chair", "drawer", "bottle", "cabinet", "door", "window",
    "basket", "bicycle", "clock", "bench", "ladder", "carpet",
)
PLACES = (
    "in the garage", "in the kitchen", "before the winter", "with warm water", "on the balcony",
)
# fmt: on


def encoder(scratch: Scratch) -> Encoder:
    """The node's own; exported on the first call."""
    return load(EmbeddingSettings(), scratch.models)


def subjects(reads: Encoder, count: int) -> list[str]:
    """What to ask about, so that the whole question has `TOKENS` tokens."""
    made = [
        f"{verb} a {kind} {thing} {place}"
        for verb, kind, thing, place in product(VERBS, KINDS, THINGS, PLACES)
    ]
    Random(1).shuffle(made)
    fit = [one for one in made if len(reads.read(wording(one)).ids) == TOKENS]
    assert len(fit) >= count, f"only {len(fit)} questions of {TOKENS} tokens"
    return fit[:count]


def wording(subject: str) -> str:
    """As it was first asked."""
    return f"How do I {subject}?"


def other_wording(subject: str) -> str:
    return f"How can I {subject}?"


def fill(data: Path, embeds: Encoder, about: list[str], now: float) -> None:
    """Keep an answer to every subject, number `at` to the one at that place, as the node would."""
    secret = fleet_secret(None, data)
    with closing(_opened(data, embeds)) as answers:
        for start in range(0, len(about), EMBED_AT_ONCE):
            texts = [wording(subject) for subject in about[start : start + EMBED_AT_ONCE]]
            for at, (text, vector) in enumerate(zip(texts, embeds.embed(texts), strict=True)):
                entry = _entry(text, start + at, secret, now)
                answers.put(entry, vector)
            if start % PUT_AT_ONCE == 0:
                answers.flush()
        answers.flush()


def pad(data: Path, embeds: Encoder, count: int, now: float) -> None:
    """Entries that only take room: their vectors are random, nobody will ask for them."""
    made = np.random.default_rng(1)
    blank = Entry(
        scope=SHARED,
        key=CacheKey(b""),
        model="bench",
        body=answer(),
        stored_at=Timestamp(now),
        expires_at=Timestamp(now + LIFE_S),
        question=None,
    )
    with closing(_opened(data, embeds)) as answers:
        for numbers in _groups(count):
            vectors = made.normal(size=(len(numbers), embeds.dimensions)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for number, vector in zip(numbers, vectors, strict=True):
                question = Question(PartitionKey(bytes(32)), f"what is known of subject {number}?")
                key = CacheKey(b"%032d" % number)
                entry = replace(blank, key=key, question=question)
                answers.put(entry, vector)
            answers.flush()
        stored = answers.stats.store.entries
        assert stored >= count, f"only {stored} of {count} entries were stored"


def _opened(data: Path, embeds: Encoder) -> Answers:
    answers = Answers.open(data, StoreSettings(), MemorySettings(), DecisionSettings())
    answers.similar.load(embeds.fingerprint, embeds.dimensions)
    return answers


def _entry(text: str, number: int, secret: bytes, now: float) -> Entry:
    asked = OpenAiChat().parse(chat(text)).prompt
    question = prompt.route(asked, SHARED, secret).question
    assert question is not None, f"{text} is not matched by meaning"
    body = answer(number)
    assert len(body) == ANSWER_BYTES
    return Entry(
        scope=SHARED,
        key=prompt.exact_key(asked, SHARED, secret),
        model=asked.model,
        body=body,
        stored_at=Timestamp(now),
        expires_at=Timestamp(now + LIFE_S),
        question=question,
    )


def _groups(count: int) -> Iterator[range]:
    for start in range(0, count, PUT_AT_ONCE):
        yield range(start, min(count, start + PUT_AT_ONCE))
