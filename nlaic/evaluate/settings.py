"""What an evaluation is asked for, looked at before any work is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeGuard

from nlaic.ahead import processors
from nlaic.errors import NlaicError
from nlaic.executors import check_executor


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

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Those of a composed configuration.

        Raises:
            NlaicError: if a name is none of them.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise NlaicError(f"{unknown[0]} is none of the settings: {', '.join(known)}")
        return cls(**{**values, "settings": values.get("settings") or {}})

    @property
    def store(self) -> Path:
        """Where points are kept."""
        return (Path(str(self.cache)).expanduser() if self.cache else self.folder / "cache").absolute()

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(str(self.out)).expanduser().absolute()

    @property
    def root(self) -> Path:
        """Where pictures are."""
        return Path(str(self.data["root"])).expanduser().absolute()

    def check(self) -> None:
        """Look at what can be wrong before any work.

        Raises:
            NlaicError: for the first such value; it says what is allowed.
        """
        if self.out in (None, ""):
            raise NlaicError("out=... must be given")
        for name in ("data", "settings", "viewer"):
            if not isinstance(getattr(self, name), Mapping):
                raise NlaicError(f"{name} must be settings by name, but got {getattr(self, name)!r}")
        check_executor(self.executor)
        self._check_lists()
        self._check_numbers()

    def _check_lists(self) -> None:
        numbers = {"rates": self.rates, **{f"settings.{name}": values for name, values in self.settings.items()}}
        for name, values in {"codecs": self.codecs, "metrics": self.metrics, **numbers}.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise NlaicError(f"{name} must be a list, [A,B,...], but got {values!r}")
        for name, values in numbers.items():
            if not all(map(_is_number, values)):
                raise NlaicError(f"{name} must be numbers, but got {list(values)!r}")
        if not self.codecs:
            raise NlaicError("codecs must name at least one")
        if not all(isinstance(codec, str) for codec in self.codecs):
            raise NlaicError(f"codecs must be names, but got {list(self.codecs)!r}")
        if not all(rate > 0 for rate in self.rates):
            raise NlaicError(f"rates must be above 0, but got {list(self.rates)!r}")

    def _check_numbers(self) -> None:
        wholes = {"jobs": (self.jobs, 0)} | {f"data.{name}": (self.data.get(name), 1) for name in ("every", "limit")}
        for name, (value, least) in wholes.items():
            if not (value is None or (isinstance(value, int) and value >= least)):
                raise NlaicError(f"{name} must be a whole number from {least}, or null, but got {value!r}")
        if self.bd_below is not None and not (_is_number(self.bd_below) and self.bd_below > 0):
            raise NlaicError(f"bd_below must be a number above 0, or null, but got {self.bd_below!r}")
        wanted, bpp = self.viewer.get("pictures"), self.viewer.get("bpp")
        if isinstance(wanted, str) or not isinstance(wanted, int | Sequence):
            raise NlaicError(f"viewer.pictures must be a number or a list, but got {wanted!r}")
        if not (_is_number(bpp) and bpp > 0):
            raise NlaicError(f"viewer.bpp must be a number above 0, but got {bpp!r}")

    @property
    def network_folder(self) -> str | None:
        """Where pretrained networks are, before other places."""
        return str(Path(str(self.networks)).expanduser().absolute()) if self.networks else None

    @property
    def processes(self) -> int:
        """How many at once."""
        return processors() if self.jobs is None else int(self.jobs)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
