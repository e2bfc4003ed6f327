"""How a command ends badly. Each message is one line that names the key, the value and the fix."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)  # the errors of a full disk
# What is wrong with a path that was given, and stays so. All else that a system says of a file may be over by the next
# try: a medium that fails, a full disk, a server that is gone, too many open files.
_GIVEN = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.EFBIG),
    *(errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.ENXIO),
)


class BadInput(Exception):
    """The configuration, an argument or a file given is wrong: exit code 2, nothing lost."""


class Refused(BadInput):
    """The same, and another try of the same command is no better: the directory is another run's, text or weights are
    not what they were, or saves are measured to take too long."""


class RunFailed(Exception):
    """The work could not be finished: exit code 1."""


def stopped_by(error: OSError, what: str, fix: str) -> BadInput | RunFailed:
    """What to raise where a file cannot be had: BadInput if that lies in the path that was given, and RunFailed if it
    may be over by the next try, which a supervisor makes. `what` was to be done; `fix`, where the path is wrong."""
    what = f"{what} ({error.strerror or error})"
    if error.errno in (None, *_GIVEN):
        return BadInput(f"{what}; {fix}")
    return RunFailed(f"{what}; {'free some space' if error.errno in FULL else 'try again'}, or {fix}")
