"""The user's mistakes, told apart from bugs."""


class UserError(ValueError):
    """A mistake of the user's, or of what the user's files hold: commands print it as one line.

    Every other exception is a bug, and keeps its traceback. Constructors raise a plain ValueError
    for arguments out of range; commands turn those of option values into a UserError where they are
    made.
    """
