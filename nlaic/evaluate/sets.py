"""FID and the like: distances between all originals and all decoded pictures, at a few settings of each codec."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlaic.evaluate import fid
from nlaic.evaluate.journal import Journal
from nlaic.evaluate.points import FeatureTask, Picture, Point, PointTask, features
from nlaic.evaluate.results import mean

GIGA_MACS = 5.5  # of Inception a patch, about, to either of its features
GIGA_MACS_A_SECOND = 25.0  # of a processor, about


@dataclass(frozen=True)
class Distances:
    """Computes one metric between sets.

    Attributes:
        metric: which.
        pictures: of the set.
        store: where features are kept.
        networks: folder of the pretrained networks.
        journal: runs the tasks.
    """

    metric: fid.SetMetric
    pictures: Sequence[Picture]
    store: Path
    networks: str | None
    journal: Journal

    def add_to(self, every: Sequence[dict[str, Any]], points: Sequence[Point], rates: Sequence[float]) -> None:
        """Put the value into `set_metrics` of each codec's rows that are nearest to the rates."""
        name, smallest = self.metric.name, self.metric.smallest
        fitting = {p.name: p for p in self.pictures if min(p.width, p.height) >= smallest}
        if not fitting:
            return self.journal.skip("metric", name, f"no picture has sides from {smallest}")
        fits = [point for point in points if point.picture in fitting]
        rows = nearest_rows(every, rates, lambda row: mean(p.bpp for p in fits if _is_of(p, row)))
        originals = {picture.name: self._task(picture) for picture in fitting.values()}
        groups: dict[tuple[str, float], list[FeatureTask]] = defaultdict(list)
        for p in fits:
            groups[p.codec, p.setting].append(self._task(fitting[p.picture], p))
        wanted = [groups[row["codec"], row["setting"]] for row in rows]
        patches = self._announce(fitting.values(), 1 + len(rows))
        if patches < 2:
            return self.journal.skip("metric", name, f"{patches} sample: at least 2 are needed")
        if patches < fid.FEW:
            self.journal.warn(f"{name} from {patches} samples: below {fid.FEW} the estimate is biased")
        tasks = [*originals.values(), *(task for some in wanted for task in some)]
        files = dict(self.journal.run(name, features, tasks))
        failed = {task.picture.name for task in tasks if task not in files}  # left out everywhere
        for row, some in zip(rows, wanted, strict=True):
            kept = [task for task in some if task.picture.name not in failed]
            row["set_metrics"][name] = self._value([(files[originals[t.picture.name]], files[t]) for t in kept])
            if len(kept) < row["pictures"]:
                own = {task.picture.name for task in kept}
                row["bpp_of"][name] = mean(p.bpp for p in fits if _is_of(p, row) and p.picture in own)
        return None

    def _value(self, files: Sequence[tuple[Path, Path]]) -> float | None:
        if not files:
            return None
        originals = (np.load(original) for original, _ in files)
        decoded = (np.load(decoded) for _, decoded in files)
        value = fid.kid(originals, decoded) if self.metric.kernel else fid.fid(originals, decoded, self.metric.dims)
        return value if np.isfinite(value) else None

    def _task(self, picture: Picture, point: Point | None = None) -> FeatureTask:
        task = PointTask(picture, point.codec, point.setting, (), self.store, self.networks) if point else None
        return FeatureTask(picture, self.metric.name, self.store, self.networks, task, point.decoded if point else "")

    def _announce(self, pictures: Iterable[Picture], sets: int) -> int:
        """Say how long it will take, about; gives the number of patches of a set."""
        metric = self.metric
        patches = sum(len(metric.patches(np.empty((p.height, p.width, 3), np.uint8))) for p in pictures)
        seconds = patches * sets * GIGA_MACS / GIGA_MACS_A_SECOND / max(self.journal.processes, 1)
        self.journal.watch.note(
            f"{metric.name}: {sets} sets of {patches} patches, about {seconds / 60:.0f} min where none is done yet"
        )
        return patches


def _is_of(point: Point, row: dict[str, Any]) -> bool:
    return (point.codec, point.setting) == (row["codec"], row["setting"])


def nearest_rows(
    rows: Sequence[dict[str, Any]], rates: Sequence[float], rate_of: Callable[[dict[str, Any]], float | None]
) -> list[dict[str, Any]]:
    """Of each codec the row nearest to each rate, each once; none for a rate that it does not come near."""
    chosen: dict[int, dict[str, Any]] = {}
    own = {id(row): rate_of(row) for row in rows}
    for codec in dict.fromkeys(row["codec"] for row in rows):
        for rate in rates:
            apart = [
                (abs(np.log(got / rate)), number)
                for number, row in enumerate(rows)
                if row["codec"] == codec and (got := own[id(row)])
            ]
            if apart and min(apart)[0] < np.log(1.5):
                row = rows[min(apart)[1]]
                chosen[id(row)] = row
    return list(chosen.values())
