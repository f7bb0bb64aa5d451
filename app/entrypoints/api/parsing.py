"""Reading requests: JSON that both databases can hold, judged as a whole before any schema sees it.

Text with NUL or lone surrogates, NaN, infinities, integers beyond 64 bits and nesting deeper than 32 are refused
with the path of the field (422). What is no JSON at all is a 400.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import marshmallow as ma
from flask import Request
from webargs.flaskparser import FlaskParser, is_json_request

from app.entrypoints.api.problems import MediaTypeError
from app.entrypoints.api.schemas import ApiSchema
from app.errors import InvalidError, RequestError

MAX_DEPTH = 32
_SEPARATORS = (b",", b"[", b"{", b":")
_MOST = 2**63 - 1
_LEAST = -(2**63)
MOST_ERRORS = 100
MAX_SEPARATORS = 2_000_000
"""Most commas, colons and opening brackets and braces of a body: reading what is small in bytes and vast in values
would hold up every thread of the process. Counted without parsing, so those inside text count too."""


class TooManyValuesError(RequestError):
    """The body holds more values than we read at once."""

    status = 413
    code = "body_too_large"


def faults_of(value: Any, path: str = "") -> dict[str, str]:
    """What in a JSON value cannot be stored: {path: why}, at most a hundred. Empty: nothing."""
    faults: dict[str, str] = {}
    if not _storable(value, MAX_DEPTH):  # nearly always it is: only what is not is walked again, to name the places
        _walk(value, path, MAX_DEPTH, faults)
    return faults


def _storable(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str:
        return text_fault(value) is None
    if kind is dict or kind is list:
        if depth == 0 or (kind is dict and any(map(text_fault, value))):
            return False
        for item in value.values() if kind is dict else value:  # noqa: SIM110 - all() costs half as much again
            if not _storable(item, depth - 1):
                return False
        return True
    if kind is float:
        return math.isfinite(value)
    return kind is not int or _LEAST <= value <= _MOST


def _walk(value: Any, path: str, depth: int, faults: dict[str, str]) -> None:
    if len(faults) >= MOST_ERRORS:
        return
    if isinstance(value, str):
        if why := text_fault(value):
            faults[path] = why
    elif isinstance(value, dict | list):
        if depth == 0:
            faults[path] = f"is nested deeper than {MAX_DEPTH} levels"
            return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str) and text_fault(key):
                faults[path] = "has a key with NUL or a lone surrogate"
            elif type(item) is not bool and item is not None:
                _walk(item, f"{path}.{key}" if path else str(key), depth - 1, faults)
    elif isinstance(value, float) and not math.isfinite(value):
        faults[path] = "is not a finite number"
    elif isinstance(value, int) and not _LEAST <= value <= _MOST:
        faults[path] = "is an integer beyond 64 bits"


def text_fault(text: str) -> str | None:
    """Why a text cannot be stored, or None."""
    if text.isascii():
        return "holds a NUL character" if "\x00" in text else None
    if "\x00" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    return None


def read_json(request: Request) -> Any:
    """The body as JSON. Raises MediaTypeError (415), or RequestError (400) for what is no JSON."""
    if not is_json_request(request):
        raise MediaTypeError("The body must be JSON (Content-Type: application/json).")
    body = request.get_data(cache=True)
    if request.content_length is None:
        request.stream.read(1)  # a body of unknown length ends at the limit without a word; one byte more is a 413
    if sum(map(body.count, _SEPARATORS)) > MAX_SEPARATORS:
        raise TooManyValuesError(f"The body holds more than {MAX_SEPARATORS} commas, colons, brackets and braces.")
    try:
        return json.loads(body)
    except RecursionError:
        raise InvalidError({"": f"is nested deeper than {MAX_DEPTH} levels"}) from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"The body is not JSON{where}.", code="malformed_json") from None


class Parser(FlaskParser):
    """webargs, with our errors, and with every query parameter known by name."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"json": None, "query": ma.RAISE}  # noqa: RUF012

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """The body. Schemas with `judges_alone` look for unstorable values themselves."""
        schema = cast(ApiSchema, schema)
        if schema.may_be_absent and not req.content_length and not req.get_data(cache=True):
            return {}
        value = read_json(req)
        if not schema.judges_alone and (faults := faults_of(value)):
            raise InvalidError(faults)
        return value

    def load_querystring(self, req: Request, schema: ma.Schema) -> Any:
        """The query's parameters."""
        for name, value in req.args.items(multi=True):
            if why := text_fault(name) or text_fault(value):
                raise InvalidError({name.replace("\x00", "\ufffd"): why})
        return super().load_querystring(req, schema)

    def handle_error(
        self,
        error: ma.ValidationError,
        req: Request,  # noqa: ARG002
        schema: ma.Schema,
        **_kwargs: Any,
    ) -> NoReturn:
        """The schema's complaints as one InvalidError, with core's about the fields that the schema let pass."""
        by_location: Any = error.messages
        (messages,) = by_location.values()
        faults, judge = flatten(messages), cast(ApiSchema, schema).judge
        if judge and isinstance(error.data, dict) and isinstance(error.valid_data, dict):
            for path, why in judge(error.valid_data).items():
                faults.setdefault(path, why)
        raise InvalidError(dict(list(faults.items())[:MOST_ERRORS]))


def flatten(messages: Any, path: str = "") -> dict[str, str]:
    """Marshmallow's nested messages as {path: message}; at most a hundred of them."""
    flat: dict[str, str] = {}
    _flatten(messages, path, flat)
    return flat


def _flatten(messages: Any, path: str, flat: dict[str, str]) -> None:
    if len(flat) >= MOST_ERRORS:
        return
    if isinstance(messages, Mapping):
        for key, value in messages.items():
            inner = "" if key == ma.exceptions.SCHEMA else str(key)
            _flatten(value, f"{path}.{inner}" if path and inner else path or inner, flat)
    elif isinstance(messages, list | tuple):
        if messages:
            _flatten(messages[0], path, flat)
    else:
        flat.setdefault(path, str(messages))
