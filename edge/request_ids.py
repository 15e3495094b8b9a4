"""Names for requests."""

from secrets import token_hex


class RequestIds:
    """In order for who reads the log, and not to be guessed by anybody else, as who knows one may
    ask about that request and complain of it."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self) -> str:
        self._number += 1
        return f"{self._number:x}-{token_hex(8)}"
