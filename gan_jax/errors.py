"""The one exception for what a user can get wrong."""


class UserError(Exception):
    """A problem the user can fix: one line saying what, where, what is accepted, what to do.

    `launch.py` prints the message alone, without a traceback, and exits with a non-zero status.
    """
