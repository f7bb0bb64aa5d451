"""What is counted. Names and labels are documented in docs/operations.md."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS_ACCEPTED = Counter("tidings_events_accepted", "Events accepted, by how they came.", ["door"])
EVENTS_PLANNED = Counter("tidings_events_planned", "Events planned or failed in planning.", ["status"])
DELIVERIES = Counter("tidings_deliveries", "Results of deliveries.", ["channel", "result"])
ATTEMPT_SECONDS = Histogram("tidings_attempt_seconds", "Duration of one attempt.", ["channel", "provider"])
LEASES_EXPIRED = Counter("tidings_leases_expired", "Rows taken back from lost workers.", ["kind"])
RINGS_FAILED = Counter("tidings_rings_failed", "Rings of the bell that did not reach the broker.")
BACKLOG = Gauge("tidings_backlog", "Deliveries that wait or run.", ["status"], multiprocess_mode="mostrecent")
