"""What /openapi.json says beyond what the routes say themselves: who needs the token, and what guards may answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from daemon.api.auth import COOKIE, Rules

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`http.token` of the settings."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The same, for reading only."},
}
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")  # its shape of errors, in place of which we have ours
_ABOUT = (
    "Metrics and health of a maskcast daemon, and control of its streams, prompts and objects while it runs. "
    'Every refusal is `{"error": "one line"}`.'
)


def describe(app: FastAPI, rules: Rules) -> None:
    """Have ``app`` describe itself, and the ``rules`` that it is served under."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
            schema.setdefault("components", {})["securitySchemes"] = _SCHEMES
            for name in _FASTAPIS_OWN:
                schema["components"]["schemas"].pop(name, None)
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    _add_guards(operation, path, method.upper(), rules)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _add_guards(operation: dict[str, Any], path: str, method: str, rules: Rules) -> None:
    if _FASTAPIS_OWN[0] in str(operation["responses"].get("422")):
        del operation["responses"]["422"]  # what the path has is text, and any will do
    operation["responses"].setdefault("400", _answer("The Host or Origin is not this machine's."))
    if not rules.needs_token(method, path):
        return
    operation["security"] = [{"bearer": []}] + ([{"cookie": []}] if method == "GET" else [])
    operation["responses"]["401"] = _answer("The token is missing or wrong.")


def _answer(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
