"""What filters need beside the base install."""

from nlaic.engine import INSTALL, is_installed
from nlaic.errors import NlaicError


def need_torch() -> None:
    """Raises NlaicError, with what to install, where torch is not there: it alone runs filters."""
    if not is_installed("torch"):
        raise NlaicError(f"filters are run by torch, which is not installed: {INSTALL['torch']}")
