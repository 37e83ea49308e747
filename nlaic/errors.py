"""The family of errors. Every message says what, where, what is allowed and what was got."""

from collections.abc import Iterator
from contextlib import contextmanager


class NlaicError(Exception):
    """Something a user can mend: a wrong argument, a missing file, a target that cannot be met."""


class FormatError(NlaicError):
    """A .nlaic file that is damaged, of another model or of a version that is not known."""


# Parts of what ONNX Runtime, OpenVINO and torch, on the processor and on a GPU, say where there is no memory.
NO_MEMORY = ("Arena", "bad_alloc", "allocate memory", "Failed to allocate", "not enough memory", "out of memory")


def lacks_memory(error: Exception) -> bool:
    """Whether an error is a lack of memory; the libraries that run networks have no class for it."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Tell a lack of memory for a picture as an NlaicError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise NlaicError("not enough memory for this picture") from error
