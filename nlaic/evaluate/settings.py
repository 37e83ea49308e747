"""What an evaluation is asked for, looked at before any work is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlaic.ahead import processors
from nlaic.errors import NlaicError


@dataclass(frozen=True)
class Settings:
    """An evaluation; the names are those of conf/evaluate.yaml."""

    data: Mapping[str, Any]
    out: str
    cache: str | None = None
    codecs: Sequence[str] = ("light", "jpeg", "webp")
    metrics: Sequence[str] = ("psnr", "ms_ssim")
    settings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    anchor: str = "jpeg"
    bd_below: float | None = None
    rates: Sequence[float] = (0.15, 0.25, 0.4, 0.6)
    viewer: Mapping[str, Any] = field(default_factory=lambda: {"pictures": 3, "bpp": 0.25})
    networks: str | None = None
    executor: str = "local"
    jobs: int | None = None
    force: bool = False

    @property
    def store(self) -> Path:
        """Where points are kept."""
        return (Path(self.cache).expanduser() if self.cache else self.folder / "cache").absolute()

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(self.out).expanduser().absolute()

    @property
    def root(self) -> Path:
        """Where pictures are."""
        return Path(str(self.data["root"])).expanduser().absolute()

    def check(self) -> None:
        """Look at what can be wrong before any work.

        Raises:
            NlaicError: for the first such value; it says what is allowed.
        """
        lists = {"codecs": self.codecs, "metrics": self.metrics, "rates": self.rates}
        lists |= {f"settings.{name}": values for name, values in self.settings.items()}
        for name, values in lists.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise NlaicError(f"{name} must be a list, [A,B,...], but got {values!r}")
        for name, values in lists.items():
            if name not in ("codecs", "metrics") and not all(map(_is_number, values)):
                raise NlaicError(f"{name} must be numbers, but got {list(values)!r}")
        if not all(rate > 0 for rate in self.rates):
            raise NlaicError(f"rates must be above 0, but got {list(self.rates)!r}")
        if self.jobs is not None and (not isinstance(self.jobs, int) or self.jobs < 0):
            raise NlaicError(f"jobs must be a whole number from 0, or null, but got {self.jobs!r}")
        wanted = self.viewer["pictures"]
        if isinstance(wanted, str) or not isinstance(wanted, int | Sequence):
            raise NlaicError(f"viewer.pictures must be a number or a list, but got {wanted!r}")
        if not _is_number(self.viewer["bpp"]) or self.viewer["bpp"] <= 0:
            raise NlaicError(f"viewer.bpp must be a number above 0, but got {self.viewer['bpp']!r}")

    @property
    def network_folder(self) -> str | None:
        """Where pretrained networks are, before other places."""
        return str(Path(self.networks).expanduser().absolute()) if self.networks else None

    @property
    def processes(self) -> int:
        """How many at once."""
        return processors() if self.jobs is None else int(self.jobs)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
