"""One worker process, as the supervisor starts it: `python -m app.running.worker_process PARENT [LANES]`.

PARENT is the supervisor's process id, LANES as in the setting WORKER_LANES. Apart from the command line, so that it
holds nothing but what a worker needs.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from app.config import LANES
from app.config_values import lanes as parse_lanes
from app.logs import configure_logs
from app.running.start import FAULTS, check_production, in_words
from app.running.worker import run_alone
from app.wiring import load_settings, make_runtime


def main(parent: int, lanes: str) -> int:
    """Work until told to stop. Returns the exit status."""
    try:
        settings = load_settings()
        if lanes:
            settings = replace(settings, worker_lanes=parse_lanes(*LANES)(lanes))
        configure_logs(settings)
        check_production(settings, "worker")
        runtime = make_runtime(settings)
    except FAULTS as fault:
        sys.stderr.write(in_words(fault) + "\n")
        return 1
    return run_alone(runtime, parent)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
