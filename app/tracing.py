"""Whose trace this is (W3C Trace Context), and, where wanted, spans of our own in it.

The caller's `traceparent` is kept with the event, goes with its deliveries through the queue, and leaves with a
webhook, whether or not spans are recorded. They are when OTEL_EXPORTER_OTLP_ENDPOINT is set: `start` then loads
`tracing_otel`, which needs the extra `tracing`. Otherwise nothing of OpenTelemetry is imported, and `is_on` is all that
it costs.

A traceparent is "00-<trace: 32 hex>-<span: 16 hex>-<flags: 2 hex>".
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SPAN = slice(36, 52)
Attributes = Mapping[str, str | int | float | bool]


class Tracer(Protocol):
    """Records spans. Times are unix seconds."""

    def enter(self, caller: str | None, method: str, route: str) -> str:
        """Begin the span of a request in this thread. Returns its traceparent."""

    def leave(self, status: int) -> None:
        """End it."""

    def record(
        self, name: str, own: str, parent: str, began: float, ended: float, attributes: Attributes, fault: str | None
    ) -> None:
        """Record what is over. `own` has the span's id, `parent` is whose child it is."""

    def close(self) -> None:
        """Send what is left."""


_current: ContextVar[str | None] = ContextVar("traceparent", default=None)
_tracer: Tracer | None = None


def is_installed() -> bool:
    """Whether the extra `tracing` is there."""
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def start(endpoint: str) -> None:
    """Record spans from here on, and send them to an OTLP receiver at `endpoint`, if there is one. Once a process."""
    global _tracer
    if endpoint and _tracer is None:
        _tracer = importlib.import_module("app.tracing_otel").make_tracer(endpoint)


def stop() -> None:
    """Send what is left, and record no more."""
    global _tracer
    if _tracer:
        _tracer.close()
        _tracer = None


def is_on() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def parsed(header: str | None) -> str | None:
    """A caller's traceparent as we keep it; None for one that breaks the rules, which begins no trace of its own."""
    found = _FORM.fullmatch(header.strip()) if header and len(header) <= 256 else None
    if not found:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return f"00-{trace}-{span}-{int(flags, 16) & 1:02x}"  # of the flags only `sampled` means something to us


def enter(header: str | None, method: str, route: str) -> None:
    """A request has come, with this traceparent or none. Without a `route` it has no span."""
    caller = parsed(header)
    _current.set(_tracer.enter(caller, method, route) if _tracer and route else caller)


def leave(status: int) -> None:
    """The request is answered."""
    if _tracer:
        _tracer.leave(status)


def current() -> str | None:
    """The traceparent that what this request begins shall carry."""
    return _current.get()


def of_attempt(traceparent: str | None, attempt_id: str) -> str | None:
    """What goes out with one try of a delivery: the same trace, and a span that has its id from the attempt."""
    if traceparent is None:
        return None
    return f"{traceparent[: _SPAN.start]}{attempt_id.replace('-', '')[-16:]}{traceparent[_SPAN.stop :]}"


def record(
    name: str,
    parent: str,
    began: float,
    ended: float,
    attributes: Attributes,
    *,
    own: str | None = None,
    fault: str | None = None,
) -> None:
    """Record a span that is over, as a child of `parent`; `own` says which id it has if that matters."""
    if _tracer:
        _tracer.record(name, own or "", parent, began, ended, attributes, fault)
