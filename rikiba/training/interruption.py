"""A polite stop: the first Ctrl-C or termination signal ends the loop at the next step."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, final


@final
class Interruption:
    """True once SIGINT or SIGTERM came inside the block; a second one acts as it would without us.

    Outside the main thread, where Python allows no handlers, it stays False.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self._came

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
