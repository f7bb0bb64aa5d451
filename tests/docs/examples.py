"""The examples of a page: found by the comment before them, run as they stand, held against what they show.

A block is run when a comment stands on the line before its fence. Readers of the rendered page do not see it:

    <!-- run -->                  run it; what follows each command is what it must answer
    <!-- run: wait -->            again and again until the answer is as shown: work goes on behind an accepted request
    <!-- run: any-order -->       the items of lists may come in any order
    <!-- run: setting -->         a `bash` block whose variables later blocks see
    <!-- run: EVENT=id -->        keep `id` of the first answer (a path such as items.0.id) as $EVENT for later blocks
    <!-- run: background -->      leave it running; what it shows must come by the end of the page
    <!-- run: then -->            what the background command prints next
    <!-- not run: why -->         for the reader only

In a `console` block `$ ` begins a command and the rest is its answer; a `bash` block is one script. Answers are JSON,
or text. Ids, times, secrets and durations may differ; a line with `…` stands for anything.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMMENT = re.compile(r"<!-- (?P<no>not )?run(?:: (?P<words>[^>]*?))? -->")
_ELLIPSIS = "…"
_KINDS = (
    ("<time>", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")),
    ("<id>", re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")),
    ("<caught>", re.compile(r"\b\d{20}-[0-9a-f]{8}\b")),
    ("<secret>", re.compile(r"whsec_[A-Za-z0-9+/]+={0,2}…?")),
    ("<key>", re.compile(r"tdg_(live|test)_[A-Za-z0-9]+(…[A-Za-z0-9]*)?")),
    ("<token>", re.compile(r"eyJ[A-Za-z0-9_.-]+…?")),
    ("<seconds>", re.compile(r"\b1[78]\d{8}\b")),
)
# What differs from run to run and has no form of its own.
_MEASURED = frozenset({"durationMs", "times", "responseHeaders", "secret", "nextCursor"})


@dataclass(frozen=True, slots=True)
class Step:
    """One command and what it must answer; "" says nothing about the answer."""

    command: str
    answer: str


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `words` are those of its comment; None when it has none, `run` when it is to be run."""

    line: int
    language: str
    text: str
    run: bool | None
    words: tuple[str, ...] = ()

    @property
    def steps(self) -> list[Step]:
        """Its commands, in order."""
        if self.language != "console":
            return [Step(self.text, "")]
        found: list[list[str]] = []
        for line in self.text.split("\n"):
            if line.startswith("$ "):
                found.append([line[2:], "", "open"])
            elif found and found[-1][2] == "open" and _unfinished(found[-1][0]):
                found[-1][0] += "\n" + line.removeprefix("> ")
            elif found:
                found[-1][1] += line + "\n"
                found[-1][2] = "answered"
        return [Step(command, answer.strip()) for command, answer, _ in found]

    @property
    def kept(self) -> dict[str, str]:
        """Variables to keep: name -> path in the answer."""
        return dict(word.split("=", 1) for word in self.words if "=" in word)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    lines, found, at = page.read_text().split("\n"), [], 0
    while at < len(lines):
        if not lines[at].startswith("```"):
            at += 1
            continue
        end = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
        comment = _COMMENT.fullmatch(lines[at - 1].strip()) if at else None
        run = None if comment is None else not comment["no"]
        words = tuple((comment["words"] or "").replace(",", " ").split()) if comment and run else ()
        found.append(Block(at + 1, lines[at][3:].strip(), "\n".join(lines[at + 1 : end]), run, words))
        at = end + 1
    return found


def _unfinished(command: str) -> bool:
    """Whether the shell would ask for another line. Pages put no apostrophe between double quotes."""
    return command.endswith("\\") or command.count("'") % 2 == 1


def differences(shown: str, got: str, *, any_order: bool = False) -> list[str]:
    """In what an answer differs from the one that a page shows; empty: in nothing that matters."""
    expected = _parsed(shown)
    if expected is None:
        return _text_differences(shown, got)
    try:
        actual = json.loads(got)
    except ValueError:
        return [f"is not JSON: {got[:500]!r}"]
    return _compare(expected, actual, "", any_order)


