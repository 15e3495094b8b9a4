"""Server-sent events: the subset that LLM APIs use, read strictly and within bounds.

WHATWG HTML, 9.2.6. Any chunking of the same bytes gives the same events.
"""

from dataclasses import dataclass

from edge.errors import UpstreamError

EVENT_BYTES_MAX = 4 * 1024 * 1024
"""One event with a base64 picture in it is the largest thing seen in the field."""

HEARTBEAT = b":\n\n"
"""A comment: keeps what lies between us and the client from giving up, and clients skip it."""


@dataclass(frozen=True, slots=True)
class Event:
    data: str
    name: str | None = None


DONE = Event("[DONE]")


class EventReader:
    """Bytes in, events out. Comments and fields we do not use are skipped."""

    def __init__(self) -> None:
        self._tail = b""
        self._after_cr = False
        self._data: list[str] = []
        self._name: str | None = None
        self._held = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes.

        Raises:
            UpstreamError: an event is larger than `EVENT_BYTES_MAX` or is not UTF-8.
        """
        if not chunk:
            return []
        # A line may end in CR LF, LF or CR; the LF of a CR LF may come in the next chunk.
        start = 1 if self._after_cr and chunk.startswith(b"\n") else 0
        self._after_cr = chunk.endswith(b"\r")
        buffer = self._tail + chunk[start:]
        lines = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._tail = lines.pop()
        events = [event for line in lines if (event := self._line(line))]
        self._check_size(len(self._tail))
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        self._held += len(line)
        self._check_size(0)
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        try:
            if name == b"data":
                self._data.append(value.decode("utf-8"))
            elif name == b"event":
                self._name = value.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise UpstreamError("The upstream sent an event that is not UTF-8.") from exc
        return None

    def _check_size(self, tail_bytes: int) -> None:
        if self._held + tail_bytes > EVENT_BYTES_MAX:
            raise UpstreamError("The upstream sent an event that is too large.")

    def _dispatch(self) -> Event | None:
        event = Event("\n".join(self._data), self._name) if self._data else None
        self._data, self._name, self._held = [], None, 0
        return event


def write(event: Event) -> bytes:
    name = f"event: {event.name}\n" if event.name else ""
    lines = "".join(f"data: {line}\n" for line in event.data.split("\n"))
    return f"{name}{lines}\n".encode()
