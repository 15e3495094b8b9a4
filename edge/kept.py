"""A small document that outlives the process: one JSON file, written whole or not at all."""

import logging
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from sync.private_files import write_private

log = logging.getLogger("node")

T = TypeVar("T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class Kept(Generic[T]):
    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._kind: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]

    def load(self) -> T | None:
        """None: nothing was kept yet, or it is damaged and was set aside. Blocks for the disk."""
        try:
            return self._kind.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as exc:
            aside = self._path.with_suffix(".corrupt")
            self._path.replace(aside)
            log.error("event=set_aside file=%s problems=%d", aside, exc.error_count())
            return None

    def written(self, value: T) -> bytes:
        """What `keep` takes, to be made where nobody changes the value meanwhile."""
        return self._kind.dump_json(value)

    def keep(self, content: bytes) -> None:
        """Lasting when this returns. Blocks for the disk. Raises OSError."""
        write_private(self._path, content)
