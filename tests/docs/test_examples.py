"""Every example of the pages for newcomers is run against a service that was started as they are told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.examples import Block, Step, blocks, differences, value_at
from tests.docs.service import Service
from tests.servers.process import find_program, free_port

pytestmark = pytest.mark.timeout(420)  # real processes, on a machine that may be busy
ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/get-started.md", "docs/api.md", "docs/preferences.md", "docs/webhooks.md")
PATIENCE_SECONDS = 60.0


class Reader:
    """Somebody who follows a page: a shell, variables, and perhaps a receiver in another window."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.receiver_port = free_port()
        self.variables: dict[str, str] = {}
        self._background: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._read = 0

    def follow(self, block: Block) -> None:
        """Do what a block says, and compare."""
        if "then" in block.words:
            self._wait_for_more(block.text)
            return
        if "setting" in block.words:
            self._set(block.text)
            return
        for at, step in enumerate(block.steps):
            if "background" in block.words:
                self._leave_running(step)
                continue
            answered = self._run(step, block)
            for name, path in block.kept.items() if at == 0 else ():
                self.variables[name] = value_at(json.loads(answered), path) if path else answered.strip()

    def end(self) -> None:
        """Close the other windows."""
        for process, _ in self._background:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _here(self, text: str) -> str:
        text = text.replace("tidings listen", f"tidings listen --port {self.receiver_port}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self.service.port}")
        return text.replace("127.0.0.1:9000", f"127.0.0.1:{self.receiver_port}")

    @property
    def _environment(self) -> dict[str, str]:
        return self.service.client_environment | self.variables

    def _run(self, step: Step, block: Block) -> str:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", self._here(step.command)],
                cwd=self.service.folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, f"line {block.line}: {step.command}\n{done.stdout}\n{done.stderr}"
            shown, any_order = self._here(step.answer), "any-order" in block.words
            wrong = differences(shown, done.stdout, any_order=any_order) if shown else []
            if not wrong or "wait" not in block.words or time.monotonic() > end:
                break
            time.sleep(0.1)
        assert not wrong, f"line {block.line}: {step.command}\n" + "\n".join(wrong) + f"\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _set(self, script: str) -> None:
        """What a script leaves in its variables."""
        names = re.findall(r"^([A-Z_]+)=", script, re.MULTILINE)
        shown = "\n".join(f'printf "%s\\n" "${name}"' for name in names)
        said = self._run(Step(f"{script}\n{shown}", ""), Block(0, "bash", script, True))
        self.variables.update(zip(names, said.splitlines(), strict=True))

    def _leave_running(self, step: Step) -> None:
        output = self.service.folder / "background.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", "exec " + self._here(step.command)],
                cwd=self.service.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._background.append((process, output))
        self._wait_for_more(step.answer)

    def _wait_for_more(self, shown: str) -> None:
        """What the other window prints next."""
        _, output = self._background[-1]
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            text = output.read_text()[self._read :]
            wrong = differences(self._here(shown), text)
            if not wrong:
                self._read += len(text)
                return
            assert time.monotonic() < end, "\n".join(wrong)
            time.sleep(0.05)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    find_program("curl")
    with Service(tmp_path) as service:
        made = Reader(service)
        yield made
        made.end()


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_work_as_written(page: str, reader: Reader) -> None:
    to_run = [block for block in blocks(ROOT / page) if block.run]
    assert to_run

    for block in to_run:
        reader.follow(block)


@pytest.mark.parametrize("page", PAGES)
def test_every_console_example_is_run_or_says_why_not(page: str) -> None:
    silent = [
        block.line for block in blocks(ROOT / page) if block.language in ("console", "bash") and block.run is None
    ]

    assert not silent
