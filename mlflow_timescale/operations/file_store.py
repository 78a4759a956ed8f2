"""A view of a file store that MLflow's converter can read without a loss.

The converter stops at, or skips, defects of real folders: metas that cannot be read, experiments
without a name or with a name that is used twice, repeated points, truncated lines, text that is not
UTF-8. It therefore reads a view of the folder: links to correct files, repaired copies of others,
and a note on each difference.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import RunStatus

from mlflow_timescale import db
from mlflow_timescale.common.text import one_line

META, TRASH, MODELS, TAGS = "meta.yaml", ".trash", "models", "tags"
# Folders of an experiment that are not runs.
RESERVED = frozenset({TAGS, "datasets", "traces", MODELS, TRASH})
OLD_ID = "mlops.imported.experiment_id"
_TEXTS = ("params", TAGS)
# The longest text of params and tags in MLflow's tables.
_LONGEST = 8000
_LONGEST_OF_EXPERIMENT = 5000
_EMPTY = re.compile(r"\[\]|\{\}")
_NESTING = re.compile(r"[&*\[{]|[-?:]\s+[-?]\s")  # any alias or deep nesting matches
_PLAIN_ID = re.compile(r"[\w-]{1,250}")  # names a folder
Note = Callable[[str], None]


class FileStoreError(db.Error):
    """The folder is not a file store of MLflow."""


class Hostile(ValueError):
    """A harmful file that MLflow did not write; it is never opened."""


@dataclass(frozen=True)
class TakenRun:
    """A run outside of the view: the number of its experiment, its folder, its repaired meta."""

    experiment: int
    folder: Path
    meta: dict[str, Any]


@dataclass
class _View:
    """The view that is built, with the ids, names and runs so far."""

    root: Path
    note: Note
    known: Mapping[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    taken: list[TakenRun] | None = None
    unread: dict[str, Path] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)

    def free_id(self, name: str) -> str:
        """The name of an experiment's folder if it is a free number, else another free number."""
        number = name if name.isdigit() and name not in self.ids else None
        while number is None or number in self.ids:
            number = str(10**18 + len(self.ids)) if number is None else str(int(number) + 1)
        self.ids.add(number)
        return number


def build_view(
    source: Path,
    root: Path,
    note: Note,
    known: Mapping[str, str] | None = None,
    taken: list[TakenRun] | None = None,
    unread: dict[str, Path] | None = None,
) -> dict[str, str]:
    """Build a view below `root`, which MLflow's converter reads in place of `source`.

    Returns the mark of each run: a hash of the names, sizes and times of its files.

    Parameters
    ----------
    source
        The folder of the experiments. Raises FileStoreError if it has none.
    root
        An empty directory.
    note
        Called with a line for everything that is left out or changed.
    known
        The marks of earlier runs; a run with the same mark is left out.
    taken
        If given, it receives the runs, and the view has only their inputs and outputs.
    unread
        If given, it receives the folders of the runs that are left out.
    """
    view = _View(root, note, known or {}, taken=taken)
    view.unread = {} if unread is None else unread
    if (source / META).exists():
        raise FileStoreError(
            f"{source} is one experiment or run of a file store: name the folder that holds all of "
            f"its experiments ({source.parent}?)"
        )
    experiments = [*folders(source), *folders(source / TRASH)]
    experiments = [path for path in experiments if path.name not in (TRASH, MODELS)]
    if not any(map(_may_have_meta, experiments)) and not (source / MODELS).is_dir():
        raise FileStoreError(f"{source} holds no experiment of a file store{_advice(source)}")
    for path in experiments:
        _add_experiment(view, path)
    for path in folders(source / MODELS):
        _add_registered_model(view, path)
    return view.marks


def _may_have_meta(path: Path) -> bool:
    try:
        return (path / META).exists()
    except OSError:  # the note on the experiment names it
        return True


def _advice(folder: Path) -> str:
    """Advice to name MLflow's default database, if it is in the folder or beside it."""
    for place in (folder, folder.parent):
        if (place / "mlflow.db").is_file():
            return f": name the database, sqlite:///{place / 'mlflow.db'}"
    return ""


def _add_experiment(view: _View, path: Path) -> None:
    meta = _meta(view, path, "experiment")
    if meta is None:
        return
    number = view.free_id(path.name)
    name = meta.get("name")
    if not isinstance(name, str) or not name.strip():
        name = f"experiment_{path.name}"
        view.note(f"{path}: the experiment has no name, and is called {name!r}")
    if name in view.names:
        name = f"{name} ({path.name})"
        view.note(f"{path}: another experiment has its name, and it is called {name!r}")
    view.names.add(name)
    target = view.root / number
    changed = {"name": name, "artifact_location": meta.get("artifact_location") or path.as_uri()}
    _write_meta(target, meta | changed)
    try:
        _copy_texts(view, path / TAGS, target / TAGS, _LONGEST_OF_EXPERIMENT)
    except OSError as exc:
        view.note(f"{path / TAGS}: left out: {exc.filename}: {exc.strerror}")
    if number != path.name:
        (target / TAGS).mkdir(exist_ok=True)
        (target / TAGS / OLD_ID).write_text(path.name, encoding="utf-8")
    for name in ("datasets", "traces", MODELS):
        _link_folder(view, path / name, target / name)
    for run in folders(path):
        if run.name not in RESERVED:
            _add_run(view, run, target)


