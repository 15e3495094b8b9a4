"""A node whose log we read, and how far we have heard it: the other end of `sync.readers`."""

from index.clock import AHEAD_MAX_S, Now, wall_of
from index.entry import Version
from sync.dialogue import Batch, Heard, Start
from sync.messages import MessageError
from sync.seams import Cursor


class Source:
    def __init__(self, cursor: Cursor, latest: Version) -> None:
        self.cursor = cursor
        self.latest = latest
        """Where its log ends, as far as we were told."""
        self._heard = 0
        """Batches of this link."""

    @classmethod
    def begun(cls, start: Start) -> "Source":
        """It goes on from where it says, which may be before where we were."""
        return cls(Cursor(start.after, start.run), start.latest)

    @property
    def current(self) -> bool:
        """Do we hold all that its log holds for us, as far as we know?"""
        return bool(self.latest) and self.cursor.position >= self.latest

    def check(self, batch: Batch, now: Now) -> None:
        """Raises MessageError for what cannot be in a log."""
        if batch.position > batch.latest or wall_of(batch.latest) > now.wall + AHEAD_MAX_S:
            raise MessageError("beyond the end of the log")

    def applied(self, batch: Batch) -> Heard:
        """What a batch holds is applied here; what to say to that."""
        self._heard += 1
        self.latest = max(self.latest, batch.latest)
        if batch.position > self.cursor.position:
            self.cursor = Cursor(batch.position, self.cursor.run)
        return Heard(self._heard)

    def __repr__(self) -> str:
        return f"<Source heard to {self.cursor.position} of {self.latest}>"
