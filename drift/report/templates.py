"""The house style of all pages: Jinja2 templates with one style sheet, everything escaped.

Needs the `report` extra (Jinja2).
"""

from __future__ import annotations

import base64
from importlib import resources

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from mlflow_timescale.common.text import printable

__all__ = ["embedded", "number", "template"]


def template(name: str) -> Template:
    """A template of this room, such as "report.html"; "style.html" is the style of all."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        finalize=_visible,
    )
    environment.filters["number"] = number
    return environment.get_template(name)


def embedded(picture: bytes) -> str:
    """A PNG file as the text that a page carries in it."""
    return base64.b64encode(picture).decode("ascii")


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is nothing.

    >>> number(0.012345), number(1e-9), number(1234.0), number(None)
    ('0.01235', '1e-09', '1234', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.4g}"


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _visible(value: object) -> object:
    """What is written for a value: names with their control characters and bidi marks escaped."""
    return printable(value) if type(value) is str else value
