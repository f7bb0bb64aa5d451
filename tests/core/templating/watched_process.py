"""Run as a process of its own.

Compiles and renders the templates given on stdin, and tells what Python was asked to execute.

Prints one JSON object: `evaluated`, the texts given to eval, exec or compile since import; `rendering`, those while
rendering; `other`, other telling audit events; `outcomes`, how each template ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from app.core.templating import RenderError, TemplateError, compile_message

seen: set[str] = set()
rendering: set[str] = set()
other: set[str] = set()
state = {"is_rendering": False}
TELLING = ("os.", "subprocess.", "socket.", "open", "import", "ctypes.", "shutil.")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "compile":
        source = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
        seen.add(source)
        if state["is_rendering"]:
            rendering.add(source)
    elif event == "exec":
        code = arguments[0]
        if getattr(code, "co_name", "<module>") != "<module>" or code.co_filename != "<string>":
            other.add(f"exec {code.co_filename}")
    elif event.startswith(TELLING):
        other.add(f"{event} {arguments[:1]}")


def main() -> None:
    job = json.load(sys.stdin)
    # Babel and the time zones read their data from files when they are first used.
    warm = "{{datetime x 'full'}}{{date x 'zzzz vvvv'}}{{time x 'full'}}{{money 1 'EUR'}}{{percent 1}}{{number 1}}"
    for locale in ("en", "de"):
        compile_message("sms", {"text": warm}, {}).render({"x": "2026-01-02T03:04:05Z"}, locale=locale)
    "".encode("utf-16-le")  # Python loads this codec when it is first used
    sys.addaudithook(watch)
    outcomes = []
    for number, source in enumerate(job["templates"]):
        state["is_rendering"] = False
        try:
            message = compile_message("in_app", {"title": "x", "text": source}, job["partials"])
            state["is_rendering"] = True
            outcomes.append(message.render(job["data"], locale=("en", "de")[number % 2])["text"])
        except (TemplateError, RenderError) as error:
            outcomes.append(f"{type(error).__name__}: {error.message}")
    state["is_rendering"] = False
    evaluated, during, telling = sorted(seen), sorted(rendering), sorted(other)
    print(json.dumps({"evaluated": evaluated, "rendering": during, "other": telling, "outcomes": outcomes}))


main()
