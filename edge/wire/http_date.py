"""The `date` field, which is the same for all answers of a second."""

import time
from email.utils import formatdate


class HttpDate:
    """The `date` field, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        second = int(time.time())  # noqa: TID251  a wire file: the clock of the outside world
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text
