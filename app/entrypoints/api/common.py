"""What every blueprint of the API is made of. Use it like this:

    blp = ApiBlueprint("rules", __name__, url_prefix="/api/rules", scope="rules", description="Who is told of what.")

    @blp.route("")                                  # GET: needs the scope rules:read, counts as "read"
    @blp.arguments(RuleFilter, location="query")    # a subclass of schemas.PageQuery
    @blp.response(200, page_of(RuleOut))
    def list_rules(query):
        \"\"\"List the rules.\"\"\"                     # becomes the operation's summary in the OpenAPI document
        at = cursor(query)
        with transaction(read_only=True) as session:
            return rules.search(session, caller().tenant_id, at, **query)     # an app.paging.Page

    @blp.route("", methods=["POST"])                # needs rules:write, counts as "write"
    @blp.arguments(RuleIn, judge=_faults)           # above creates: bad input reserves no idempotency key
    @blp.creates(201, RuleOut)                      # opens the transaction, honours Idempotency-Key
    def create_rule(session, data):
        \"\"\"Create a rule.\"\"\"
        return rules.create(session, runtime().clock, caller().tenant_id, **data)

`route(…, action="read")` says that a POST only reads (a preview); `group="send"` names another rate limit.
`ApiBlueprint(…, persons=True)` lets people's tokens in; such routes call `person_of(query)` to learn whose they are.
Without `persons` a person gets 403. Authentication, scopes and limits happen in `gate`, before the view.
Raise `app.errors` for faults; they become problem+json. The `deleted()` answer is a 204.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Response, current_app, g, jsonify, request
from flask_smorest import Blueprint
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from app.core.runtime import Runtime
from app.entrypoints.api import once
from app.entrypoints.api.limits import RateLimiter
from app.entrypoints.api.parsing import Parser
from app.entrypoints.api.schemas import ApiSchema, Judge, secrets_of
from app.entrypoints.api.waiting import Waiting
from app.entrypoints.auth import Authenticator, Caller
from app.errors import ForbiddenError, RequestError
from app.models import Base
from app.tenancy import Scope, person

EXTENSION = "tidings.doors"
View = TypeVar("View", bound=Callable[..., Any])
_IDEMPOTENCY_HEADER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "The same key and body give the same answer for 24 hours, and the work is done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a route: `resource` and `action` make the scope; `group` is the rate limit."""

    resource: str
    action: str
    group: str
    persons: bool


@dataclass(frozen=True, slots=True)
class Doors:
    """What the doors share, made once by `create_app`. `access` is {endpoint: Access}."""

    runtime: Runtime
    authenticator: Authenticator
    limiter: RateLimiter
    access: dict[str, Access]
    waiting: Waiting


def doors() -> Doors:
    """The running application's own."""
    return cast(Doors, current_app.extensions[EXTENSION])


def runtime() -> Runtime:
    """The running service's parts."""
    return doors().runtime


def caller() -> Caller:
    """Who asks. The gate has seen to it that there is one."""
    return cast(Caller, g.caller)


@contextmanager
def transaction(*, read_only: bool = False, scope: Scope | None = None) -> Iterator[Session]:
    """A session that sees what the caller may see, and commits at the end of the block."""
    with runtime().db.transaction(scope or caller().scope, read_only=read_only) as session:
        yield session


class NoUserError(RequestError):
    """A route that belongs to a person was called by a service that named none."""

    code = "user_id_required"


def person_of(query: dict[str, Any]) -> tuple[str, Scope]:
    """Whose the request is, and the scope that sees only their rows: takes `user_id` out of a loaded PersonQuery.

    A person is themselves (403 for another's id); a service names `?userId=` (400 if it does not). The scope shows
    notifications, deliveries, preferences and the recipient of this person, but no rules, templates or events:
    use `db.tenant(caller().tenant_id)` for those.
    """
    named, who = query.pop("user_id", None), caller()
    if who.user_id is not None:
        if named not in (None, who.user_id):
            raise ForbiddenError("A person may only see what is their own.")
        named = who.user_id
    if named is None:
        raise NoUserError("Name the person with ?userId=.")
    return named, person(who.tenant_id, named)


