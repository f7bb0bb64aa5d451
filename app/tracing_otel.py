"""Spans by OpenTelemetry, sent as OTLP over HTTP. Loaded by `tracing.start` alone.

Most spans are recorded when they are over, with the times and the id that they had: work goes in batches over threads,
and a span that had to be open meanwhile would have to be carried through all of it. Only a request's is open while it
lasts, and the database's spans (those of psycopg's own cursors) are its children.

Service name, resource, sampler and the exporter's headers come from OpenTelemetry's own OTEL_… variables.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes as OtelAttributes

from app.tracing import Attributes

_NANOS = 1_000_000_000
_LAST_MILLISECONDS = 3_000  # that the end of a process waits for what is left to be sent


class GivenIds(RandomIdGenerator):
    """Random ids, unless this thread has said which the next span shall have."""

    def __init__(self) -> None:
        self.next = threading.local()

    def generate_span_id(self) -> int:
        """The id that was given, once; else a random one."""
        given = getattr(self.next, "span_id", 0)
        self.next.span_id = 0
        return given or super().generate_span_id()


class WithoutStrays(Sampler):
    """Leaves out the database's statements that belong to no request: sweeps ask every few seconds, for nobody."""

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(
        self,
        parent_context: context.Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: OtelAttributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Drop what has no parent and asks a server; of all else the others decide."""
        parent = trace.get_current_span(parent_context).get_span_context()
        if kind is SpanKind.CLIENT and not parent.is_valid:
            return SamplingResult(Decision.DROP)
        return self._others.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """What it is called."""
        return f"WithoutStrays({self._others.get_description()})"


class HastyProcessor(BatchSpanProcessor):
    """At the end of a process it drops what cannot be sent soon: OpenTelemetry's waits half a minute for it."""

    def shutdown(self) -> None:
        """Send what is left, for _LAST_MILLISECONDS at most."""
        self._batch_processor.shutdown(timeout_millis=_LAST_MILLISECONDS)


class OtelTracer:
    """See app.tracing.Tracer."""

    def __init__(self, provider: TracerProvider, ids: GivenIds) -> None:
        self._provider = provider
        self._ids = ids
        self._tracer = provider.get_tracer("tidings")
        self._open = threading.local()

    def enter(self, caller: str | None, method: str, route: str) -> str:
        """Begin the span of a request in this thread."""
        attributes = {"http.request.method": method, "http.route": route}
        around = _context(caller) if caller else context.Context()
        span = self._tracer.start_span(f"{method} {route}", around, SpanKind.SERVER, attributes)
        self._open.span, self._open.token = span, context.attach(set_span_in_context(span, around))
        return _traceparent(span.get_span_context())

    def leave(self, status: int) -> None:
        """End it."""
        span: Span | None = getattr(self._open, "span", None)
        if span is None:
            return
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        context.detach(self._open.token)
        self._open.span = None
        span.end()

    def record(
        self, name: str, own: str, parent: str, began: float, ended: float, attributes: Attributes, fault: str | None
    ) -> None:
        """Record what is over."""
        if own:
            self._ids.next.span_id = int(own[36:52], 16)
        kind = SpanKind.CLIENT if own else SpanKind.CONSUMER
        start = int(began * _NANOS)
        span = self._tracer.start_span(name, _context(parent), kind, dict(attributes), start_time=start)
        if fault:
            span.set_status(Status(StatusCode.ERROR, fault))
        span.end(max(start, int(ended * _NANOS)))

    def close(self) -> None:
        """Send what is left, if it goes soon."""
        PsycopgInstrumentor().uninstrument()
        self._provider.shutdown()


def make_tracer(endpoint: str) -> OtelTracer:
    """A tracer that sends to `endpoint`/v1/traces from a thread of its own; what cannot be sent in time is dropped."""
    ids = GivenIds()
    resource = Resource({SERVICE_NAME: "tidings"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, id_generator=ids)
    provider.sampler = WithoutStrays(provider.sampler)
    provider.add_span_processor(HastyProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    PsycopgInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)
    return OtelTracer(provider, ids)


def _context(traceparent: str) -> context.Context:
    """A context in which this span, which is somebody else's, is the current one."""
    flags = TraceFlags(int(traceparent[53:55], 16))
    remote = SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(trace.NonRecordingSpan(remote), context.Context())


def _traceparent(found: SpanContext) -> str:
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags) & 1:02x}"
