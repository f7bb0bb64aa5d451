"""A message of one channel: its parts compiled together, once, and rendered under one budget."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from . import email_html, escaping
from .errors import RenderError, TemplateError
from .finishing import FINISH
from .library import Clock, Sources, tree_of
from .runtime import Data, Emit, Frame, Run, written

PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "email": ("subject", "text", "html"),
        "sms": ("text",),
        "webhook": ("payload",),
        "in_app": ("title", "text", "actionUrl"),
    }
)
"""Channel to the names of its parts. The first is required; an email also needs text or html."""

_ESCAPE: dict[tuple[str, str], Callable[[str], str]] = {
    ("email", "html"): escaping.html,
    ("webhook", "payload"): escaping.in_json_string,
}
_CACHED_MESSAGES = 500
_CACHED_CHARACTERS = 10_000_000

Finish = Callable[[str], str]


class CompiledMessage:
    """The parts of a message, ready to be filled in. Never changes, so threads may share it."""

    def __init__(self, channel: str, parts: Mapping[str, str], partials: Mapping[str, str]) -> None:
        """Use `compile_message`, which checks and caches."""
        self.channel = channel
        self._has_text = "text" in parts
        self._plain: list[tuple[str, Emit, Finish | None]] = []
        self._html: email_html.HtmlPart | None = None
        clock = Clock()
        for name in PARTS[channel]:
            if name in parts:
                self._compile(name, parts[name], partials, clock)

    def _compile(self, name: str, source: str, partials: Mapping[str, str], clock: Clock) -> None:
        sources = Sources(partials, _ESCAPE.get((self.channel, name)), self.channel != "webhook", clock)
        try:
            if name == "html":
                plain = None if self._has_text else Sources(partials, None, True, clock)
                self._html = email_html.HtmlPart(source, tree_of(source, clock), sources, plain)
            else:
                self._plain.append((name, sources.template(source), FINISH.get((self.channel, name))))
        except TemplateError as error:
            error.part = name
            raise

    def render(
        self, data: Mapping[str, Any], *, locale: str = "en", time_zone: str = "UTC", until: float = math.inf
    ) -> dict[str, str]:
        """Part name to text. All parts share one budget of steps, output and time.

        `data` is plain JSON under the names the template uses; `locale` is a BCP 47 tag and `time_zone` an IANA name,
        an unknown one falls back to en and UTC. An email without a text template gets a text made from its HTML. An
        empty `actionUrl` is left out. Raises RenderError, or LimitError, with the part's name; HurryError when it is
        not done `until` then, by the monotonic clock.
        """
        run = Run(locale, time_zone, until)
        frame = frame_for(data, run)
        rendered: dict[str, str] = {}
        part = ""
        try:
            for part, emit, finish in self._plain:
                text = written(emit, frame)
                rendered[part] = finish(text) if finish else text
            if self._html:
                part = "html"
                rendered["html"] = self._html.html(frame)
                if not self._has_text:
                    rendered["text"] = self._html.text(frame, rendered["html"])
        except RenderError as error:
            error.part = part
            raise
        if not rendered.get("actionUrl", "/"):
            del rendered["actionUrl"]
        return rendered


def frame_for(data: Mapping[str, Any], run: Run) -> Frame:
    """The outermost frame: the data is the context and `@root`."""
    context = dict(data)
    return Frame(context, None, Data({"root": context}, None, None), (), {}, run)


def compile_message(channel: str, parts: Mapping[str, str], partials: Mapping[str, str]) -> CompiledMessage:
    """Compile the parts of a message, or find them compiled.

    `parts` maps part names of the channel (see PARTS) to sources, `partials` the names of layouts and partials to
    theirs; only those named are compiled. Raises TemplateError, with the part's name. Safe to call from many threads.
    """
    _check(channel, parts)
    key = (channel, frozenset(parts.items()), frozenset(partials.items()))
    found = _cache.get(key)
    if found is None:
        found = CompiledMessage(channel, parts, partials)
        _cache.put(key, found, sum(map(len, parts.values())))
    return found


def faults_of(channel: str, parts: Mapping[str, str], partials: Mapping[str, str]) -> list[TemplateError]:
    """Why a message cannot be compiled: what it lacks and the first fault of each part. Empty: it can.

    Arguments as of `compile_message`, which stops at the first of them.
    """
    try:
        compile_message(channel, parts, partials)
    except TemplateError as error:
        found = _lacks(channel, parts)
        # With an empty text none is made of the HTML, and it has no fault of its own.
        beside = {"text": ""} if "text" in parts else {}
        for name in parts.keys() & set(PARTS.get(channel, ())):
            found += _faults_of_part(channel, {**beside, name: parts[name]}, partials)
        return found or [error]
    return []


def _faults_of_part(channel: str, parts: Mapping[str, str], partials: Mapping[str, str]) -> list[TemplateError]:
    try:
        CompiledMessage(channel, parts, partials)
    except TemplateError as error:
        return [error]
    return []


def _check(channel: str, parts: Mapping[str, str]) -> None:
    for lack in _lacks(channel, parts):
        raise lack


def _lacks(channel: str, parts: Mapping[str, str]) -> list[TemplateError]:
    if channel not in PARTS:
        return [TemplateError(f"There is no channel called {channel}")]
    foreign = [name[:40] for name in parts if name not in PARTS[channel]]
    found = [TemplateError(f"A message for {channel} has no part called {name}", part=name) for name in foreign]
    first = PARTS[channel][0]
    if first not in parts:
        found.append(TemplateError(f"A message for {channel} needs a {first}", part=first))
    if channel == "email" and not parts.keys() & {"text", "html"}:
        found.append(TemplateError("A message for email needs a text or an html part", part="text"))
    return found


class _Cache:
    """The messages compiled last, bounded in number and in characters. Compiling happens outside the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[Any, tuple[CompiledMessage, int]] = OrderedDict()
        self._characters = 0

    def get(self, key: Any) -> CompiledMessage | None:
        with self._lock:
            if key not in self._found:
                return None
            self._found.move_to_end(key)
            return self._found[key][0]

    def put(self, key: Any, message: CompiledMessage, characters: int) -> None:
        with self._lock:
            if key not in self._found:
                self._found[key] = (message, characters)
                self._characters += characters
            while self._characters > _CACHED_CHARACTERS or len(self._found) > _CACHED_MESSAGES:
                self._characters -= self._found.popitem(last=False)[1][1]


_cache = _Cache()
