"""What a worker's parent answers, whoever else asks it."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.running.observer import Observer


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Observer]:
    at = time.time() + 300  # so that it does not grow old while the test lasts
    beat = {"at": at, "checkedAt": at, "parts": {"database": "ok", "schema": "ok"}}
    (tmp_path / "beat-1").write_text(json.dumps(beat))
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    served = Observer(listening, tmp_path, "", 1)
    thread = threading.Thread(target=served.serve_forever, args=(0.05,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.parametrize("said", [b"", b"GET /health/live HTTP/1.1\r\nX: "])
def test_clients_that_dawdle_keep_no_probe_out(observer: Observer, said: bytes) -> None:
    address = observer.server_address[:2]
    with ExitStack() as stack:
        # given many more clients than there is room for, none of which ends its request
        slow = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(50)]
        for client in slow:
            client.sendall(said)
        # when probes come
        for path in ("/health/live", "/health/ready", "/metrics"):
            with urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=30) as answer:
                # then they are answered
                assert answer.status == 200
        # and those that had been there longest were cut off
        assert slow[0].recv(1) == b""
