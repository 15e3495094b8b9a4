#!/usr/bin/env python3
"""Builds index/english.txt.gz, the English word knowledge of the guard, from WordNet 3.0.

Usage: scripts/build_english.py /usr/share/wordnet index/english.txt.gz

The directory is the one that Debian's package `wordnet-base` installs. The result is the same
byte for byte on every run. Sections, each opened by a line `# name`:

nouns, verbs, others  single words, one a line: is this English, and is it a form of that?
common                the words above that occur in the tagged corpus: only these get misspelt
irregular             `form base...`
names                 the words above that are written with a capital only: Paris, Tuesday
kin                   `word word`: of one meaning in a usual sense, or a verb and the noun of its
                      act: evidence, no more, since their answers may differ
antonyms              `word word`: only to name a veto well; substitution is refused anyway
"""

import gzip
import re
import sys
from collections import defaultdict
from pathlib import Path

FILES = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
WORD = re.compile(r"[a-z]{3,}")
BASE = re.compile(r"[a-z]{2,}")
NOMINAL = re.compile(r"[a-z]+(?:tion|sion|ment|al|ance|ence|ure|ing)")

# Lexicographer files whose synonyms are not interchangeable in a question: quantities, time.
UNSAFE_FIELDS = {"23", "28"}

Sense = tuple[str, str]


class WordNet:
    def __init__(self, directory: Path) -> None:
        self.words: dict[Sense, list[str]] = {}
        self.written: dict[str, set[str]] = defaultdict(set)
        self.fields: dict[Sense, str] = {}
        self.links: list[tuple[str, str, str, str, str]] = []
        self.senses: dict[str, dict[str, list[str]]] = defaultdict(dict)
        self.uses: dict[tuple[str, str, str], int] = defaultdict(int)
        self.irregular: dict[str, set[str]] = defaultdict(set)
        for name, part in FILES.items():
            self._read_index(directory / f"index.{name}", part)
        pending: list[tuple[str, Sense, Sense, str]] = []
        for name, part in FILES.items():
            pending += self._read_data(directory / f"data.{name}", part)
        self._resolve(pending)
        self._read_uses(directory / "cntlist.rev")
        for name in ("noun", "verb"):  # adjectives: better is not good
            for line in (directory / f"{name}.exc").read_text().splitlines():
                form, *bases = line.split()
                self.irregular[form].update(bases)

    def _read_index(self, path: Path, part: str) -> None:
        for line in path.read_text().splitlines():
            if not line.startswith(" "):
                fields = line.split()
                self.senses[fields[0]][part] = fields[4 + int(fields[3]) + 2 :]

    def _read_data(self, path: Path, part: str) -> list[tuple[str, Sense, Sense, str]]:
        links = []
        for line in path.read_text().splitlines():
            if line.startswith(" "):
                continue
            fields = line.split(" | ")[0].split()
            count = int(fields[3], 16)
            sense = (part, fields[0])
            self.fields[sense] = fields[1]
            written = [fields[4 + 2 * i].split("(")[0] for i in range(count)]
            self.words[sense] = written
            for word in written:
                self.written[word.lower()].add(word)
            at = 4 + 2 * count
            for i in range(int(fields[at])):
                symbol, offset, other, ends = fields[at + 1 + 4 * i : at + 5 + 4 * i]
                links.append((symbol, sense, ("a" if other == "s" else other, offset), ends))
        return links

    def _resolve(self, pending: list[tuple[str, Sense, Sense, str]]) -> None:
        for symbol, source, target, ends in pending:
            if symbol in "+!":
                one = self.words[source][int(ends[:2], 16) - 1]
                other = self.words[target][int(ends[2:], 16) - 1]
                self.links.append((symbol, source[0], one, target[0], other))

    def _read_uses(self, path: Path) -> None:
        for line in path.read_text().splitlines():
            key, number, uses = line.split()
            word, rest = key.split("%")
            part = "nvara"["12345".index(rest[0])]
            offsets = self.senses[word].get(part, [])
            if int(number) <= len(offsets):
                self.uses[word, part, offsets[int(number) - 1]] = int(uses)

    def total_uses(self, word: str) -> int:
        parts = self.senses[word].items()
        return sum(self.uses[word, part, offset] for part, offsets in parts for offset in offsets)

    def means(self, word: str, sense: Sense) -> bool:
        """Whether this is one of the word's two most usual senses, and the word is in use."""
        part, offset = sense
        return offset in self.senses[word].get(part, [])[:2] and self.total_uses(word) > 0


def synonyms(net: WordNet) -> set[tuple[str, str]]:
    found = set()
    for sense, words in net.words.items():
        if net.fields[sense] in UNSAFE_FIELDS:
            continue
        plain = [w for w in words if WORD.fullmatch(w) and net.means(w, sense)]
        found |= {(a, b) for a in plain for b in plain if a < b}
    return found


def nominal(net: WordNet) -> set[tuple[str, str]]:
    return {
        (one, other)
        for symbol, part, one, other_part, other in net.links
        if symbol == "+" and part == "v" and other_part == "n"
        if WORD.fullmatch(one) and NOMINAL.fullmatch(other) and one[:3] == other[:3]
        if one != other and net.total_uses(one) + net.total_uses(other) > 0
    }


def antonyms(net: WordNet) -> set[tuple[str, str]]:
    return {
        (min(one, other), max(one, other))
        for symbol, _, one, _, other in net.links
        if symbol == "!" and WORD.fullmatch(one) and WORD.fullmatch(other)
    }


def sections(net: WordNet) -> dict[str, list[str]]:
    plain = {w: parts for w, parts in net.senses.items() if WORD.fullmatch(w)}
    opposites = antonyms(net)
    kin = synonyms(net) | {(min(pair), max(pair)) for pair in nominal(net)}
    return {
        "nouns": sorted(w for w, parts in plain.items() if "n" in parts),
        "verbs": sorted(w for w, parts in plain.items() if "v" in parts),
        "others": sorted(w for w, parts in plain.items() if not parts.keys() & {"n", "v"}),
        "common": sorted(w for w in plain if len(w) >= 5 and net.total_uses(w) > 0),
        "names": sorted(w for w in plain if all(not x.islower() for x in net.written[w])),
        "irregular": sorted(
            f"{form} {' '.join(sorted(b for b in bases if BASE.fullmatch(b)))}"
            for form, bases in net.irregular.items()
            if WORD.fullmatch(form) and any(BASE.fullmatch(b) for b in bases)
        ),
        "kin": sorted(f"{a} {b}" for a, b in kin - opposites),
        "antonyms": sorted(f"{a} {b}" for a, b in opposites),
    }


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    lines = ["# licence", "WordNet 3.0 Copyright 2006 by Princeton University. See NOTICE."]
    for name, rows in sections(WordNet(source)).items():
        lines += [f"# {name}", *rows]
    target.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", 9, mtime=0))


if __name__ == "__main__":
    main()
