"""Requests to MLflow's JSON API that cost far more than they have bytes: refused in one line."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

LONGEST_FILTER = 100_000  # characters; parsing takes a second for half a million
LONGEST_QUERY = 1 << 20  # bytes of a GraphQL request, which may hold filters


def guard(app: Flask) -> None:
    """Make MLflow's Flask application refuse nested bodies and long filters with 400."""
    app.register_error_handler(RecursionError, _too_deep)
    app.before_request(_refuse_long_filter)


def _too_deep(_: Exception) -> tuple[Response, int]:
    return _refusal("the request is nested too deeply")


def _refuse_long_filter() -> tuple[Response, int] | None:
    if request.path.endswith("/graphql") and (request.content_length or 0) > LONGEST_QUERY:
        return _refusal(f"a GraphQL request has at most {LONGEST_QUERY:,} bytes")
    if request.method != "POST" or "search" not in request.path:
        return None
    body = request.get_json(force=True, silent=True)
    for name in ("filter", "filter_string"):
        text = body.get(name) if isinstance(body, dict) else None
        if isinstance(text, str) and len(text) > LONGEST_FILTER:
            return _refusal(
                f"{name} has {len(text):,} characters, at most {LONGEST_FILTER:,} are searched for"
            )
    return None


def _refusal(message: str) -> tuple[Response, int]:
    return jsonify(error_code="INVALID_PARAMETER_VALUE", message=message), 400
