"""The service as real processes, in both shapes, on the database of a test's `runtime`.

    embedded    `tidings up`
    production  `tidings web` and `tidings worker`, two processes each

The test looks into the same database by its own `runtime`, and makes the tenant with the `tenant_id` fixture.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import KEY, wait_until
from tests.docs.service import Service

READY_SECONDS = 60.0


class Processes:
    """`web` answers requests and `worker` delivers; when embedded they are the same."""

    def __init__(self, shape: str, folder: Path, values: dict[str, Any], **settings: str) -> None:
        given = {
            "DATA_DIR": str(values["data_dir"]),
            "SECRET_KEY": values["secret_key"],
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
            "SWEEP_SECONDS": "1",
        }
        if shape == "production":
            given |= {"DATABASE_URL": values["database_url"], "REDIS_URL": values["redis_url"]}
        self.shape = shape
        self.web = Service(folder / "run", key=KEY, command="up" if shape == "embedded" else "web", **given, **settings)
        self.worker = self.web
        if shape == "production":
            self.worker = Service(folder / "run", key=KEY, command="worker", **given, **settings)

    def start(self) -> None:
        """Start all that is not running, and wait until it is ready."""
        for one in dict.fromkeys((self.web, self.worker)):
            if not one.running:
                one.start(wait=one is self.web)
        wait_until(self.working, READY_SECONDS)

    def working(self) -> bool:
        """Whether all worker processes have begun to listen to the bell."""
        return self.shape == "embedded" or len(children(self.worker.pid)) == 2

    def stop(self) -> list[int]:
        """SIGTERM to all, at the same time. Returns the exit statuses."""
        running = list(dict.fromkeys((self.web, self.worker)))
        for one in running:
            os.kill(one.pid, signal.SIGTERM)
        return [one.wait() for one in running]

    def kill(self) -> None:
        """SIGKILL to all that is left."""
        for one in dict.fromkeys((self.web, self.worker)):
            one.kill()


@contextmanager
def processes(shape: str, folder: Path, values: dict[str, Any], **settings: str) -> Iterator[Processes]:
    """Processes that are started, and gone at the end."""
    made = Processes(shape, folder, values, **settings)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        for one in dict.fromkeys((made.web, made.worker)):
            print(f"{one.command}:\n{one.log()[-8000:]}")  # shown when a test fails


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