def shown_once(record: Base, **more: Any) -> dict[str, Any]:
    """A record's columns with more beside them: a secret that is shown once, what belongs to it."""
    columns: Any = inspect(type(record)).column_attrs
    return {**{column.key: getattr(record, column.key) for column in columns}, **more}


def deleted() -> Response:
    """204: done, and nothing to say."""
    return Response(status=204)


class ApiBlueprint(Blueprint):  # type: ignore[misc]
    """A blueprint whose every route says who may use it. `scope` is one of core.keys.RESOURCES."""

    ARGUMENTS_PARSER = Parser()

    def __init__(
        self,
        name: str,
        import_name: str,
        *,
        scope: str,
        persons: bool = False,
        group: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, import_name, **options)
        self.scope, self.persons, self.group = scope, persons, group
        self.access: dict[str, Access] = {}
        self._prepare_doc_cbks.append(_document_access)

    def route(
        self, rule: str, *, action: str | None = None, group: str | None = None, **options: Any
    ) -> Callable[[View], View]:
        """As Flask's. `action` and `group` override what the method says."""
        reads = set(options.get("methods", ["GET"])) <= {"GET", "HEAD"}
        action = action or ("read" if reads else "write")
        group = group or (action if reads else self.group or action)
        add = super().route(rule, **options)

        def decorator(view: View) -> View:
            endpoint = f"{self.name}.{view.__name__}"
            if endpoint in self.access:
                raise ValueError(f"two routes are called {endpoint}")
            self.access[endpoint] = Access(self.scope, action, group, self.persons)
            return cast(View, add(view))

        return decorator

    def arguments(
        self,
        schema: type[ApiSchema],
        *,
        location: str = "json",
        required: bool = True,
        judge: Judge | None = None,
        **options: Any,
    ) -> Callable[[View], View]:
        """Load the body (or the query) by a schema; the view gets it as its next positional argument.

        With `required=False` a request without a body counts as one with `{}`. When the schema refuses some fields,
        `judge` says what core would refuse of the others, so that all faults come in one answer.
        """
        ready = schema()  # made once, and not for every request
        ready.may_be_absent, ready.judge = not required, judge
        add = super().arguments(ready, location=location, required=required, **options)
        return cast(Callable[[View], View], add)

    def response(self, status: int, schema: Any = None, **options: Any) -> Callable[[View], View]:
        """Dump what the view returns by a schema."""
        return cast(Callable[[View], View], super().response(status, schema, **options))

    def alt_response(self, status: int, **options: Any) -> Callable[[View], View]:
        """Document another answer, which the view makes itself."""
        return cast(Callable[[View], View], super().alt_response(status, **options))

    def creates(
        self, status: int, schema: type[Any], *, in_transaction: bool = True, light: bool = False
    ) -> Callable[[Callable[..., Any]], Callable[..., Response]]:
        """For a POST that creates: as `response(status, schema)`, and an Idempotency-Key makes it happen once.

        The view gets a session as its first argument; its transaction commits after the answer is stored in it.
        With `in_transaction=False` it gets none, opens its own, and the answer is stored afterwards. `schema`'s
        secret fields are left out of the stored answer.
        """
        dumper = schema()
        secrets = secrets_of(dumper)

        def decorator(view: Callable[..., Any]) -> Callable[..., Response]:
            documented = self.response(status, schema)(view)

            @wraps(documented)
            def wrapper(*args: Any, **kwargs: Any) -> Response:
                def work(*session: Session) -> Any:
                    return dumper.dump(view(*session, *args, **kwargs))

                asked = once.asked(caller(), request)
                answer, replayed = once.do(runtime(), caller(), asked, work, status, secrets, in_transaction, light)
                response = jsonify(answer)
                response.status_code = status
                if replayed:
                    response.headers["Idempotency-Replayed"] = "true"
                return response

            parameters = wrapper._apidoc.setdefault("arguments", {}).setdefault("parameters", [])  # type: ignore[attr-defined]
            parameters.append(_IDEMPOTENCY_HEADER)
            return wrapper

        return decorator


def _document_access(doc: dict[str, Any], _doc_info: Any, **_context: Any) -> dict[str, Any]:
    """Every operation may also answer with a problem."""
    doc.setdefault("responses", {}).setdefault("default", "DEFAULT_ERROR")
    return doc
