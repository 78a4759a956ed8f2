"""Secrets in URIs: where they stand, and texts without them."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

MASK = "***"
_PLACEHOLDER = ":password@"  # stands in help texts, which are printed as they are
# Parameters of libpq, of other drivers, of object stores, and of signed URLs. `passfile` and
# `sslkey` are paths.
_NAMES = re.compile(
    r"password|passwd|passphrase|^pass$|pwd|secret|token|credential|signature|^sig$"
    r"|(access|account|api|auth|client|encryption|private|server|shared|storage)_?key$",
    re.IGNORECASE,
)
# A password may hold anything, also what should be percent-encoded: it ends at the last "@".
# A number before a "/" is a port.
_USERINFO = re.compile(r"(://[^\s:/?#@'\"]*(?::|%3A))(?!\d+/)([^\s'\"]+)(?=@)", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<=[?&;#])([^\s=?&;#'\"]+)=([^\s&;#'\"]*)")
_KEYWORD = re.compile(
    r"(\b[\w-]*(?:password|passwd|passphrase|secret|token|pwd)\s*=\s*)"
    r"('(?:[^'\\]|\\.)*'|[^\s'\"&;]+)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether a parameter of a URI holds a secret.

    >>> [is_secret(name) for name in ("sslpassword", "X-Amz-Signature", "passfile", "sslmode")]
    [True, True, False, False]
    """
    return _NAMES.search(name) is not None


def has_secret(text: str) -> bool:
    """Whether a URI holds a secret, in any of its parts and encodings.

    >>> has_secret("postgresql://ann@db.example/trading?passfile=/etc/pgpass")
    False
    >>> has_secret("postgresql://db.example/trading?user=ann&pass%77ord=s3cret")
    True
    """
    return _PLACEHOLDER in text or without_secrets(text) != text


def without_secrets(text: str) -> str:
    """A text with `***` for the secrets of all URIs and connection strings in it.

    >>> without_secrets("cannot open s3://key:s3cret@bucket/a?token=t0p&region=eu: timed out")
    'cannot open s3://key:***@bucket/a?token=***&region=eu: timed out'
    >>> without_secrets("invalid connection: host=db user=ann password='s3 cret'")
    'invalid connection: host=db user=ann password=***'
    """
    text = _USERINFO.sub(_masked_user, text)
    text = _PARAMETER.sub(_masked_parameter, text)
    return _KEYWORD.sub(_masked_value, text)


def _masked_user(match: re.Match[str]) -> str:
    return match[0] if match[2] in (MASK, "password") else match[1] + MASK


def _masked_parameter(match: re.Match[str]) -> str:
    name, value = match[1], unquote_plus(match[2])
    if not value or value == MASK:
        return match[0]
    if is_secret(unquote_plus(name)):
        return f"{name}={MASK}"
    # Options of a server, an ODBC connection string, or another URI, percent-encoded.
    return match[0] if without_secrets(value) == value else f"{name}={MASK}"


def _masked_value(match: re.Match[str]) -> str:
    return match[0] if match[2].startswith(MASK) else match[1] + MASK


def without(text: str, secrets: set[str]) -> str:
    """A text without these secrets, where they stand as words.

    >>> without('role "s3cret" does not exist', {"s3cret"})
    'role "***" does not exist'
    """
    forms = {form for secret in secrets for form in (secret, unquote(secret))}
    for form in sorted(forms, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
    return text
