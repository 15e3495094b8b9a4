"""Whether the last turn of a conversation can be answered without what was said before."""

from collections.abc import Sequence


def stands_alone(last: str, said: Sequence[str]) -> bool:
    """Whether nothing that the user said before bears on the last turn."""
    del last, said
    return False
