"""How any file is written: at every moment its path holds all of the old content or all of the new."""

import contextlib
import os
import secrets
import stat
import time
from pathlib import Path

# The random part of the name of a temporary file keeps processes that write to one path apart.
PREFIX, SUFFIX = ".fastgd-", ".part"
# Seconds without a write after which a temporary file is taken to be left by a process that was killed.
ABANDONED = 3600


class WriteError(OSError):
    """A file could not be written; what was there before still is. The message is one sentence that names the file."""


def check_writable(path):
    """Raise WriteError where `write_whole` could not write; touches nothing."""
    try:
        obstacle = _obstacle(_target(path))
    except OSError as error:
        obstacle = f"cannot be written: {error.strerror or error}"
    if obstacle:
        raise WriteError(f"{path} {obstacle}")


def write_whole(path, data):
    """Write a file such that at every moment the path holds all of the old content or all of the new.

    The content goes into a temporary file in the same directory, is flushed to the disk and moved into place in one
    piece. A symbolic link stays a link: the file that it points to is replaced. The permissions of a file that is
    replaced stay.

    Parameters
    ----------
    path : path-like
    data : bytes or callable
        The content, or a function that writes it to the binary file it is given.

    Raises
    ------
    WriteError
        It could not be written; what was there before still is, and nothing else is left behind.
    """
    check_writable(path)
    target = _target(path)
    temporary = target.with_name(f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}")
    try:
        try:
            with temporary.open("xb") as file:
                with contextlib.suppress(OSError):  # there is no old file, or the file system has no permissions
                    os.chmod(temporary, target.stat().st_mode & 0o777)
                if callable(data):
                    data(file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error
    _flush_directory(target.parent)


def remove_abandoned(path):
    """Remove temporary files beside a path that killed processes left there."""
    with contextlib.suppress(OSError):
        for part in _target(path).parent.glob(f"{PREFIX}*{SUFFIX}"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()


def _target(path):
    return Path(os.path.realpath(path))


def _obstacle(target):
    """What keeps a file from being written, as the end of a sentence, or None."""
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        return "is a directory, and a file is to be written there"
    if mode is not None and not stat.S_ISREG(mode):  # a device, say, which the new file would replace
        return "is not an ordinary file"
    if not target.parent.is_dir():
        return f"cannot be written: there is no directory {target.parent}"
    if not os.access(target.parent, os.W_OK) or (mode is not None and not os.access(target, os.W_OK)):
        return "cannot be written: permission denied"
    return None


def _flush_directory(folder):
    """Flush the new name to the disk, without which a power failure might bring back the old file, as whole."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
