"""Many regular expressions as one, arranged so that a text is scanned once and fast.

The `re` module tries every branch at every character. But nearly all our branches begin at the
start of a word or of the text; with that condition moved in front of the group, it is tested once a
character, and the branches are tried once a word. Five times faster on a question.
"""

import re
from collections.abc import Iterable

_STARTS = (r"\b", "^", "")


def union(patterns: Iterable[str]) -> re.Pattern[str]:
    """Matches where any of the patterns does. They may not hold back-references."""
    groups: dict[str, list[str]] = {start: [] for start in _STARTS}
    for pattern in patterns:
        for branch in branches(pattern):
            start = next(start for start in _STARTS if branch.startswith(start))
            groups[start].append(branch.removeprefix(start))
    return re.compile(
        "|".join(f"{start}(?:{'|'.join(group)})" for start, group in groups.items() if group)
    )


def branches(pattern: str) -> list[str]:
    """The alternatives of a pattern: split at each | outside of brackets."""
    found = [""]
    depth = 0
    pieces = re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", pattern, re.DOTALL)
    for piece in pieces:
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += piece
    return found
