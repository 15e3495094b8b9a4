"""Labelled questions: pairs, and streams whose right answer is known.

A set that cannot be read raises MissingError, which says what to install or where to point.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

Message = Mapping[str, str]


class MissingError(Exception):
    """The data is not here; says what would bring it."""


class Turn(NamedTuple):
    """The last user text of a request, and the turns before it."""

    text: str
    history: tuple[Message, ...] = ()


class Pair(NamedTuple):
    """One question is cached, the other asked: has it the same answer?"""

    kind: str
    cached: Turn
    asked: Turn
    same: bool


class Asked(NamedTuple):
    """One request of a stream. `answer` names its right answer when it is asked."""

    turn: Turn
    answer: str


@dataclass(frozen=True)
class Pairs:
    name: str
    pairs: list[Pair]


@dataclass(frozen=True)
class Stream:
    name: str
    asked: list[Asked]
    note: str = ""
    labelled: bool = True
    disagreement: float = 0.0
    """How often the upstream's answer differs from what it says otherwise to the same question."""


def nearmiss(data: Path) -> Pairs:
    rows = _lines(data / "nearmiss" / "pairs.jsonl")
    pairs = [
        _pair(row["kind"], row["text_a"], row["text_b"], same=row["label"] == 1) for row in rows
    ]
    return Pairs("nearmiss", pairs)


def pawsx(data: Path) -> Pairs:
    with _file(data / "pawsx" / "dev-en.tsv").open(newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    labelled = [row for row in rows if row[-1] in ("0", "1")]
    pairs = [_pair("word-swap", row[-3], row[-2], same=row[-1] == "1") for row in labelled]
    return Pairs("PAWS-X English dev", pairs)


def adversarial(path: Path, name: str) -> Pairs:
    found = json.loads(_file(path).read_text())
    wrong = [_pair(kind, a, b, same=False) for kind, a, b in found["wrong"]]
    return Pairs(name, wrong + [_pair(kind, a, b, same=True) for kind, a, b in found["right"]])


def questions(parts: str) -> Pairs:
    """Our own, written for the guard: `parts` names those that were written together."""
    found = json.loads((ROOT / "tests" / "vectors" / "questions.json").read_text())
    apart = [_pair(kind, a, b, same=False) for part, kind, a, b in found["apart"] if part in parts]
    alike = [_pair("", a, b, same=True) for part, a, b in found["alike"] if part in parts]
    return Pairs(f"our own, written as {', '.join(parts)}", apart + alike)


def fow_single(odd: bool) -> Pairs:
    """Rules may be written with the odd ids; the even ones are for the score."""
    rows = [row for row in _lines(_fow() / "pairs.jsonl") if _number(row["id"]) % 2 == odd]
    pairs = [_pair(row["category"], row["a"], row["b"], same=row["same_answer"]) for row in rows]
    return Pairs(f"fow-cache single, {'odd' if odd else 'even'} ids", pairs)


def fow_conversations(part: str) -> Pairs:
    """`part` is conv-parts (3 to 20 messages) or conv-long (to 70)."""
    paths = sorted((_fow() / part).glob("*.jsonl"))
    rows = [row for path in paths for row in _lines(path)]
    pairs = [
        Pair(row["subtype"], _turn(row["a"]), _turn(row["b"]), row["same_answer"]) for row in rows
    ]
    return Pairs(f"fow-cache conversations, {part}", pairs)


FITTED = "its train split fitted the calibration"
UNSEEN = "nothing of it fitted the calibration"


def clinc(data: Path, seed: int, *, unseen: bool = False) -> Stream:
    """Intents; an utterance that is out of scope is an answer of its own."""
    found = json.loads(_file(data / "clinc150" / "data_full.json").read_text())
    if unseen:
        del found["train"]
    rows = [(text, intent) for part in found.values() for text, intent in part]
    labelled = [
        (text, f"oos {place}" if intent == "oos" else intent)
        for place, (text, intent) in enumerate(rows)
    ]
    return _shuffled("CLINC150", labelled, seed, unseen=unseen)


def banking(data: Path, seed: int, *, unseen: bool = False) -> Stream:
    rows: list[tuple[str, str]] = []
    for part in ("test",) if unseen else ("train", "test"):
        with _file(data / "banking77" / f"{part}.csv").open(newline="") as lines:
            rows += [(row["text"], row["category"]) for row in csv.DictReader(lines)]
    return _shuffled("BANKING77", rows, seed, unseen=unseen)


def arena_hard(data: Path) -> Stream:
    """Real prompts, in order. Nobody has said which of them are the same question."""
    paths = [data / "arena_hard" / f"question_{version}.jsonl" for version in ("v0.1", "v2.0")]
    texts = list(dict.fromkeys(row["prompt"] for path in paths for row in _lines(path)))
    asked = [Asked(Turn(text), f"prompt {place}") for place, text in enumerate(texts)]
    return Stream("arena-hard prompts", asked, "nothing labelled: every hit needs a look", False)


def _shuffled(name: str, rows: list[tuple[str, str]], seed: int, *, unseen: bool) -> Stream:
    """In an order that a seed fixes, without repeats: those are the exact tier's."""
    unique = list(dict(rows).items())
    Random(seed).shuffle(unique)
    asked = [Asked(Turn(text.strip()), answer) for text, answer in unique]
    many = sum(count > 1 for count in Counter(one.answer for one in asked).values())
    note = f"{many} answers that are asked for more than once, {len(rows) - len(unique)} repeats "
    note += f"left out; {UNSEEN if unseen else FITTED}"
    return Stream(name + (", not train" if unseen else ""), asked, note)


def _pair(kind: str, cached: str, asked: str, *, same: bool) -> Pair:
    return Pair(kind, Turn(cached), Turn(asked), same)


def _turn(messages: list[dict[str, str]]) -> Turn:
    return Turn(messages[-1]["content"], tuple(messages[:-1]))


def _number(name: str) -> int:
    return int(re.findall(r"\d+", name)[-1])


def _fow() -> Path:
    spec = find_spec("fow_cache")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("the package fow-cache is not installed")
    return Path(spec.submodule_search_locations[0]) / "data"


def _file(path: Path) -> Path:
    if not path.is_file():
        raise MissingError(f"no {path}")
    return path


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _file(path).read_text().split("\n") if line)
