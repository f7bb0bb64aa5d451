"""Generated requests against every operation of the API, in both shapes: none may end in a 5xx.

python -m bench.fuzz                      five minutes for each shape
python -m bench.fuzz --short --shape embedded
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import stats
from bench.service import KEY, Service

FULL_SECONDS, SHORT_SECONDS = 300, 20
_UNLIMITED = "999999999 per minute"
_SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))


class FuzzedService(Service):
    """Without limits, and with receivers given up on soon."""

    def _environment(self, folder: Path) -> dict[str, str]:
        limits = {f"RATE_LIMIT_{group}": _UNLIMITED for group in ("EVENTS", "WRITE", "READ", "SEND", "PUBLIC")}
        return super()._environment(folder) | limits | {"WEBHOOK_TIMEOUT": "300"}


def main() -> None:
    """Run both shapes, or one; the exit status is 1 when a server error was found."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    seconds = SHORT_SECONDS if chosen.short else FULL_SECONDS
    stats.head(f"fuzz with seed {chosen.seed}, {seconds} s each")
    failed = False
    for shape in stats.shapes(chosen.shape):
        with FuzzedService(shape) as service:
            done = _attack(service, seconds, chosen.seed)
        cases = re.search(r"([\d,]+) generated", done.stdout)
        stats.line(shape, f"{cases.group(1) if cases else 'no'} cases", f"exit {done.returncode}")
        if done.returncode or not cases:
            failed = True
            print(done.stdout[-6000:], done.stderr[-2000:])
    sys.exit(1 if failed else 0)


def _attack(service: Service, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    host, port = service.address
    command: list[Any] = [_SCHEMATHESIS, "run", f"http://{host}:{port}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {KEY}", "--seed", seed, "--max-time", seconds, "--no-color"]
    command += ["--checks", "not_a_server_error", "--suppress-health-check", "all", "--continue-on-failure"]
    command += ["--phases", "coverage,fuzzing", "--warnings", "off", "--generation-database", "none"]
    command += ["--request-timeout", 60]
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=seconds + 300, check=False
    )


if __name__ == "__main__":
    main()
