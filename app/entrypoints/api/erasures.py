"""Receipts of persons who were removed."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from app.core import erasures
from app.entrypoints.api.common import ApiBlueprint, caller, runtime, transaction
from app.entrypoints.api.schemas import ApiSchema, PageQuery, Time, cursor, page_of, user_id
from app.models import Erasure
from app.paging import Page

blp = ApiBlueprint(
    "erasures", __name__, url_prefix="/api/erasures", scope="recipients", description="Proof that a person was removed."
)


class ErasureFilter(PageQuery):
    """Whose receipts."""

    user_id = user_id(metadata={"description": "Only those of this person."})


class ErasureOut(ApiSchema):
    """A receipt. `finishedAt` is null while the removal goes on."""

    id = fields.String(required=True)
    user_hash = fields.String(
        required=True, metadata={"description": "Whom: HMAC-SHA256 of the user id, keyed with SECRET_KEY."}
    )
    requested_at = Time(required=True)
    finished_at = Time(required=True, allow_none=True)
    counts = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Rows removed or changed, by table."},
    )


@blp.route("")
@blp.arguments(ErasureFilter, location="query")
@blp.response(200, page_of(ErasureOut))
def list_erasures(query: dict[str, Any]) -> Page[Erasure]:
    """List the receipts, the newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return erasures.search(session, runtime(), caller().tenant_id, at, user_id=query.get("user_id"))


@blp.route("/<erasure_id>")
@blp.response(200, ErasureOut)
def get_erasure(erasure_id: str) -> Erasure:
    """Read one receipt."""
    with transaction(read_only=True) as session:
        return erasures.get(session, caller().tenant_id, erasure_id)
