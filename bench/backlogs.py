"""Deliveries that wait, written straight into PostgreSQL: what takes the service minutes takes this seconds."""

from __future__ import annotations

import json

from bench.service import Service

WORDS = {
    "email": {"subject": "Bulk", "text": "Words of a bulk message.\n"},
    "in_app": {"title": "Bulk", "text": "Words of a bulk message."},
    "webhook": {"payload": '{"type":"bench.bulk","data":{}}'},
}
_CHUNK = 20_000
# A UUIDv7 of a moment: the tables are cut into months by it. `n` keeps it unique within its millisecond.
_ID = (
    "CAST(lpad(to_hex(CAST(extract(epoch FROM {at}) * 1000 AS bigint)), 12, '0') || '7'"
    " || lpad(to_hex(n % 4096), 3, '0') || '8' || substr(md5(random()::text || n), 1, 15) AS uuid)"
)
_WAITING = """
WITH made AS (
  INSERT INTO notification_logs (id, tenant_id, channel, address, user_id, event_type, trigger, lane, status, turn,
    attempt, tries, losses, next_attempt_at, test, created_at, updated_at)
  SELECT {id}, '{tenant}', '{channel}', '{address}', 'user-' || n, 'bench.bulk', 'direct', '{lane}', 'pending', 0,
    0, 0, 0, now(), false, now(), now() FROM generate_series(1, {count}) AS n RETURNING id
), words AS (
  INSERT INTO delivery_contents (id, tenant_id, parts, created_at)
  SELECT id, '{tenant}', '{parts}', now() FROM made RETURNING id
) SELECT count(*) FROM words
"""
_FINISHED = """
WITH made AS (
  INSERT INTO notification_logs (id, tenant_id, channel, address, user_id, event_type, trigger, lane, status, turn,
    attempt, tries, losses, test, created_at, updated_at, sent_at)
  SELECT {id}, '{tenant}', 'email', 'a@example.com', 'user-' || n % 100000, 'bench.done', 'direct', 'normal', 'sent', 0,
    1, 1, 0, false, {at}, {at}, {at} FROM generate_series(1, {count}) AS n RETURNING id
) SELECT count(*) FROM made
"""
_WEEK_AGO = "now() - interval '7 days' + n % 500000 * interval '1 second'"


def put(service: Service, tenant_id: str, lane: str, channel: str, address: str, count: int) -> None:
    """So many pending deliveries of a tenant. Nobody is rung for: the next sweep finds them."""
    parts = json.dumps(WORDS[channel]).replace("'", "''")
    names = {"id": _ID.format(at="clock_timestamp()"), "tenant": tenant_id, "lane": lane, "channel": channel}
    _in_chunks(service, _WAITING, count, **names, address=address, parts=parts)


def put_finished(service: Service, tenant_id: str, count: int) -> None:
    """So many deliveries that were sent in the last week."""
    _in_chunks(service, _FINISHED, count, id=_ID.format(at=_WEEK_AGO), tenant=tenant_id, at=_WEEK_AGO)


def put_tenants(service: Service, count: int) -> list[str]:
    """So many tenants more; returns their ids."""
    made = f"INSERT INTO tenants (id, name, webhook_secret, preference_defaults, created_at) SELECT {_ID}"
    made += ", 'bulk', webhook_secret, preference_defaults, now() FROM (SELECT * FROM tenants LIMIT 1) AS one"
    made += f", generate_series(1, {count}) AS n RETURNING id"
    return [str(row[0]) for row in service.ask(made.format(at="clock_timestamp()"))]


def left(service: Service, tenant_id: str) -> int:
    """How many deliveries of a tenant wait."""
    asked = f"SELECT count(*) FROM notification_logs WHERE status = 'pending' AND tenant_id = '{tenant_id}'"
    return int(service.ask(asked)[0][0])


def _in_chunks(service: Service, statement: str, count: int, **names: str) -> None:
    while count > 0:
        service.ask(statement.format(count=min(count, _CHUNK), **names))
        count -= _CHUNK
