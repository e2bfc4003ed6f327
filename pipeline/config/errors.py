"""How a command ends badly. Each message is one line that names the key, the value and the fix."""


class BadInput(Exception):
    """The configuration, an argument or a file given is wrong: exit code 2, nothing lost."""


class Refused(BadInput):
    """The same, and another try of the same command is no better: the directory is another run's, text or weights are
    not what they were, or saves are measured to take too long."""


class RunFailed(Exception):
    """The work could not be finished: exit code 1."""
