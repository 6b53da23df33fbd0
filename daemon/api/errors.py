"""Error responses, all as ``{"error": "one line"}``. Values sent by clients are not shown: they may hold passwords."""

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import compile_path

from daemon.errors import BusyError, ConflictError, UnknownNameError
from stages.errors import ConfigError, MaskcastError, SnapshotError, one_line

log = logging.getLogger(__name__)

_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "finite_number": "should be a finite number",
    "string_unicode": "should be text that can be written as UTF-8",
    "string_pattern_mismatch": "is not one of COCO's run-length strings",
    "model_attributes_type": "should be an object, sent with Content-Type: application/json",
}

# the lowest is reported first: unknown fields before missing ones, wrong values before the other types of a union
_PRIORITIES = {"extra_forbidden": 0, "string_type": 2, "list_type": 2, "none_required": 3}


def refusal(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response with ``error`` joined to one line and made valid UTF-8."""
    line = " ".join(error.encode("utf-8", "replace").decode().split())
    return JSONResponse({"error": line}, status, headers)


def busy(error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """503 with Retry-After: the same request may succeed a second later."""
    return refusal(503, error, {"Retry-After": "1", **(headers or {})})


def handle_errors(app: FastAPI) -> None:
    """Register the handlers for every kind of error."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(MaskcastError, _maskcast_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    match error.status_code:
        case 400:  # from FastAPI: nested too deep, or a number too long
            return refusal(400, "the body is not JSON that can be read")
        case 404:
            return refusal(404, f"nothing is at {path}; /openapi.json lists what there is")
        case 405:
            there = ", ".join(sorted(_allowed_methods(request)))
            return refusal(405, f"{path} takes {there}, not {request.method[:20]}", {"Allow": there})
    return refusal(error.status_code, str(error.detail))


def _allowed_methods(request: Request) -> set[str]:
    """All methods of the path; Starlette's own error names only those of the first matching route."""
    found: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        if compile_path(template)[0].match(request.url.path):
            found |= {method.upper() for method in operations}
    return found | {"HEAD"} if "GET" in found else found or {"GET", "HEAD"}


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems: dict[str, str] = {}  # one per field, the one with the highest priority
    for problem in sorted(error.errors(), key=lambda problem: _PRIORITIES.get(problem["type"], 1)):
        if problem["type"] == "json_invalid":
            return refusal(400, "the body is not JSON")
        if problem["type"] == "none_required" and problems:  # the None alternative of an optional field
            continue
        problems.setdefault(
            _field_path(problem, error.body), _MESSAGES.get(problem["type"]) or _in_json_terms(problem["msg"])
        )
    where, wrong = next(iter(problems.items()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return refusal(422, f"{where} {wrong}{more}")


def _field_path(problem: dict[str, Any], body: Any) -> str:
    """Dotted path such as ``box.3``, without the names of union members that pydantic adds to the location."""
    first, *rest = problem["loc"]
    if first != "body":
        return ".".join(map(str, rest))
    path: list[str] = []
    for number, part in enumerate(rest):
        there = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if there:
            body = body[part]
        if there or (problem["type"] == "missing" and number == len(rest) - 1):
            path.append(str(part)[:60])
    return ".".join(path) or "the body"


def _in_json_terms(message: str) -> str:
    """Pydantic's message with JSON's names of types."""
    message = message.removeprefix("Value error, ").replace("dictionary", "object").replace("Tuple", "List")
    return re.sub(r"^(Input|String|List|Value|Object) should", "should", message.replace("tuple", "list"))


async def _maskcast_error(_: Request, error: Exception) -> JSONResponse:
    status = status_of(error)
    if status != 503:
        return refusal(status, str(error))
    if not isinstance(error, BusyError):
        log.warning("http: %s", one_line(error), extra={"event": "http"})
    return busy(str(error))


def status_of(error: Exception) -> int:
    """The status of the refusal that an error of ours is."""
    match error:
        case UnknownNameError():
            return 404
        case ConflictError():
            return 409
        case ConfigError() | SnapshotError():
            return 422
    return 503


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error(
        "http: %s %s: %s", request.method, request.scope.get("path"), type(error).__name__, extra={"event": "http"}
    )
    log.debug("http:", exc_info=error)
    return refusal(500, "the daemon made a mistake here; its log names it")