def _parsed(shown: str) -> Any:
    """The JSON of a page, with `…` for what is left out; None when it is plain text."""
    if not shown.startswith(("{", "[")):
        return None
    depth: list[str] = []
    lines = []
    for line in shown.split("\n"):
        if line.strip() == _ELLIPSIS:
            line = f'"{_ELLIPSIS}": 0' if depth[-1] == "{" else f'"{_ELLIPSIS}"'
        bare = re.sub(r'"(\\.|[^"\\])*"', "", line)
        for sign in bare:
            if sign in "{[":
                depth.append(sign)
            elif sign in "}]":
                depth.pop()
        lines.append(line)
    return json.loads("\n".join(lines))


def _compare(expected: Any, actual: Any, path: str, any_order: bool) -> list[str]:
    if path.rpartition(".")[2] in _MEASURED and isinstance(actual, type(expected) | str | int | float | None):
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _compare_objects(expected, actual, path, any_order)
    if isinstance(expected, list) and isinstance(actual, list):
        return _compare_lists(expected, actual, path, any_order)
    if isinstance(expected, str) and isinstance(actual, str) and _same_text(expected, actual):
        return []
    same = expected == actual and type(expected) is type(actual)
    return [] if same else [f"{path}: shown {expected!r}, got {actual!r}"]


def _compare_objects(expected: dict[str, Any], actual: dict[str, Any], path: str, any_order: bool) -> list[str]:
    names = expected.keys() - {_ELLIPSIS}
    found = [f"{path}.{name}: is shown and does not come" for name in sorted(names - actual.keys())]
    if _ELLIPSIS not in expected:
        found += [f"{path}.{name}: comes and is not shown" for name in sorted(actual.keys() - names)]
    for name in sorted(names & actual.keys()):
        found += _compare(expected[name], actual[name], f"{path}.{name}", any_order)
    return found


def _compare_lists(expected: list[Any], actual: list[Any], path: str, any_order: bool) -> list[str]:
    """One by one; where `…` stands, more may come."""
    shown = [item for item in expected if item != _ELLIPSIS]
    open_end = len(shown) < len(expected)
    if len(shown) > len(actual) or (len(shown) < len(actual) and not open_end):
        return [f"{path}: {len(shown)} items are shown, {len(actual)} came"]
    if any_order:
        missing = [item for item in shown if all(_compare(item, other, path, True) for other in actual)]
        return [f"{path}: {item!r} is shown and does not come" for item in missing]
    pairs = enumerate(zip(shown, actual, strict=False))
    return [fault for at, (one, other) in pairs for fault in _compare(one, other, f"{path}.{at}", False)]


def _text_differences(shown: str, got: str) -> list[str]:
    """Every line that is shown must come, in this order, with nothing between but where `…` stands."""
    pattern = ""
    for line in shown.split("\n"):
        pattern += r"(?:.*\n)*?" if line.strip() == _ELLIPSIS else re.escape(_leveled(line.rstrip())) + r"\n"
    leveled = "\n".join(_leveled(line.rstrip()) for line in got.strip().split("\n")) + "\n"
    return [] if re.fullmatch(pattern, leveled) else [f"shown:\n{shown}\ngot:\n{got}"]


def _same_text(expected: str, actual: str) -> bool:
    if expected.endswith(_ELLIPSIS) and actual.startswith(expected[:-1]):
        return True
    return _leveled(expected) == _leveled(actual)


def _leveled(text: str) -> str:
    """The text with ids, times and secrets replaced by what they are."""
    for name, pattern in _KINDS:
        text = pattern.sub(name, text)
    return text


def value_at(answer: Any, path: str) -> str:
    """What stands at `items.0.id`."""
    for step in path.split("."):
        answer = answer[int(step)] if isinstance(answer, list) else answer[step]
    return str(answer)
