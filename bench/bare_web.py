"""The server to compare with: gunicorn and Flask as the service has them, one bare row for each request.

BENCH_BARE_DATABASE=… gunicorn bench.bare_web:app
"""

from __future__ import annotations

import os
import threading

from flask import Flask, Response, request

from bench.bare_store import insert_one

app = Flask("bare", static_folder=None)
_target = os.environ.get("BENCH_BARE_DATABASE", "")
_one_writer = threading.Lock()


@app.post("/bare")
def bare() -> Response:
    """Read the JSON, insert one row, commit, answer."""
    data = str(request.get_json())
    if _target.startswith("sqlite:"):
        with _one_writer:
            made = insert_one(_target, data)
    else:
        made = insert_one(_target, data)
    return Response(f'{{"id":"{made}"}}', status=202, content_type="application/json")
