"""The family of errors. Every message says what, where, what is allowed and what was got."""


class NlaicError(Exception):
    """Something a user can mend: a wrong argument, a missing file, a target that cannot be met."""


class FormatError(NlaicError):
    """A .nlaic file that is damaged, of another model or of a version that is not known."""
