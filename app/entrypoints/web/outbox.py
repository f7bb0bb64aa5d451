"""/dev/outbox, the catcher: email and SMS that would have gone out, newest first, and live as new ones come."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Flask, Response, abort, current_app, jsonify, request

from app.config import Settings
from app.core.channels import catcher_store
from app.core.runtime import Runtime
from app.entrypoints.web import letters, policy
from app.entrypoints.web.home import curl_line
from app.errors import InvalidError

PAGE_SIZE = 50
_STEP = 10  # a live page asks every second, mostly for nothing: few files are read until there is more
_ID = re.compile(r"[0-9]{20}-[0-9a-f]{8}", re.ASCII)
# A message's id is made before its file is there: one that is a little older than the newest can still appear.
_OVERLAP_NS = 2_000_000_000

blp = Blueprint("outbox", __name__, url_prefix="/dev/outbox")


def install(app: Flask) -> None:
    """Register the catcher's pages; `admission` guards them."""
    app.register_blueprint(blp)


@blp.get("", strict_slashes=False)
def index() -> Response:
    """The list, and nothing opened."""
    return policy.page("pages/outbox.html", **_listing())


@blp.get("/<caught_id>")
def detail(caught_id: str) -> Response:
    """One message, in the view that is asked for, beside the list."""
    caught = _caught(caught_id)
    return policy.page("pages/outbox.html", **_listing(), **letters.letter(caught, request.args.get("view", "")))


@blp.get("/<caught_id>/html")
def frame(caught_id: str) -> Response:
    """A message's HTML, disarmed. `images=1`: with images from elsewhere."""
    return policy.hostile(letters.framed(_caught(caught_id).html), images=_images())


@blp.get("/messages")
def messages() -> Response:
    """{items, nextCursor}: newest first, those that came after `since` and a few from just before; `after` pages on."""
    since, cursor = _id("since"), _id("after") or None
    floor = f"{max(0, int(since[:20]) - _OVERLAP_NS):020d}" if since else ""
    items: list[Any] = []
    while len(items) < PAGE_SIZE:
        found = _store().list(limit=_STEP, after=cursor)
        items += [caught for caught in found if caught.id > floor]
        if len(found) < _STEP or found[-1].id <= floor:
            cursor = None
            break
        cursor = found[-1].id
    response = jsonify(items=[letters.summary(caught) for caught in items], nextCursor=cursor or "")
    response.headers["Cache-Control"] = "no-store"
    return response


def _settings() -> Settings:
    runtime: Runtime = current_app.extensions["tidings"]
    return runtime.settings


def _store() -> Any:
    return catcher_store(_settings())


def _caught(caught_id: str) -> Any:
    return _store().get(caught_id) or abort(404)


def _id(name: str) -> str:
    given = request.args.get(name, "")
    if given and not _ID.fullmatch(given):
        raise InvalidError({name: "is not the id of a message"})
    return given


def _images() -> bool:
    return request.args.get("images") == "1"


def _listing() -> dict[str, Any]:
    settings, after = _settings(), _id("after")
    found = _store().list(limit=PAGE_SIZE + 1, after=after or None)
    served = (("Email", settings.email_providers), ("SMS", settings.sms_providers))
    return {
        "messages": [letters.summary(caught) for caught in found[:PAGE_SIZE]],
        "after": after,
        "older": found[PAGE_SIZE - 1].id if len(found) > PAGE_SIZE else "",
        "first_page": not after,
        "catching": [name for name, providers in served if "catcher" in providers],
        "curl": curl_line(settings),
        "images": _images(),
        "catcher": True,
        "here": "outbox",
    }
