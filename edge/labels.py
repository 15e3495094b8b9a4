"""What an answer may be purged by, as its upstream says: `Cache-Groups` and `Surrogate-Key`.

The first is RFC 9875, a structured field (RFC 9651): a list of strings. The second is older and
widely sent: names with spaces between. Both come from outside, so their number and length are
bounded, and a field that cannot be read is as if it were not there.
"""

import re
from collections.abc import Iterable

from index.entry import LABEL_CHARS_MAX

UPSTREAM_LABELS_MAX = 32
"""As many as RFC 9875 wants supported; of more, the first."""
FIELD_CHARS_MAX = 16_384

_STRING = r'"((?:[ !#-\[\]-~]|\\["\\])*)"'
_BARE = rf'(?:{_STRING.replace("(", "(?:", 1)}|[^"\s,;]+)'
_PARAMETERS = rf"(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*"
_MEMBER = re.compile(rf"{_STRING}{_PARAMETERS}[ \t]*(?:,[ \t]*(?=.)|$)")
_ESCAPED = re.compile(r'\\(["\\])')


def labels_of(cache_groups: Iterable[str], surrogate_keys: Iterable[str]) -> tuple[str, ...]:
    """The labels in the lines of both fields, sorted, each once."""
    found = [*_groups(", ".join(cache_groups)), *" ".join(surrogate_keys).split()]
    fit = (label for label in found if _visible(label))
    return tuple(sorted(list(dict.fromkeys(fit))[:UPSTREAM_LABELS_MAX]))


def _groups(field: str) -> list[str]:
    """The strings of a list; none if it is another list, or none at all."""
    found: list[str] = []
    at = len(field) - len(field.lstrip(" "))
    while at < len(field) <= FIELD_CHARS_MAX:
        member = _MEMBER.match(field, at)
        if member is None:
            return []
        found.append(_ESCAPED.sub(r"\1", member[1]))
        at = member.end()
    return found


def _visible(label: str) -> bool:
    return 0 < len(label) <= LABEL_CHARS_MAX and label.isascii() and label.isprintable()
