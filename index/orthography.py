"""How a text is written, as is looked at before it is folded: quotes, dashes, signs, and the case
of *US*, *IT* and *Polish*.
"""

import re
import unicodedata
from typing import Final

from index import english, lexicon

_QUOTES: Final = str.maketrans(
    "\u2019\u2018\u02bc`\u201c\u201d\u00ab\u00bb\u2013\u2014\u2212\u2010\u2011\u2026",
    "'" * 4 + '"' * 4 + "-" * 5 + " ",
)
"""Typographic quotes, dashes and the ellipsis to what a keyboard has."""

_EMPTY: Final[frozenset[str]] = frozenset()
_POWERS: Final = str.maketrans({"²": "^2", "³": "^3", "¹": "^1"})


def composed(text: str) -> str:
    """In Unicode's compatibility form, but for powers: there 10² would be 102."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text.translate(_POWERS))


def fold(text: str) -> str:
    """Composed, single-spaced, with the quotes and dashes that a keyboard has."""
    return " ".join(composed(text).translate(_QUOTES).split())


_SIGNS: Final = re.compile(
    r"(?<!\S)[!?:;()]+(?!\S)"  # what does ! mean
    r"|(?<=\d)['\"]"
    r"|(?<![A-Za-z])(?:[kmgtKMGT][wvagmbWVAGMB]|[A-Z][A-Za-z])(?![A-Za-z'])"
)


def signs(text: str) -> frozenset[tuple[str, str]]:
    if shouted(text):
        return frozenset()
    return frozenset((sign.lower(), sign) for sign in _SIGNS.findall(text.rstrip(" ?!.")))


def shouted(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return sum(c.isupper() for c in letters) > len(letters) / 2


def mark_acronyms(text: str) -> str:
    """IT and US are not it and us; World War I and Type A hold no pronoun and no article."""
    text = re.sub(r"(?<=\d)( ?)([MGT])b(?=ps\b|/s\b|\b)", r"\1\2bit", text)
    if shouted(text):
        return text
    text = re.sub(r"(?<=\w )(US|IT|WHO|AM|OR|IN|MAY|ARE|NOT|AND|IS|AS|AT|SO|DO|BE|WE)\b",
                  lambda m: {"US": "usa"}.get(m[1], m[1] + "acronym"), text)  # fmt: skip
    text = re.sub(r"\b((?!If|When|Can|Do|Should|May|And|But|So|Or|Am|Will|Would|Could|Must|Because)"
                  r"[A-Z][a-z]+|type|phase|part|class|level|war|grade|stage) I\b(?!')",
                  r"\1 1", text)  # fmt: skip
    return re.sub(
        r"\b((?!Is|Was|Are|Does|Did|Has|Had)[A-Za-z]{3,}) A(?= |$|\?|,)", r"\1 letter-a", text
    )


def cases(text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Names; those that a capital tells from a word; and what is written small, with its forms.

    Of *the Berlin Wall* either word makes the other a name, so their capitals say no more.
    """
    text = _SENTENCE.sub(lambda start: start[0].lower(), text)
    words = re.findall(r"[A-Za-z]+", text)
    inside = [word for word in words[1:] if word != "I"]
    small = {word for word in inside if word.islower()}
    if not small or any(word[0].isupper() and word.lower() in _SMALL for word in inside):
        return _EMPTY, _EMPTY, _with_forms(small)  # Title Case and all capitals say nothing
    names, lone = set(), set()
    for before, word, after in zip(words, words[1:], [*words[2:], ""], strict=False):
        if word in lexicon.CASELESS and before.lower() not in _OWNING:
            small.discard(word)  # a python is no Python, but python may be
        if word == "I" or word.islower():
            continue
        names.add(word.lower())
        near = (after, before if before is not words[0] else "")
        in_a_name = any(n[:1].isupper() and n not in ("I", "The", "A") for n in near)
        if not in_a_name and english.ambiguous(word.lower()):
            lone.add(word.lower())
    return frozenset(names), _with_forms(lone), _with_forms(small)


_SENTENCE: Final = re.compile(
    rf"(?<=[.!?] )(?:{'|'.join(sorted(lexicon.CLOSED | {'please'}))})\b", re.IGNORECASE
)
_OWNING: Final = frozenset(("a", "an", "my", "your", "our", "his", "her", "their"))
_SMALL: Final = frozenset(lexicon.BE_DO_HAVE) | {"you", "my", "your", "to", "and", "can"}


def _with_forms(words: set[str]) -> frozenset[str]:
    return frozenset(form for word in words for form in english.forms(word))


_DEFINITE = re.compile(
    r"\b[Tt]he (?:(?!of|in|on|for|to|at|from|by|with|and|or)[a-z]+ )?([A-Z]\w*)(?! ?[A-Z])"
    r"(?= (?:of|in|on|for|to|at|from|by|with|and|or|is|are|was|were|do|does|did|has|have|had)\b"
    r"|\W*$|[,.;:?!])"
)


def definite(text: str) -> frozenset[str]:
    """Names after *the*, unless they only tell which: *the Titanic*, but not *the Wi-Fi code*."""
    return frozenset(name.lower() for name in _DEFINITE.findall(text))
