"""What can be wrong with what somebody asked for. The doors turn these into problem+json."""

from __future__ import annotations

from collections.abc import Mapping


class RequestError(Exception):
    """A request that cannot be done, and why. `code` is stable; `status` is the HTTP status."""

    status = 400
    code = "bad_request"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code:
            self.code = code


class InvalidError(RequestError):
    """One or more fields are wrong: `fields` is {path of the field: what is wrong}."""

    status = 422
    code = "validation_failed"

    def __init__(self, fields: Mapping[str, str], detail: str = "The request has fields that are not valid.") -> None:
        super().__init__(detail)
        self.fields = dict(fields)


def refuse(faults: Mapping[str, str]) -> None:
    """Raise InvalidError for these faults, if there are any."""
    if faults:
        raise InvalidError(faults)


class NotFoundError(RequestError):
    """There is no such thing, or it is not yours."""

    status = 404
    code = "not_found"


class ConflictError(RequestError):
    """It collides with how things stand."""

    status = 409
    code = "conflict"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class UnauthorizedError(RequestError):
    """Nobody we know."""

    status = 401
    code = "unauthorized"


class ForbiddenError(RequestError):
    """Somebody we know, who may not do this."""

    status = 403
    code = "forbidden"
