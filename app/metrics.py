"""What is counted. Names and labels are documented in docs/operations.md.

No label has values without bound: no tenants, hosts, addresses or ids.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from app import metrics_sharing

SHARED = metrics_sharing.join()  # the folder, when several processes count together

_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

# What came in, and what was planned of it
EVENTS_ACCEPTED = Counter("tidings_events_accepted", "Events accepted.", ["lane"])
EVENTS_DUPLICATE = Counter("tidings_events_duplicate", "Events posted again within their window of dedupe.")
ADMISSION_REFUSED = Counter("tidings_admission_refused", "Requests refused under pressure.", ["lane", "why"])
EVENTS_PLANNED = Counter("tidings_events_planned", "Events planned, put back or failed in planning.", ["status"])
DELIVERIES_PLANNED = Counter("tidings_deliveries_planned", "Deliveries made, to be sent.", ["channel", "lane"])
DELIVERIES_SKIPPED = Counter("tidings_deliveries_skipped", "Deliveries that are not sent.", ["channel", "reason"])

# What became of it
DELIVERIES = Counter("tidings_deliveries", "Results of tries.", ["channel", "result"])
CALLBACKS = Counter("tidings_callbacks", "Later words of providers that moved a delivery.", ["status"])
PROVIDER_ERRORS = Counter(
    "tidings_provider_errors", "Tries that a provider refused or broke.", ["channel", "provider", "code"]
)
PROVIDER_REFUSALS = Counter(
    "tidings_provider_refusals", "Tries refused for our own credentials or sender.", ["channel"]
)
ATTEMPT_SECONDS = Histogram("tidings_attempt_seconds", "Duration of one try.", ["channel", "provider"])
WIRE_SECONDS = Histogram(
    "tidings_accept_to_wire_seconds",
    "From acceptance to the first time that a provider is handed the delivery.",
    ["channel", "lane"],
    buckets=_WAITS,
)

# What waits
BACKLOG = Gauge(
    "tidings_backlog", "Events and deliveries not finished.", ["lane", "status"], multiprocess_mode="mostrecent"
)
OLDEST_DUE_SECONDS = Gauge(
    "tidings_oldest_due_seconds", "How long the oldest due work waits.", ["lane"], multiprocess_mode="mostrecent"
)

# What goes wrong
LEASES_EXPIRED = Counter("tidings_leases_expired", "Rows taken back from lost workers.", ["kind"])
RINGS_FAILED = Counter("tidings_rings_failed", "Rings of the bell that did not reach the broker.")
WAKEUPS_LOST = Counter("tidings_wakeups_lost", "Due work that the sweep found, untold.", ["step", "lane"])
BREAKERS_OPEN = Gauge(
    "tidings_breakers_open", "Providers and hosts that are left alone.", ["kind"], multiprocess_mode="mostrecent"
)
BREAKER_SECONDS = Gauge(
    "tidings_breaker_open_seconds", "How long the oldest is left alone.", ["kind"], multiprocess_mode="mostrecent"
)
PART_UP = Gauge("tidings_part_up", "1: a worker reaches this part; 0: not.", ["part"], multiprocess_mode="mostrecent")
LAST_SWEEP = Gauge("tidings_last_sweep_timestamp_seconds", "When a sweep last ended.", multiprocess_mode="mostrecent")
PRUNED = Counter("tidings_pruned", "Rows removed because their time was over.", ["kind"])
