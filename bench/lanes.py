"""Event-to-wire latency of single events while 100,000 other deliveries wait, in the production shape.

nothing: nobody else. bulk: 100,000 of the same tenant wait in the lane `bulk`, the single ones are `transactional`.
tenants: 100,000 of another tenant wait in the same lane, `normal`. slow: the same, and that tenant's receivers take 2 s
for a webhook and 50 ms for a mail. The 100,000 are spread over email, webhook and in-app. In-app is seen by asking the
database every few milliseconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from app.clock import Clock
from app.core import keys
from app.db import Database
from app.models import Tenant
from app.tenancy import Purpose, system
from bench import api, backlogs, stats
from bench.api import Api
from bench.service import Service
from bench.sinks import Sink

MARK = "SINGLE"
CHANNELS = ("webhook", "email", "in_app")


@dataclass(frozen=True)
class Scene:
    """What is going on meanwhile: `waiting` deliveries in `lane`, of the same tenant or of another."""

    name: str
    lane: str = ""
    priority: str = "normal"
    other_tenant: bool = False
    mail_delay_s: float = 0.0
    hook_delay_s: float = 0.0


SCENES = (
    Scene("nothing", priority="transactional"),
    Scene("bulk", "bulk", "transactional"),
    Scene("tenants", "normal", other_tenant=True),
    Scene("slow", "normal", other_tenant=True, mail_delay_s=0.05, hook_delay_s=2.0),
)


def main() -> None:
    """Print three lines for each scene, or for one."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--scene", choices=[scene.name for scene in SCENES], action="append")
    chosen = parser.parse_args()
    waiting, singles = (300, 2) if chosen.short else (100_000, 60)
    stats.head(f"up to {singles} single events of each channel while {waiting} deliveries wait")
    stats.line("shape", "", "p50 ms", "p90 ms", "p99 ms", "most ms", "events", "left waiting")
    for scene in SCENES:
        if scene.name in (chosen.scene or [scene.name]):
            run(scene, waiting, singles, to_the_end=chosen.short)


def run(scene: Scene, waiting: int, singles: int, *, to_the_end: bool) -> None:
    """One scene on a service of its own. Not `to_the_end`: only as long as some of the others still wait."""
    with (
        Sink("smtp", mark=MARK.encode(), delay_s=scene.mail_delay_s) as mail,
        Sink("http") as hook,
        Sink("http", delay_s=scene.hook_delay_s) as bulk,
        Service("production", email_port=mail.port) as service,
    ):
        mine = _only_tenant(service)
        tenant_id, key = _another_tenant(service) if scene.other_tenant else (mine, "")
        caller = Api(*service.address, key) if key else service.api
        _prepare(caller, hook.port)
        share = waiting // len(CHANNELS) if scene.lane else 0
        for channel, address in _addresses(bulk.port).items():
            backlogs.put(service, mine, scene.lane, channel, address, share)
        if share:
            _wait_for(lambda: backlogs.left(service, mine) < share * len(CHANNELS))  # until it is under way
        wires = {"webhook": lambda: hook.count, "email": lambda: mail.count, "in_app": _bell(service, tenant_id)}
        alone = to_the_end or not share
        measured = _measure(caller, scene, wires, singles, lambda: alone or backlogs.left(service, mine) > 0)
        left = backlogs.left(service, mine) if share else 0
        for channel, took in measured.items():
            _show(f"{scene.name}: {channel}", took, left)
        if key:
            caller.close()


def _measure(
    caller: Api, scene: Scene, wires: dict[str, Callable[[], int]], singles: int, goes_on: Callable[[], bool]
) -> dict[str, list[float]]:
    """{channel: milliseconds from before the POST until it had arrived}, one event after the other."""
    took: dict[str, list[float]] = {channel: [] for channel in CHANNELS}
    for number in range(-2, singles):  # the first warm it up
        for channel, count in wires.items():
            if number >= 0 and not goes_on():
                return took
            time.sleep(random.uniform(0.01, 0.05))
            seen, began = count(), time.monotonic()
            body = api.event(f"bench.{channel}", [] if channel == "webhook" else ["user-0"])
            body |= {"priority": scene.priority, "data": api.DATA | {"orderId": MARK}}
            caller.post("/api/events", body)
            _wait_for(lambda count=count, seen=seen: count() > seen)  # type: ignore[misc]
            if number >= 0:
                took[channel].append((time.monotonic() - began) * 1000)
    return took


def _wait_for(came: Callable[[], bool], timeout_s: float = 180.0) -> None:
    end = time.monotonic() + timeout_s
    while not came():
        if time.monotonic() > end:
            raise TimeoutError(f"it did not come within {timeout_s:g} s")
        time.sleep(0.003)


def _prepare(caller: Api, hook_port: int) -> None:
    api.make_people(caller, 1)
    for channel in ("email", "in_app"):
        api.make_rule(caller, channel)
    api.make_subscribers(caller, hook_port, ["bench.webhook"], 1)


def _addresses(hook_port: int) -> dict[str, str]:
    return {"webhook": f"http://127.0.0.1:{hook_port}/bulk", "email": "bulk@example.com", "in_app": "user-1"}


def _bell(service: Service, tenant_id: str) -> Callable[[], int]:
    asked = f"SELECT count(*) FROM notifications WHERE tenant_id = '{tenant_id}' AND user_id = 'user-0'"
    return lambda: int(service.ask(asked)[0][0])


def _only_tenant(service: Service) -> str:
    return str(service.ask("SELECT id FROM tenants")[0][0])


def _another_tenant(service: Service) -> tuple[str, str]:
    """A second tenant and its API key: there is no door for that."""
    database = Database(service.database_url, pool_size=1)
    with database.transaction(system(Purpose.MIGRATE)) as session:
        sealed = session.execute(select(Tenant.webhook_secret)).scalar_one()
        made = Tenant(name="another", webhook_secret=sealed, created_at=Clock().now())
        session.add(made)
        session.flush()
        _, key = keys.create_api_key(session, Clock(), made.id, name="bench")
        tenant_id = made.id
    database.close()
    return tenant_id, key


def _show(name: str, took: list[float], left: int) -> None:
    figures = [f"{stats.percentile(took, part):.0f}" for part in (0.5, 0.9, 0.99, 1.0)] if took else ["-"] * 4
    stats.line("production", name, *figures, len(took), left)


if __name__ == "__main__":
    main()
