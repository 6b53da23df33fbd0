"""Additions to the OpenAPI schema that the routes do not declare: security, and refusals of the middleware."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from daemon.api.auth import COOKIE, Rules

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`http.token` of the settings."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The same, for reading only."},
}
_FASTAPI_SCHEMAS = ("HTTPValidationError", "ValidationError")  # FastAPI's schemas of errors, replaced by Refusal
_DESCRIPTION = (
    "Metrics and health of a maskcast daemon, and control of its streams, prompts and objects while it runs. "
    'Every refusal is `{"error": "one line"}`.'
)


def describe(app: FastAPI, rules: Rules) -> None:
    """Add security, as ``rules`` demand it, and the refusals of the middleware to the schema of ``app``."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
            schema.setdefault("components", {})["securitySchemes"] = _SECURITY_SCHEMES
            for name in _FASTAPI_SCHEMAS:
                schema["components"]["schemas"].pop(name, None)
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    _add_middleware_responses(operation, path, method.upper(), rules)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _add_middleware_responses(operation: dict[str, Any], path: str, method: str, rules: Rules) -> None:
    if _FASTAPI_SCHEMAS[0] in str(operation["responses"].get("422")):
        del operation["responses"]["422"]  # FastAPI adds it for path parameters, but any text is valid there
    operation["responses"].setdefault("400", _refusal("The Host or Origin is not this machine's."))
    if not rules.needs_token(method, path):
        return
    operation["security"] = [{"bearer": []}] + ([{"cookie": []}] if method == "GET" else [])
    operation["responses"]["401"] = _refusal("The token is missing or wrong.")


def _refusal(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
