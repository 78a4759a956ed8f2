"""How a registered model, or a version of it, is written: every form that MLflow's users know.

momentum              a model                   models:/momentum
momentum/3            a version                 models:/momentum/3
momentum@champion     the version of an alias   models:/momentum@champion
momentum/latest       the newest version        models:/momentum/latest
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

_SCHEME = re.compile(r"^models:/*")
LATEST = "latest"  # MLflow does not allow an alias of this name
_FORMS = "write NAME/3 or NAME@champion, with or without models:/"


@dataclass(frozen=True)
class ModelReference:
    """A model, and the number or the alias of one of its versions, where the text has one.

    The alias "latest" stands for the newest version.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Read any of the forms.

        Raises
        ------
        MlflowException
            INVALID_PARAMETER_VALUE: no name, or something else than a number after the slash.

        Examples
        --------
        >>> ModelReference.parse("models:/momentum/3")
        ModelReference(name='momentum', version=3, alias=None)
        >>> ModelReference.parse("momentum@champion").alias
        'champion'
        """
        plain = _SCHEME.sub("", str(text))
        name, at, alias = plain.rpartition("@")
        if at and name and alias and "/" not in plain:
            return cls(name, alias=alias)
        name, slash, number = plain.partition("/")
        if name and number == LATEST:
            return cls(name, alias=LATEST)
        if not name or (slash and not _is_number(number)):
            raise MlflowException(
                f"{text!r} is not a model version; {_FORMS}", INVALID_PARAMETER_VALUE
            )
        return cls(name, int(number) if slash else None)

    @property
    def is_version(self) -> bool:
        """Whether it names one version, by its number or by an alias."""
        return self.version is not None or self.alias is not None


def version_reference(text: str) -> ModelReference:
    """A reference that names one version.

    Raises
    ------
    MlflowException
        INVALID_PARAMETER_VALUE: the text names a model without a version, or is none of the forms.

    Examples
    --------
    >>> version_reference("momentum/3").version
    3
    """
    reference = ModelReference.parse(text)
    if not reference.is_version:
        raise MlflowException(f"{text!r} is not a model version; {_FORMS}", INVALID_PARAMETER_VALUE)
    return reference


def model_and_alias(name: str, alias: str | None) -> tuple[str, str | None]:
    """The model and the alias of a call that accepts ("momentum", "champion") and one text.

    Raises
    ------
    MlflowException
        INVALID_PARAMETER_VALUE: `name` has another alias than `alias`, or the number of a version.

    Examples
    --------
    >>> model_and_alias("momentum@champion", None)
    ('momentum', 'champion')
    >>> model_and_alias("models:/momentum", "champion")
    ('momentum', 'champion')
    """
    reference = ModelReference.parse(name)
    if reference.version is not None or (reference.alias and alias not in (None, reference.alias)):
        raise MlflowException(
            f"{name!r} with alias {alias!r} names no alias; write NAME and ALIAS, or NAME@ALIAS",
            INVALID_PARAMETER_VALUE,
        )
    return reference.name, reference.alias or alias


def required_alias(name: str, alias: str | None) -> tuple[str, str]:
    """The same where an alias is needed.

    Raises
    ------
    MlflowException
        INVALID_PARAMETER_VALUE: as `model_and_alias`, or there is no alias.

    Examples
    --------
    >>> required_alias("momentum@champion", None)
    ('momentum', 'champion')
    """
    model, chosen = model_and_alias(name, alias)
    if chosen is None:
        raise MlflowException(
            f"{name!r} has no alias; write NAME@champion, or give the alias",
            INVALID_PARAMETER_VALUE,
        )
    return model, chosen


def version_number(name: str, version: int | str) -> ModelReference:
    """The version of a model, which a call gives as 3, "3", "momentum/3" or "momentum@challenger".

    Raises
    ------
    MlflowException
        INVALID_PARAMETER_VALUE: the version is of another model, or is none of the forms.

    Examples
    --------
    >>> version_number("momentum", "models:/momentum/3").version
    3
    """
    if _is_number(str(version)):
        return ModelReference(name, int(version))
    reference = version_reference(str(version))
    if reference.name != name:
        raise MlflowException(
            f"version {version!r} is not a version of {name}", INVALID_PARAMETER_VALUE
        )
    return reference


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
