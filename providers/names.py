"""Host names to addresses, off the caller's thread, remembered for a short while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from providers.guard import Resolver

Answer = tuple[str, ...]
"""Literal addresses; none at all when the name has none."""

KEEP_S = 30.0
KEEP_FAILURE_S = 2.0
_MAX_LOOKUPS = 256
_MAX_NAMES = 10_000


class Names:
    """Answers from memory, or looks up in a thread of its own so that a slow name server delays only its own names.

    Look-ups under way at one time are bounded: a name beyond that has no answer for now.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[float, Answer]] = {}
        self._waiting: dict[tuple[str, int], list[Callable[[Answer], None]]] = {}

    def recall(self, host: str, port: int) -> Answer | None:
        """The answer from memory; None when it must be looked up."""
        known = self._known.get((host, port))
        return known[1] if known is not None and known[0] > time.monotonic() else None

    def look_up(self, host: str, port: int, tell: Callable[[Answer], None]) -> None:
        """Call `tell` with the answer, from another thread, once it is known."""
        key = (host, port)
        with self._lock:
            if key in self._waiting:
                self._waiting[key].append(tell)
                return
            if len(self._waiting) < _MAX_LOOKUPS:
                self._waiting[key] = [tell]
                threading.Thread(target=self._ask, args=key, name=f"dns-{host}", daemon=True).start()
                return
        tell(())

    def _ask(self, host: str, port: int) -> None:
        answer: Answer = ()
        try:
            answer = tuple(self._resolver(host, port))
        except (OSError, UnicodeError):
            answer = ()
        finally:
            self._remember((host, port), answer)

    def _remember(self, key: tuple[str, int], answer: Answer) -> None:
        with self._lock:
            if len(self._known) >= _MAX_NAMES:
                self._known.clear()
            self._known[key] = (time.monotonic() + (KEEP_S if answer else KEEP_FAILURE_S), answer)
            tellers = self._waiting.pop(key, [])
        for tell in tellers:
            tell(answer)
