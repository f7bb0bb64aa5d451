"""What a try came to: the one owner of retries, and of the moves that a delivery's status may make."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog
from sqlalchemy import TextClause, text

from app import rows
from app.core import webhooks
from app.core.channels import label
from app.core.deliveries import breakers, witness
from app.core.deliveries.claims import FIRST, RETRY, SUSPECT, Claim
from app.core.deliveries.schedule import delay_after, schedule_for
from app.core.erased import kept_out
from app.core.runtime import Runtime
from app.db import Transaction
from app.models import WebhookAttempt
from app.models.base import utc_text
from providers.contract import Accepted, Channel, DeliveryStatus, PermanentError, RetryableError

S = DeliveryStatus
# target: the statuses it may be reached from. A success that comes late still counts, a failure does not.
MOVES: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    S.PENDING: frozenset({S.SENDING, S.FAILED, S.CANCELED, S.BOUNCED}),
    S.SENDING: frozenset({S.PENDING}),
    S.SENT: frozenset({S.PENDING, S.SENDING, S.CANCELED, S.FAILED}),
    S.DELIVERED: frozenset({S.PENDING, S.SENDING, S.CANCELED, S.FAILED, S.SENT}),
    S.BOUNCED: frozenset({S.PENDING, S.SENDING, S.SENT, S.DELIVERED, S.CANCELED}),
    S.COMPLAINED: frozenset({S.PENDING, S.SENDING, S.SENT, S.DELIVERED, S.BOUNCED, S.CANCELED}),
    S.FAILED: frozenset({S.PENDING, S.SENDING, S.SENT}),
    S.SKIPPED: frozenset({S.PENDING, S.SENDING}),
    S.CANCELED: frozenset({S.PENDING, S.SENDING}),
}
BORN = frozenset({S.PENDING, S.SKIPPED, S.SENDING, S.DELIVERED})  # what planning writes

_Spec = tuple[tuple[str, str], ...]
_Verdict = dict[str, Any]

_SPEC = (
    ("id", "uuid"),
    ("attempt", "integer"),
    ("status", "text"),
    ("reason", "text"),
    ("error", "text"),
    ("provider", "text"),
    ("provider_id", "text"),
    ("turn", "integer"),
    ("untried", "integer"),
    ("delay", "double precision"),
    ("due_at", "text"),
)
_ATTEMPT_SPEC = (
    ("id", "uuid"),
    ("provider", "text"),
    ("duration_ms", "double precision"),
    ("outcome", "text"),
    ("code", "text"),
    ("error", "text"),
    ("detail", "jsonb"),
    ("delay", "double precision"),
    ("due_at", "text"),
)
# The provider's later word may overtake the record of its acceptance, which then changes nothing of what became of it.
_WORSE = "coalesce(dropped_at, bounced_at, complained_at) IS NOT NULL"
# Fenced by the attempt's number, not by the status: a late success must not be discarded because its lease ran out.
_ACCEPTED = """
UPDATE notification_logs SET
  status = CASE WHEN {worse} THEN notification_logs.status
           WHEN notification_logs.status IN ({into_sent}) THEN r.status
           WHEN r.status = 'delivered' AND notification_logs.status = 'sent' THEN r.status
           ELSE notification_logs.status END,
  reason = CASE WHEN {worse} THEN notification_logs.reason ELSE r.reason END,
  error = CASE WHEN {worse} THEN notification_logs.error ELSE r.error END,
  lease_until = NULL, next_attempt_at = NULL, updated_at = {now},
  provider = r.provider, provider_id = coalesce(r.provider_id, notification_logs.provider_id),
  sent_at = coalesce(notification_logs.sent_at, {now}),
  delivered_at = CASE WHEN r.status = 'delivered' THEN coalesce(notification_logs.delivered_at, {now})
                 ELSE notification_logs.delivered_at END
FROM {rows}
WHERE {these} AND (notification_logs.tenant_id = :tenant) IS TRUE AND notification_logs.id = r.id
  AND notification_logs.attempt = r.attempt
"""
# A try that was not made is given back once, also when it is written again because nobody knows whether it was.
_REFUSED = """
UPDATE notification_logs SET
  status = r.status, reason = r.reason, error = r.error, provider = coalesce(r.provider, notification_logs.provider),
  lease_until = NULL, turn = r.turn, next_attempt_at = {due}, updated_at = {now},
  tries = tries - CASE WHEN notification_logs.status = 'sending' THEN r.untried ELSE 0 END
