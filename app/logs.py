"""The log: one line for each thing that happened, JSON for machines or text for eyes.

Never in it: bodies, headers, credentials. What belongs to a request carries its `request_id`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

from app.config import Settings


def configure_logs(settings: Settings, stream: TextIO | None = None) -> None:
    """Set up structlog, and let what libraries log through `logging` come out the same way. Call once a process.

    `stream`: where to; default: standard error.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    output = _output(settings.log_format, colors=stream.isatty())
    structlog.configure(
        processors=[*shared, *output],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *output],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def _output(form: str, *, colors: bool) -> list[Any]:
    if form == "text":
        return [structlog.dev.ConsoleRenderer(colors=colors)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
