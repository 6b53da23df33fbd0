"""Every refusal in one shape, ``{"error": "one line"}``. What a client sent is not repeated: it may hold a password."""

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import compile_path

from daemon.errors import BusyError, UnknownNameError
from stages.errors import ConfigError, MaskcastError, one_line

log = logging.getLogger(__name__)

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "finite_number": "should be a finite number",
    "string_unicode": "should be text that can be written as UTF-8",
    "string_pattern_mismatch": "is not one of COCO's run-length strings",
    "model_attributes_type": "should be an object, sent with Content-Type: application/json",
}


# a misspelt field before what it leaves missing, what is wrong with a value before which kinds it could have had
_RANKS = {"extra_forbidden": 0, "string_type": 2, "list_type": 2, "none_required": 3}


class TakenError(ConfigError):
    """It cannot be now: something is in its way, or not there yet."""


def refusal(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer, whatever ``error`` holds on one line."""
    line = " ".join(error.encode("utf-8", "replace").decode().split())
    return JSONResponse({"error": line}, status, headers)


def busy(error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """503: the same request may well do a second later."""
    return refusal(503, error, {"Retry-After": "1", **(headers or {})})


def handle_errors(app: FastAPI) -> None:
    """Answer every error of ``app`` in that shape."""
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(MaskcastError, _of_ours)
    app.add_exception_handler(Exception, _of_nobody)


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    match error.status_code:
        case 400:  # FastAPI's: nested too deep, a number too long
            return refusal(400, "the body is not JSON that can be read")
        case 404:
            return refusal(404, f"nothing is at {path}; /openapi.json lists what there is")
        case 405:
            there = ", ".join(sorted(_methods(request)))
            return refusal(405, f"{path} takes {there}, not {request.method[:20]}", {"Allow": there})
    return refusal(error.status_code, str(error.detail))


def _methods(request: Request) -> set[str]:
    """What the path takes; Starlette names the first route's methods alone."""
    found: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        if compile_path(template)[0].match(request.url.path):
            found |= {method.upper() for method in operations}
    return found | {"HEAD"} if "GET" in found else found or {"GET", "HEAD"}


async def _of_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems: dict[str, str] = {}  # one for each field; where it may be several things, one of the others fits better
    for problem in sorted(error.errors(), key=lambda problem: _RANKS.get(problem["type"], 1)):
        if problem["type"] == "json_invalid":
            return refusal(400, "the body is not JSON")
        if problem["type"] == "none_required" and problems:  # what may be left out
            continue
        problems.setdefault(_field(problem, error.body), _WORDS.get(problem["type"]) or _plain(problem["msg"]))
    where, wrong = next(iter(problems.items()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return refusal(422, f"{where} {wrong}{more}")


def _field(problem: dict[str, Any], body: Any) -> str:
    """``box.3``: only what the request has or lacks, not the names of the alternatives that pydantic tried."""
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


def _plain(message: str) -> str:
    """Pydantic's message in the words of JSON."""
    message = message.removeprefix("Value error, ").replace("dictionary", "object").replace("Tuple", "List")
    return re.sub(r"^(Input|String|List|Value|Object) should", "should", message.replace("tuple", "list"))


async def _of_ours(_: Request, error: Exception) -> JSONResponse:
    match error:
        case BusyError():
            return busy(str(error))
        case UnknownNameError():
            return refusal(404, str(error))
        case TakenError():
            return refusal(409, str(error))
        case ConfigError():
            return refusal(422, str(error))
    log.warning("http: %s", one_line(error))
    return busy(str(error))


async def _of_nobody(request: Request, error: Exception) -> JSONResponse:
    log.error("http: %s %s: %s", request.method, request.scope.get("path"), type(error).__name__)
    log.debug("http:", exc_info=error)
    return refusal(500, "the daemon made a mistake here; its log names it")
