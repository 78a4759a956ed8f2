"""Names of artifacts: what is stored can be listed and downloaded; the rest is refused, by name."""

from __future__ import annotations

import io
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.artifacts.paths import require_storable, tree
from mlflow_timescale.db.uri import DatabaseURI

NAMES = [
    "equity #1.png",
    "what?.txt",
    "100%.txt",
    "50%25 %41.txt",
    "a\tb.txt",
    "two\nlines.txt",
    "carriage\rreturn",
    ".hidden",
    "...",
    "trailing space ",
    " leading space",
    "back\\slash.txt",
    "semi;colon&co=1.txt",
    "quote'\".txt",
    "[b] [red].pkl",
    "\x1b[2J.txt",
    "曲线 é.txt",
    "ends with #",
    "is it ?",
    "both?#.txt",
    "q?a=1#b.txt",
    "~",
    "x" * 255,
]
DIRECTORIES = ["dir #1", "dir?", "dir\t1", "%41"]
STORES = ["in_database", "sha256+file", pytest.param("sha256+s3", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def shared(new_database: Any) -> Iterator[DatabaseURI]:
    """One database for all names: a test has a run of its own."""
    with new_database() as uri:
        yield uri


@pytest.fixture(params=STORES)
def run_id(
    request: pytest.FixtureRequest, shared: DatabaseURI, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A run whose artifacts go to each of our stores in turn."""
    mlflow.set_tracking_uri(shared.url)
    root = None
    if request.param == "sha256+file":
        root = f"sha256+file://{tmp_path_factory.mktemp('root')}"
    elif request.param == "sha256+s3":
        request.getfixturevalue("s3")
        root = "sha256+s3://models/root"
    return str(
        MlflowClient().create_run(mlflow.create_experiment(uuid.uuid4().hex, root)).info.run_id
    )


@pytest.fixture
def repository(run_id: str) -> Any:
    return get_artifact_repository(mlflow.get_run(run_id).info.artifact_uri)


def is_on_s3(run_id: str) -> bool:
    return "s3:" in str(mlflow.get_run(run_id).info.artifact_uri)


def listed(run_id: str, path: str | None = None) -> set[str]:
    return {item.path for item in MlflowClient().list_artifacts(run_id, path)}


def test_every_name_that_is_stored_can_be_listed_and_downloaded(
    run_id: str, tmp_path: Path, toolbox: Any
) -> None:
    source = tmp_path / "source"
    # moto's router answers 404 to a key with a line end; S3 itself takes it.
    names = [name for name in NAMES if not (is_on_s3(run_id) and set(name) & set("\n\r"))]
    for directory in ("", *DIRECTORIES):
        (source / directory).mkdir()
        for name in names[:4] if directory else names:
            (source / directory / name).write_text(f"{directory}/{name}")
    MlflowClient().log_artifacts(run_id, str(source))
    assert listed(run_id) == {*names, *DIRECTORIES}
    for path in (
        *names,
        *(f"{directory}/{name}" for directory in DIRECTORIES for name in names[:4]),
    ):
        text = (source / path).read_text()
        for downloaded in (
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path),
            MlflowClient().download_artifacts(run_id, path),
        ):
            assert Path(downloaded).read_text() == text, path
    whole = tmp_path / "whole"
    mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(whole))
    assert toolbox.contents_of(whole) == toolbox.contents_of(source)
    for directory in DIRECTORIES:
        found = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=directory)
        assert toolbox.contents_of(Path(found)) == toolbox.contents_of(source / directory)


def test_a_deleted_name_is_that_name_and_no_other(run_id: str, repository: Any) -> None:
    for name in ("aA.txt", "a%41.txt"):
        MlflowClient().log_text(run_id, name, name)
    repository.delete_artifacts("a%41.txt")
    assert listed(run_id) == {"aA.txt"}


def test_names_that_a_uri_cannot_tell_apart_are_an_error(run_id: str) -> None:
    for name in ("a\tb", "ab#"):
        MlflowClient().log_text(run_id, name, name)
    with pytest.raises(MlflowException, match="could be any of") as refused:
        mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="a\tb")
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


CLASHES = [
    ("1/model", "1/model/weights.txt"),
    ("2/model/weights.txt", "2/model"),
    ("3/a", "3/a/b/c/d"),
    ("4/a/b/c", "4/a"),
]


def test_a_path_is_a_file_or_a_directory_in_either_order(run_id: str, toolbox: Any) -> None:
    for first, second in CLASHES:
        MlflowClient().log_text(run_id, "x", first)
        with pytest.raises(MlflowException, match="already") as refused:
            MlflowClient().log_text(run_id, "y", second)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    whole = MlflowClient().download_artifacts(run_id, "")
    assert set(toolbox.contents_of(Path(whole))) == {first for first, _ in CLASHES}


def test_what_only_begins_alike_is_no_clash(run_id: str) -> None:
    for path in ("model", "model.txt", "model-2/x", "model 2/x", "mode/l"):
        MlflowClient().log_text(run_id, path, path)
    assert listed(run_id) == {"model", "model.txt", "model-2", "model 2", "mode"}


def test_a_deleted_file_makes_way_for_a_directory(run_id: str, repository: Any) -> None:
    MlflowClient().log_text(run_id, "x", "model")
    repository.delete_artifacts("model")
    MlflowClient().log_text(run_id, "y", "model/weights.txt")
    assert listed(run_id) == {"model"}


def test_a_stream_and_a_directory_of_files_meet_the_same_refusal(
    repository: Any, tmp_path: Path
) -> None:
    repository.log_artifact_from_stream(io.BytesIO(b"x"), "model")
    (tmp_path / "up" / "model").mkdir(parents=True)
    (tmp_path / "up" / "model" / "y").write_text("y")
    with pytest.raises(MlflowException, match="below the file"):
        repository.log_artifacts(str(tmp_path / "up"))
    with pytest.raises(MlflowException, match="below the file"):
        repository.log_artifact_from_stream(io.BytesIO(b"y"), "y", "model")


def test_of_writers_at_once_one_makes_the_file_or_the_others_the_directory(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    uri = f"timescaledb-artifacts:/1/{'a' * 32}/artifacts"
    start = threading.Barrier(8)

    def write(number: int) -> None:
        mine = InDatabaseRepository(uri, database)
        start.wait()
        directory, name = (None, "model") if number % 2 else ("model", f"{number}.txt")
        with suppress(MlflowException):
            mine.log_artifact_from_stream(io.BytesIO(b"x"), name, directory)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paths = [
        row[0].split("artifacts/")[1]
        for row in conn.execute("SELECT path FROM mlops.artifact_files")
    ]
    assert paths == ["model"] or (paths and all(path.startswith("model/") for path in paths))


def test_what_an_older_version_stored_as_both_is_named(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    repository = InDatabaseRepository("timescaledb-artifacts:/1/run/artifacts", database)
    repository.log_artifact_from_stream(io.BytesIO(b"x"), "model")
    conn.execute(
        "INSERT INTO mlops.artifact_files SELECT path || '/w.txt', content_id "
        "FROM mlops.artifact_files"
    )
    with pytest.raises(MlflowException, match="is both a file and a directory"):
        repository.download_artifacts("")
    for path in ("model", "model/w.txt"):
        assert Path(repository.download_artifacts(path)).read_bytes() == b"x"


def test_a_name_that_is_not_utf8_is_refused_by_name_and_nothing_is_stored(
    run_id: str, tmp_path: Path
) -> None:
    source = tmp_path / "archive"
    source.mkdir()
    (source / "b.txt").write_text("2")
    (Path(os.fsdecode(os.fsencode(source) + b"/x\xe9.txt"))).write_text("1")
    with pytest.raises(MlflowException, match=r"x\\udce9.txt' is not UTF-8") as refused:
        MlflowClient().log_artifacts(run_id, str(source))
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="not UTF-8"):
        MlflowClient().log_artifact(run_id, str(source / "x\udce9.txt"))
    assert listed(run_id) == set()


@pytest.mark.parametrize("path", ["x\udce9", "a\x00b"])
def test_text_that_no_store_takes_is_the_callers_mistake(repository: Any, path: str) -> None:
    calls = (
        lambda: repository.log_artifact(__file__, path),
        lambda: repository.log_artifacts(str(Path(__file__).parent), path),
        lambda: repository.log_artifact_from_stream(io.BytesIO(b"x"), "x", path),
        lambda: repository.log_artifact_from_stream(io.BytesIO(b"x"), path),
        lambda: repository.list_artifacts(path),
        lambda: repository.download_artifacts(path),
        lambda: repository.delete_artifacts(path),
    )
    for call in calls:
        with pytest.raises(MlflowException, match="artifact path") as refused:
            call()
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_name_that_no_disk_takes_is_refused(repository: Any) -> None:
    for path in ("x" * 256, "é" * 128, "d" * 256 + "/x", "/".join(["y" * 200] * 11)):
        directory, _, name = path.rpartition("/")
        with pytest.raises(MlflowException, match="bytes") as refused:
            repository.log_artifact_from_stream(io.BytesIO(b"x"), name, directory or None)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_the_longest_path_is_stored() -> None:
    require_storable("/".join(["y" * 199] * 10))


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41", "a\tb", "two\nlines"])
def test_the_proxy_refuses_names_that_would_arrive_changed(name: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_text("x")
    nowhere = "http://127.0.0.1:9"
    proxied = get_artifact_repository("mlflow-artifacts:/1/run/artifacts", nowhere)
    for log in (
        lambda: proxied.log_artifact(str(tmp_path / "d" / name)),
        lambda: proxied.log_artifacts(str(tmp_path / "d")),
    ):
        with pytest.raises(MlflowException, match="proxy does not transfer"):
            log()


class TestFoldersFromElsewhere:
    def test_a_link_into_itself_is_refused(self, tmp_path: Path, repository: Any) -> None:
        (tmp_path / "d" / "sub").mkdir(parents=True)
        (tmp_path / "d" / "sub" / "up").symlink_to("..")
        with pytest.raises(MlflowException, match="symbolic links without end") as refused:
            repository.log_artifacts(str(tmp_path / "d"))
        assert "sub/up" in refused.value.message
        assert repository.list_artifacts() == []

    def test_doubled_links_are_refused_before_they_multiply(self, tmp_path: Path) -> None:
        for level in range(30):
            (tmp_path / f"{level}").mkdir()
            for name in "ab":
                (tmp_path / f"{level}" / name).symlink_to(f"../{level + 1}")
        (tmp_path / "30").mkdir()
        with pytest.raises(MlflowException, match="symbolic links without end"):
            tree(tmp_path / "0", None)

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path, repository: Any) -> None:
        (tmp_path / "d").mkdir()
        os.mkfifo(tmp_path / "d" / "pipe")
        for log in (
            lambda: repository.log_artifacts(str(tmp_path / "d")),
            lambda: repository.log_artifact(str(tmp_path / "d" / "pipe")),
        ):
            with pytest.raises(MlflowException, match="pipe' is a FIFO, socket or device"):
                log()

    def test_a_link_to_nothing_is_named(self, tmp_path: Path, repository: Any) -> None:
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "gone").symlink_to("nowhere")
        with pytest.raises(MlflowException, match="gone' cannot be read"):
            repository.log_artifacts(str(tmp_path / "d"))

    def test_links_to_files_and_directories_are_followed(
        self, tmp_path: Path, run_id: str, toolbox: Any
    ) -> None:
        (tmp_path / "real" / "sub").mkdir(parents=True)
        (tmp_path / "real" / "sub" / "x").write_text("x")
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "linked").symlink_to("../real")
        (tmp_path / "d" / "file").symlink_to("../real/sub/x")
        MlflowClient().log_artifacts(run_id, str(tmp_path / "d"), "up")
        downloaded = Path(MlflowClient().download_artifacts(run_id, "up"))
        assert toolbox.contents_of(downloaded) == {"linked/sub/x": b"x", "file": b"x"}
