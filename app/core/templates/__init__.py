"""The words: a tenant's templates over those that ship with the product, looked up by key, channel and locale.

Keys that begin with `layouts/` or `partials/` are pieces that other templates of the same channel include. A piece has
one part, which says for which part of a message it is written; HTML and text variants have keys of their own.
"""

from app.core.templates.judging import PART_NAMES, faults, place_faults, preview_faults
from app.core.templates.lookup import context, message
from app.core.templates.records import create, get, preview, preview_saved, remove, replace, search, shipped

__all__ = [
    "PART_NAMES",
    "context",
    "create",
    "faults",
    "get",
    "message",
    "place_faults",
    "preview",
    "preview_faults",
    "preview_saved",
    "remove",
    "replace",
    "search",
    "shipped",
]
