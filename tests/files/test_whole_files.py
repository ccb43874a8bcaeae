"""Files are written whole or not at all, whoever else writes them and whatever goes wrong."""

import errno
import os
import stat
import subprocess
import sys
import time

import pytest

from fastgd.files import whole
from fastgd.files.whole import WriteError, check_writable, write_whole

pytestmark = pytest.mark.one_build
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def names(folder):
    return sorted(os.listdir(folder))


def test_bytes_and_functions_are_written_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    assert path.read_bytes() == b"old"
    write_whole(str(path), lambda file: [file.write(b"ne"), file.write(b"w")])
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


FAULTS = {
    "open": lambda patch: patch.setattr(whole.Path, "open", full),
    "fsync": lambda patch: patch.setattr(os, "fsync", full),
    "replace": lambda patch: patch.setattr(os, "replace", full),
}


@pytest.mark.parametrize("before", [b"old", None])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, fault, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with monkeypatch.context() as patch, pytest.raises(WriteError, match=r"file cannot be written: No space left on"):
        FAULTS[fault](patch)
        write_whole(path, b"new")
    assert (path.read_bytes() if path.exists() else None) == before
    assert names(tmp_path) == ([] if before is None else ["file"])


@pytest.mark.parametrize(
    ("fault", "error"), [(full, WriteError), (interrupted, KeyboardInterrupt), (lambda file: 1 / 0, ZeroDivisionError)]
)
def test_a_function_that_fails_leaves_what_was_there(tmp_path, fault, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"half")
        fault(file)

    with pytest.raises(error):
        write_whole(path, half)
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


@posix
def test_a_directory_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch):
    fsync = os.fsync

    def some_file_systems(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", some_file_systems)
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@posix
def test_a_link_stays_a_link_and_permissions_stay(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600
    (tmp_path / "to nothing").symlink_to("fresh")
    write_whole(tmp_path / "to nothing", b"new")
    assert (tmp_path / "to nothing").is_symlink() and (tmp_path / "fresh").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", r"^\. is a directory, and a file is to be written there$"),
        ("", "is a directory"),
        ("no/file", r"^no/file cannot be written: there is no directory .*no$"),
        ("file/file", "there is no directory"),
        ("x" * 300, "x cannot be written: "),
        pytest.param("/dev/null", "^/dev/null is not an ordinary file$", marks=posix),
        pytest.param("pipe", "^pipe is not an ordinary file$", marks=posix),
    ],
)
def test_what_cannot_be_written_is_found_before(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    if path == "pipe":
        os.mkfifo(path)
    there = names(tmp_path)
    for attempt in (check_writable, lambda path: write_whole(path, b"new")):
        with pytest.raises(WriteError, match=message):
            attempt(path)
    assert names(tmp_path) == there


@posix
def test_permissions_are_asked_for(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.samefile(path, tmp_path))  # root may write anything
    with pytest.raises(WriteError, match="file cannot be written: permission denied"):
        check_writable(tmp_path / "file")
    check_writable(tmp_path / "another")


@posix
def test_a_file_that_may_not_grow_stays_as_it_was(tmp_path):
    """As on a full disk, the write itself fails, after some of it went through."""
    program = """
import resource, sys
from fastgd.files.whole import WriteError, write_whole
write_whole(sys.argv[1], b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_whole(sys.argv[1], bytes(1_000_000))
except WriteError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'file'} cannot be written: File too large\n"
    assert ((tmp_path / "file").read_bytes(), names(tmp_path)) == (b"old", ["file"])


WRITER = """
import sys
from fastgd.files.whole import write_whole
for number in range(150):
    write_whole(sys.argv[1], bytes([number]) * 100_000)
"""


def test_processes_that_write_one_file_do_each_other_no_harm(tmp_path):
    path = tmp_path / "file"
    write_whole(path, bytes(100_000))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path], stderr=subprocess.PIPE) for _ in range(4)]
    while any(writer.poll() is None for writer in writers):
        content = path.read_bytes()
        assert content == content[:1] * 100_000
    assert [(writer.wait(), writer.stderr.read()) for writer in writers] == [(0, b"")] * 4
    for writer in writers:
        writer.stderr.close()
    assert path.read_bytes() == bytes([149]) * 100_000 and names(tmp_path) == ["file"]


def test_what_killed_processes_left_is_removed_once_it_is_old(tmp_path):
    path, temporary = tmp_path / "file", []
    for _ in range(2):
        write_whole(path, lambda file: temporary.append(whole.Path(file.name)))
    old, fresh, foreign = *temporary, tmp_path / "others.part"
    for left in (old, fresh, foreign):
        left.write_bytes(b"half")
    long_ago = time.time() - 2 * whole.ABANDONED
    os.utime(old, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    whole.remove_abandoned(path)
    assert names(tmp_path) == [fresh.name, "file", "others.part"]
    whole.remove_abandoned(tmp_path / "no" / "file")