FROM {rows}
WHERE {these} AND (notification_logs.tenant_id = :tenant) IS TRUE AND notification_logs.id = r.id
  AND notification_logs.attempt = r.attempt
  AND notification_logs.status IN ('sending', 'pending')
"""
_TRIED = """
UPDATE delivery_attempts SET
  provider = r.provider, duration_ms = r.duration_ms, outcome = r.outcome, code = r.code, error = r.error,
  detail = r.detail, finished_at = {now}, next_attempt_at = {due}
FROM {rows}
WHERE {these} AND (delivery_attempts.tenant_id = :tenant) IS TRUE AND delivery_attempts.id = r.id
"""


@dataclass(frozen=True, slots=True)
class Tried:
    """One claim, and what came of it. `result` is None when it was given back unsent."""

    claim: Claim
    provider: str | None
    result: Accepted | Exception | None
    duration_ms: float = 0.0
    url: str = ""
    began_at: float = 0.0  # unix seconds
    alone: bool = False  # something broke in its batch: next time it is tried on its own
    wait: float = 0.0  # given back because its host does not answer: seconds until it is looked at again
    skipped: str = ""  # given back for good, and why


def record(
    session: Transaction, runtime: Runtime, tenant_id: str, tried: Sequence[Tried], chance: random.Random
) -> float | None:
    """Write the results of some claims of one tenant. Deliveries are fenced by attempt; attempts are always kept.

    Returns the seconds until the soonest of those that failed or were given back is due again, if any is.
    """
    now = runtime.clock.now()
    verdicts = [_verdict(item, runtime, chance, now) for item in tried]
    accepted = [v for v in verdicts if v["outcome"] == "accepted"]
    refused = [v for v in verdicts if v["outcome"] != "accepted"]
    attempts = [verdict | {"id": item.claim.attempt_id} for verdict, item in zip(verdicts, tried, strict=True)]
    _write(session, tenant_id, now, _ACCEPTED, "notification_logs", _SPEC, accepted)
    _write(session, tenant_id, now, _REFUSED, "notification_logs", _SPEC, refused)
    _write(session, tenant_id, now, _TRIED, "delivery_attempts", _ATTEMPT_SPEC, attempts)
    _record_webhooks(session, runtime, tenant_id, tried)
    witness.recorded(session, tried, verdicts)
    return min((verdict["delay"] for verdict in refused if "delay" in verdict), default=None)


def _write(
    session: Transaction,
    tenant_id: str,
    now: datetime,
    template: str,
    table: str,
    spec: _Spec,
    verdicts: list[_Verdict],
) -> None:
    if not verdicts:
        return
    postgres = rows.is_postgres(session)
    ids = rows.id_list([verdict["id"] for verdict in verdicts], postgres)
    values = {"tenant": tenant_id, "ids": ids, **_parameters(verdicts, spec, postgres)}
    values |= {} if postgres else {"now": utc_text(now)}
    rows.defer(session, _statement(template, table, spec, postgres), values)


def _parameters(verdicts: Sequence[_Verdict], spec: _Spec, postgres: bool) -> dict[str, str]:
    names = [name for name, _ in spec]
    told = [{name: verdict.get(name) for name in names} for verdict in verdicts]
    if not postgres:
        return {"rows": rows.dumps(told)}
    same, own = rows.shared(told)
    return {"rows": rows.dumps(own), "same": same}


@lru_cache(maxsize=16)
def _statement(template: str, table: str, spec: _Spec, postgres: bool) -> TextClause:
    return text(
        template.format(
            rows=rows.shared_source(spec, postgres),
            worse=_WORSE,
            these=rows.these(table, postgres, joined=True),
            now="now()" if postgres else ":now",
            due="now() + r.delay * interval '1 second'" if postgres else "r.due_at",
            into_sent=", ".join(sorted(f"'{status}'" for status in MOVES[S.SENT])),
        )
    )


def _verdict(item: Tried, runtime: Runtime, chance: random.Random, now: datetime) -> _Verdict:
    """What the row of a claim becomes: one dict for the statements above."""
    claim, result = item.claim, item.result
    verdict: _Verdict = {
        "id": claim.id,
        "attempt": claim.attempt,
        "provider": item.provider,
        "duration_ms": round(item.duration_ms, 3),
        "turn": SUSPECT if item.alone else RETRY,
        "untried": 0,
    }
    if isinstance(result, Accepted):
        refused = "; ".join(f"{address}: {why}" for address, why in result.refused.items())
        return verdict | {
            "outcome": "accepted",
            "status": result.status,
            "provider_id": rows.storable(result.provider_id, 512),
            "reason": "partly_refused" if refused else None,
            "error": rows.storable(refused or None, 2000),
            "detail": _detail(claim, result.detail),
        }
    if item.skipped:
        return verdict | {"outcome": "skipped", "status": S.SKIPPED, "reason": item.skipped, "untried": 1}
    if result is None:
        turn = FIRST if claim.tries == 1 else RETRY
        back = {"outcome": "returned", "status": S.PENDING, "turn": turn, "untried": 1}
        return verdict | back | ({"reason": "circuit_open"} if item.wait else {}) | _due(item.wait, now)
    return verdict | _fault(item, result, runtime, chance, now)


def _fault(item: Tried, fault: Exception, runtime: Runtime, chance: random.Random, now: datetime) -> dict[str, Any]:
    claim = item.claim
    code = getattr(fault, "code", "internal_error")
    said = fault.message if isinstance(fault, RetryableError | PermanentError) else type(fault).__name__
    facts = {"code": code, "error": rows.storable(said, 2000), "detail": _detail(claim, getattr(fault, "detail", {}))}
    delay = None if isinstance(fault, PermanentError) else _delay(claim, fault, runtime, chance)
    if delay is None:
        kind = "permanent" if isinstance(fault, PermanentError) else "retryable"
        return facts | {"outcome": kind, "status": S.FAILED, "reason": code}
    return facts | {"outcome": "retryable", "status": S.PENDING, "reason": code} | _due(delay, now)


def _delay(claim: Claim, fault: Exception, runtime: Runtime, chance: random.Random) -> float | None:
    channel = Channel(claim.channel)
    resting = breakers.known(runtime).of()
    if claim.tries < sum(label(provider) not in resting for provider in runtime.channels.providers(channel)):
        return 0.0  # the next provider of the list has its turn at once
    if claim.trigger == "test":
        return None  # somebody is looking at the answer: it is the answer
    schedule = schedule_for(channel, runtime.settings)
    return delay_after(schedule, claim.tries, getattr(fault, "retry_after", None), chance)


def _due(delay: float, now: datetime) -> dict[str, Any]:
    return {"delay": delay, "due_at": utc_text(now + timedelta(seconds=delay))}


def _detail(claim: Claim, detail: Any) -> dict[str, Any] | None:
    # A webhook's HTTP details have a table of their own.
    if not detail or claim.channel == Channel.WEBHOOK:
        return None
    return {str(key): _plain(value) for key, value in detail.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else rows.storable(str(value), 2000)


def _record_webhooks(session: Transaction, runtime: Runtime, tenant_id: str, tried: Iterable[Tried]) -> None:
    done = [t for t in tried if t.claim.channel == Channel.WEBHOOK and t.result is not None]
    late = kept_out(session, tenant_id, "delivery_id", [item.claim.id for item in done])
    rows.put(session, WebhookAttempt, [_webhook_row(item) for item in done], late)
    for item in done:
        if isinstance(item.result, PermanentError) and item.result.disable_endpoint and item.claim.configuration_id:
            webhooks.disable(session, runtime.clock, tenant_id, item.claim.configuration_id, item.result.code)
            structlog.get_logger().warning("webhook_disabled", configuration=item.claim.configuration_id)


def _webhook_row(item: Tried) -> dict[str, Any]:
    claim, detail = item.claim, dict(getattr(item.result, "detail", None) or {})
    failed = isinstance(item.result, Exception)
    return {
        "id": claim.attempt_id,
        "tenant_id": claim.tenant_id,
        "delivery_id": claim.id,
        "configuration_id": claim.configuration_id,
        "event_id": claim.event_id,
        "number": claim.attempt,
        "trigger": claim.trigger,
        "url": item.url,
        "request_headers": _clean(detail.get("requestHeaders")),
        "status_code": detail.get("status"),
        "error": getattr(item.result, "code", "internal_error") if failed else None,
        "response_headers": _clean(detail.get("responseHeaders")),
        "response_body": rows.storable(detail.get("responseBody")),
        "peer": rows.storable(detail.get("peer"), 200),
        "times": detail.get("times"),
        "duration_ms": round(item.duration_ms, 3),
        "started_at": claim.started_at,
    }


def _clean(headers: Any) -> dict[str, str | None] | None:
    pairs = list(headers.items()) if hasattr(headers, "items") else list(headers or [])
    return {str(rows.storable(str(name), 200)): rows.storable(str(value), 2000) for name, value in pairs} or None
