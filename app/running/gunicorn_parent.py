"""What gunicorn's parent does with signals. Read by path: the parent never loads the application."""

import os
import runpy
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

_hurry = runpy.run_path(str(Path(__file__).with_name("hurry.py")))


def when_ready(server: Any) -> None:
    """End in order at the first SIGTERM or SIGINT, at once at the second. Gunicorn calls this when it listens."""

    def end() -> None:
        for pid in list(server.WORKERS):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(1)

    _hurry["on_signals"](lambda: server.signal(signal.SIGTERM, None), end)