def _add_run(view: _View, path: Path, experiment: Path) -> None:
    mark = _mark(path)
    if view.known.get(path.name) == mark:
        view.marks[path.name] = mark
        view.unread[path.name] = path
        view.runs.add(path.name)
        return
    meta = _meta(view, path, "run")
    if meta is None:
        return
    run_id = meta.get("run_uuid") or meta.get("run_id") or path.name
    if not isinstance(run_id, str) or not _PLAIN_ID.fullmatch(run_id):
        view.note(f"{path}: left out: {str(run_id)[:80]!r} is no id of a run")
        return
    if run_id in view.runs:
        view.note(f"{path}: left out: another run has the id {run_id}")
        return
    try:
        if isinstance(meta.get("status"), int):
            RunStatus.to_string(meta["status"])
    except Exception:
        view.note(f"{path}: left out: {meta['status']} is no status of a run")
        return
    view.runs.add(run_id)
    view.marks[run_id] = mark
    target = experiment / run_id
    location = _place_of_artifacts(meta.get("artifact_uri"), path / "artifacts")
    meta |= {"run_uuid": run_id, "artifact_uri": location}
    if view.taken is not None:
        view.taken.append(TakenRun(int(experiment.name), path, meta))
    else:
        _write_meta(target, meta)
        for folder in _TEXTS:
            _copy_texts(view, path / folder, target / folder, _LONGEST)
        _copy_metrics(view, path / "metrics", target / "metrics")
    for folder in ("inputs", "outputs"):
        _link_folder(view, path / folder, target / folder)


