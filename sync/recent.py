"""Frames that need no hearing: said here, or heard of late by whichever way they came first."""

from collections import OrderedDict
from typing import Final

from index.entry import NodeName, Version

FRAMES_MAX: Final = 16_384
"""Remembered, so that what comes by several ways is verified once. Some 3 MB."""


class Recent:
    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[NodeName, Version], None] = OrderedDict()

    def add(self, origin: NodeName, version: Version) -> None:
        self._frames[origin, version] = None
        if len(self._frames) > FRAMES_MAX:
            self._frames.popitem(last=False)

    def __contains__(self, name: tuple[NodeName, Version]) -> bool:
        return name in self._frames
