"""The two ways a command ends badly. Each message is one line that names the key, the value and the fix."""


class BadInput(Exception):
    """The configuration, an argument or a file given is wrong: exit code 2, nothing lost."""


class Refused(BadInput):
    """The same, and no other try of the same command can go better: a file that it names holds something else than
    before, or another process is at work there."""


class RunFailed(Exception):
    """The work could not be finished: exit code 1."""