def _mark(run: Path) -> str:
    """A hash of the names, sizes and times of a run's files without artifacts."""
    digest = hashlib.sha256()
    for folder, below, files in os.walk(run):
        if folder == str(run) and "artifacts" in below:
            below.remove("artifacts")
        below.sort()
        for name in sorted(files):
            status = Path(folder, name).lstat()
            digest.update(f"{folder}/{name}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _place_of_artifacts(location: Any, folder: Path) -> str:
    """The location of the artifacts of a run, or the folder inside it if the run was moved."""
    if not isinstance(location, str) or not location:
        return folder.as_uri()
    if "://" in location.removeprefix("file://"):
        return location
    is_there = Path(location.removeprefix("file://")).is_dir()
    return folder.as_uri() if folder.is_dir() and not is_there else location


def _add_registered_model(view: _View, path: Path) -> None:
    if _meta(view, path, "registered model") is None:
        return
    target = view.root / MODELS / path.name
    target.mkdir(parents=True)
    _link(path / META, target / META)
    for child in folders(path):
        if child.name.startswith("version-"):
            meta = _meta(view, child, "model version")
            if meta is None:
                continue
            if not str(meta.get("version", "")).isdigit():
                view.note(f"{child}: left out: the model version has no number")
                continue
            # The converter reads its tags, and follows links.
            if strays := [p for p in child.rglob("*") if not (p.is_dir() or _is_plain(p, child))]:
                view.note(f"{child}: left out: {strays[0].name!r} is no file of its folder")
                continue
        _link(child, target / child.name)
    for alias in _files(path / "aliases", view.note):
        if not alias.read_text(encoding="utf-8", errors="replace").strip().isdigit():
            view.note(f"{alias}: left out: the alias names no version")


def _meta(view: _View, path: Path, kind: str) -> dict[str, Any] | None:
    """The meta of an entity; None, with a note, if it cannot be read."""
    try:
        meta = read_meta(path / META, path)
    except (OSError, ValueError, yaml.YAMLError) as exc:
        reason = one_line(exc)
        below = _number_of_folders(path) if kind == "experiment" else 0
        more = f", with {below} folders below it" if below else ""
        view.note(f"{path}: left out: the {kind} has no readable {META}{more}: {reason}")
        return None
    if not isinstance(meta, dict):
        view.note(f"{path}: left out: the {META} of the {kind} is empty")
        return None
    return meta


def _number_of_folders(path: Path) -> int:
    try:
        return len(folders(path))
    except OSError:
        return 0


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without aliases: nine lines of aliases can expand to a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise Hostile("it has an alias, which MLflow does not write")
        return super().compose_node(parent, index)


def load_meta(text: str) -> Any:
    """The content of a YAML file of MLflow's file store.

    Raises YAMLError for other text, Hostile for aliases and for deep nesting.

    >>> load_meta("name: momentum")
    {'name': 'momentum'}
    """
    try:
        # libyaml is ten times as fast, but limits neither aliases nor nesting.
        is_flat = not _NESTING.search(_EMPTY.sub("", text))
        loader = getattr(yaml, "CSafeLoader", _PlainLoader) if is_flat else _PlainLoader
        return yaml.load(text, Loader=loader)  # nosec B506  # a SafeLoader
    except RecursionError as exc:
        raise Hostile("it is nested too deeply") from exc


def read_meta(path: Path, folder: Path) -> Any:
    """The content of a YAML file below a folder.

    Raises OSError, ValueError or YAMLError if it cannot be read, Hostile if it is a link elsewhere.
    """
    if not _is_plain(path, folder):
        raise Hostile("it is no file of its folder")
    return load_meta(path.read_text(encoding="utf-8"))


def _is_plain(path: Path, folder: Path) -> bool:
    """Whether a path is a regular file inside a folder, neither a pipe nor a link out of it."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _link_folder(view: _View, folder: Path, target: Path) -> None:
    """Link a folder, unless it has a file that the converter must not read."""
    try:
        _report_broken_yaml(view, folder)
    except Hostile as exc:
        view.note(f"{folder}: left out: {exc}")
    else:
        _link(folder, target)


def _report_broken_yaml(view: _View, folder: Path) -> None:
    """Note YAML files that the converter skips silently. Raises Hostile for harmful ones."""
    for path in sorted(folder.rglob("*.yaml")) if folder.is_dir() else ():
        if "artifacts" in path.relative_to(folder).parts:
            continue
        try:
            content = read_meta(path, folder)
        except Hostile as exc:
            raise Hostile(f"{path.name}: {exc}") from exc
        except (OSError, ValueError, yaml.YAMLError) as exc:
            view.note(f"{path}: left out: {one_line(exc)}")
        else:
            if not isinstance(content, dict):
                view.note(f"{path}: left out: it is empty")


def read_texts(
    folder: Path, note: Note, longest: int = _LONGEST
) -> Iterator[tuple[Path, str, bool]]:
    """The files of params or tags, each with its text and whether the text was cut.

    Raises OSError for a file that cannot be read.
    """
    for path in _files(folder, note, deep=True):
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as exc:
            note(f"{path}: left out: {exc}")
            continue
        if "\0" in text:
            note(f"{path}: left out: PostgreSQL has no text with NUL")
            continue
        if is_long := len(text) > longest:
            note(f"{path}: cut to {longest:,} of {len(text):,} characters, MLflow's limit")
        yield path, text[:longest], is_long


def _copy_texts(view: _View, folder: Path, target: Path, longest: int) -> None:
    """Copy params or tags; names with slashes are in folders."""
    for path, text, is_cut in read_texts(folder, view.note, longest):
        place = target / path.relative_to(folder)
        if is_cut:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        else:
            _link(path, place)


def read_points(folder: Path, note: Note) -> Iterator[tuple[Path, list[str], bool]]:
    """The files of metrics, each with its lines and whether some lines were left out.

    Repeated points are left out. Raises OSError for a file that cannot be read.
    """
    for path in _files(folder, note, deep=True):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        points: dict[tuple[int, float | str, int], str] = {}
        for number, line in enumerate(lines, 1):
            try:
                points.setdefault(_point(line), line)
            except (ValueError, OverflowError) as exc:
                note(f"{path}: line {number} left out: {exc}")
        yield path, [*points.values()], len(points) < len(lines)


def _copy_metrics(view: _View, folder: Path, target: Path) -> None:
    for path, lines, is_repaired in read_points(folder, view.note):
        place = target / path.relative_to(folder)
        if is_repaired:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("\n".join(lines), encoding="utf-8")
        else:
            _link(path, place)


def _point(line: str) -> tuple[int, float | str, int]:
    """The time, value and step of a line; the name and digest of a dataset may follow them.

    >>> _point("1700000000000 0.25 7 prices 2981c147")
    (1700000000000, 0.25, 7)
    """
    parts = line.strip().split(" ")
    if len(parts) < 2:
        raise ValueError(f"{line!r} is no point")
    value = float(parts[1])
    time, step = int(parts[0]), int(parts[2]) if len(parts) > 2 else 0
    for number in (time, step):
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"{number} does not fit into 64 bits")
    return time, value if value == value else "NaN", step  # a NaN equals nothing


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(meta, Dumper=dumper, allow_unicode=True)
    (folder / META).write_text(text, encoding="utf-8")


def _link(path: Path, place: Path) -> None:
    if not path.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    except OSError:  # Windows, where a user may lack the right to create links
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, place)


def folders(path: Path) -> list[Path]:
    """The folders of a folder, sorted; an empty list for another path."""
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _below(path: Path) -> Iterator[Path]:
    """All files and links below a folder. Raises OSError for an unreadable one, unlike `rglob`."""

    def stop(exc: OSError) -> None:
        raise exc

    for folder, below, names in os.walk(path, onerror=stop):
        inside = [Path(folder, name) for name in [*names, *below]]
        yield from (path for path in inside if path.is_symlink() or not path.is_dir())


def _files(path: Path, note: Note, *, deep: bool = False) -> Iterator[Path]:
    if path.is_dir():
        inside = _below(path) if deep else path.iterdir()
        root = path.parent.resolve()
        for file in sorted(inside):
            if _is_plain(file, root):
                yield file
            elif file.is_symlink() or not file.is_dir():
                note(f"{file}: left out: it is no regular file, or a link out of its folder")
