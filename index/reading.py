"""One text as the guard sees it: what it asks for, of what, about what, in which order.

A text is folded (`orthography`: Unicode compatibility, quotes, case), brought to its plainest
phrasing (`frames`), and cut into words that each have their role (`syntax`).

A reading takes 130 to 280 us to make, by how busy the machine is, and 3.4 kB of memory. `packed`
makes some 500 bytes of it, to be kept beside the text, and a ninth of the time brings it back.
"""

import marshal
import sys
from dataclasses import fields
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final

from index import frames, language, orthography
from index.syntax import Sentence
from index.words import Reading, Token


@lru_cache(maxsize=1024)  # 3.5 MB when full
def read(text: str) -> Reading:
    """Everything the guard wants to know of one text. Never raises."""
    if (known := _handed.pop(text, None)) is not None:
        return known
    folded = orthography.fold(text)
    if language.foreign(text):
        plain = language.verbatim(folded)
        none: frozenset[str] = frozenset()
        return Reading(
            plain, "bare", "", 0, none, (), (), (), (), (), none, none, none, none,
            addressed=False, mention=False, signs=frozenset(), foreign=True,
        )  # fmt: skip
    plain = frames.plain(orthography.mark_acronyms(folded).lower())
    return Sentence(plain, folded).reading()


_handed: dict[str, Reading] = {}
"""From `recall` to `read`, which alone can put something into its cache."""

RULES: Final = (
    "english.py", "english.txt.gz", "frames.py", "language.py", "lexicon.py", "orthography.py",
    "patterns.py", "quantities.py", "reading.py", "syntax.py", "words.py",
)  # fmt: skip
"""What a reading depends on. Where one of these has changed, it is made anew."""


def _fingerprint() -> bytes:
    digest = blake2b(sys.version.encode(), digest_size=32)  # marshal's format and Unicode's tables
    for name in RULES:
        digest.update((files("index") / name).read_bytes())
    return digest.digest()


_FINGERPRINT: Final = _fingerprint()
_TAG_BYTES: Final = 16
_NAMES: Final = [field.name for field in fields(Reading)]
_TOKENS_AT: Final = _NAMES.index("tokens")


def packed(text: str) -> bytes:
    """The reading of `text` as bytes, for `recall`."""
    reading = read(text)
    values = [getattr(reading, name) for name in _NAMES]
    values[_TOKENS_AT] = tuple(map(tuple, values[_TOKENS_AT]))
    body = marshal.dumps(values)
    return _tag(text, body) + body


def recall(text: str, packed: bytes) -> bool:
    """Have `read(text)` find what was packed; False if that is not of this text, whole, and by
    these rules.
    """
    tag, body = packed[:_TAG_BYTES], packed[_TAG_BYTES:]
    if tag != _tag(text, body):  # also what makes it safe to load: marshal trusts its input
        return False
    values = marshal.loads(body)
    values[_TOKENS_AT] = tuple(map(Token._make, values[_TOKENS_AT]))
    _handed[text] = Reading(*values)
    read(text)
    _handed.pop(text, None)  # it was known
    return True


def _tag(text: str, body: bytes) -> bytes:
    digest = blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=_TAG_BYTES, key=_FINGERPRINT
    )
    digest.update(body)
    return digest.digest()
