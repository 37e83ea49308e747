"""Pictures for training: any folder tree, decoded once into one memory map, cropped at random.

Every crop is drawn from (seed, number of the sample) alone, so a run that goes on sees what it would have seen.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import IterableDataset, get_worker_info

from nlaic.arguments import check_least
from nlaic.errors import NlaicError
from nlaic.picture import INPUT_SUFFIXES, read_picture
from nlaic.whole import replacing, write_whole

AHEAD = 8  # pictures that a process has decoded and nobody has looked at
GRIDS, LOGS = "grids", "logs"  # folders of a run
READING = 3  # of pictures, in the names of caches: 3 as `nlaic.picture` reads them, and refuses them

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures in one memory map.

    Attributes:
        pixels: all of them in a row, uint8.
        shapes: (offset, height, width) of each, RGB interleaved.
        unreadable: files that could not be decoded.
        channels: samples a pixel; 6 where a coded picture and its original lie together (`nlaic.train.coded`).
        levels: by offset, at which a picture was coded; empty where none was.
    """

    pixels: np.ndarray
    shapes: list[tuple[int, int, int]]
    unreadable: list[str]
    channels: int = 3
    levels: Mapping[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: int) -> np.ndarray:
        """One picture, [H, W, channels] uint8, not copied."""
        offset, height, width = self.shapes[number]
        return self.pixels[offset : offset + self.channels * height * width].reshape(height, width, self.channels)

    def at_least(self, side: int) -> "Pictures":
        """Those that a crop of `side` x `side` pixels can be taken from.

        Raises:
            NlaicError: if there is none.
        """
        large = [shape for shape in self.shapes if min(shape[1:]) >= side]
        if not large:
            raise NlaicError(f"data: no picture has both sides of at least {side} pixels (sampling.patch)")
        return replace(self, shapes=large)

    def split(self, every: int) -> tuple["Pictures", "Pictures"]:
        """Part the pictures: those to train on, and every `every`-th, held out (0: none)."""
        held = self.shapes[::every] if every else []
        kept = [s for i, s in enumerate(self.shapes) if not every or i % every]
        return replace(self, shapes=kept), replace(self, shapes=held, unreadable=[])


def load_pictures(root: Path, cache: Path, workers: int = 2) -> Pictures:
    """Decode a folder tree into a memory map under `cache`, or reuse the one that is there.

    Args:
        root: the folder.
        cache: where the memory map lies.
        workers: processes that decode.

    Raises:
        NlaicError: if the folder is missing or holds no picture.
    """
    if not root.is_dir():
        raise NlaicError(f"data: {root} is not a folder")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in INPUT_SUFFIXES)
    files = [p for p in found if p.is_file() and not _is_drawn(p)]
    if not files:
        raise NlaicError(f"data: no picture in {root} (looked for {', '.join(sorted(INPUT_SUFFIXES))})")
    stats = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    key = hashlib.sha256(json.dumps([READING, str(root.resolve()), stats]).encode()).hexdigest()[:16]
    pixels, index = cache / f"{key}.u8", cache / f"{key}.json"
    if not (index.exists() and pixels.exists()):
        _decode(files, pixels, index, workers)
    shapes, unreadable = json.loads(index.read_text())
    if not shapes:
        raise NlaicError(f"data: none of the {len(files)} pictures in {root} can be read")
    unreadable += [str(p) for p in found if not p.is_file()]  # links that lead nowhere
    return Pictures(np.memmap(pixels, np.uint8, "c"), [tuple(s) for s in shapes], unreadable)


def _is_drawn(file: Path) -> bool:
    """Whether a picture is what a run of training has drawn: they stand beside its logs, which may be in the tree."""
    return file.parent.name == GRIDS and (file.parent.parent / LOGS).is_dir()


def in_turn(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """The results of `work` in the order of the items, by processes that are at most `AHEAD` items each ahead."""
    with ProcessPoolExecutor(workers) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) == AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _decode(files: list[Path], pixels: Path, index: Path, workers: int) -> None:
    pixels.parent.mkdir(parents=True, exist_ok=True)
    shapes: list[tuple[int, int, int]] = []
    unreadable: list[str] = []
    offset = 0
    with replacing(pixels) as part, part.open("wb") as out:
        decoded = in_turn(_decode_one, files, workers)
        for file, picture in track(zip(files, decoded, strict=True), "decoding pictures", len(files), transient=True):
            if picture is None:
                unreadable.append(str(file))
                continue
            shapes.append((offset, picture.shape[0], picture.shape[1]))
            offset += out.write(picture.tobytes())
    write_whole(index, json.dumps([shapes, unreadable]).encode())


def _decode_one(file: Path) -> np.ndarray | None:
    try:
        return np.asarray(read_picture(file))
    except (NlaicError, OSError):
        return None


CROPS = ("random", "grid")


@dataclass(frozen=True)
class Augmentation:
    """How a crop is taken from a picture.

    Attributes:
        crop: `random`, or `grid` (at multiples of its side).
        flip: mirror half of the crops.
        rotate: by 0, 90, 180 or 270 degrees.
        reduce: share of crops that come from the picture reduced, down to a half of its size.
        align: random crops begin at multiples of so many pixels.
    """

    crop: str = "random"
    flip: bool = True
    rotate: bool = False
    reduce: float = 0.0
    align: int = 1

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise NlaicError(f"data.crop must be one of {', '.join(CROPS)}, but got {self.crop!r}")
        if not 0 <= self.reduce <= 1:
            raise NlaicError(f"data.reduce must be 0..1, but got {self.reduce}")
        check_least(self, "data", 1, "align")

    def __call__(self, picture: Tensor, patch: int, rng: np.random.Generator) -> Tensor:
        """A crop [patch, patch, C] of a picture [H, W, C] of uint8, both sides at least `patch`."""
        side = patch
        if self.reduce and rng.random() < self.reduce:
            side = int(rng.integers(patch, min(2 * patch, *picture.shape[:2]) + 1))
        unit = side if self.crop == "grid" else self.align
        top, left = (int(rng.integers((n - side) // unit + 1)) * unit for n in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        if side != patch:
            planes = crop.permute(2, 0, 1)[None].float()
            reduced = F.interpolate(planes, (patch, patch), mode="bicubic", antialias=True)
            crop = reduced[0].round_().clamp_(0, 255).byte().permute(1, 2, 0)
        if self.flip and rng.random() < 0.5:
            crop = crop.flip(1)
        return crop.rot90(int(rng.integers(4))) if self.rotate else crop


@dataclass(frozen=True)
class Batch:
    """What a step works on.

    Attributes:
        x: pictures [B, 3, P, P] in 0..1; [B, 6, P, P] where coded pictures and their originals lie together.
        position: quality of each between the anchors, [B].
        noise: see `HyperpriorVAE.forward`; drawn for each sample by its own number.
    """

    x: Tensor
    position: Tensor
    noise: Callable[[Tensor], Tensor]


class SampleNoise:
    """Uniform noise in -1/2..1/2 that depends on the seed and each sample's number, not on who else is in the batch."""

    def __init__(self, seed: int, numbers: Tensor, device: torch.device) -> None:
        seeds = [hash((seed, number)) % 2**63 for number in numbers.tolist()]
        self.generators = [torch.Generator(device).manual_seed(value) for value in seeds]

    def __call__(self, like: Tensor) -> Tensor:
        """[B, ...], a row for each sample."""
        rows = [torch.rand(like.shape[1:], generator=g, device=like.device) for g in self.generators]
        return torch.stack(rows) - 0.5


class Crops(IterableDataset):
    """An endless stream of batches: crops [B, C, P, P] uint8, their places between the qualities, their numbers.

    Args:
        pictures: where from, those of each folder with its weight; any with a side below `patch` is left out.
        patch: side of a crop in pixels.
        span: the position is uniform in 0..span; that of a coded picture is its level.
        seed: of every draw.
        batches: numbers of the samples of each batch, in their order; workers of a loader take them in turn.
        augmentation: how a crop is taken.
        device: where the pictures are kept, and crops taken.
    """

    def __init__(
        self,
        pictures: Sequence[tuple[Pictures, float]],
        patch: int,
        span: float,
        seed: int,
        batches: Iterable[Sequence[int]] = (),
        augmentation: Augmentation | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.patch, self.span, self.seed, self.batches = patch, span, seed, batches
        self.augmentation = augmentation or Augmentation()
        self.folders = []
        for one, weight in pictures:
            self.folders.append((one, torch.from_numpy(one.pixels).to(device), one.at_least(patch).shapes, weight))
        self.until = np.cumsum([weight for *_, weight in self.folders])

    def sample(self, number: int) -> tuple[Tensor, float]:
        """Crop [C, P, P] and position of sample `number`; the same whenever it is asked for."""
        rng = np.random.default_rng((self.seed, number))
        which = int(np.searchsorted(self.until, rng.random() * self.until[-1], "right"))
        one, pixels, large, _ = self.folders[which]
        offset, height, width = large[rng.integers(len(large))]
        picture = pixels[offset : offset + one.channels * height * width].view(height, width, one.channels)
        crop = self.augmentation(picture, self.patch, rng)
        return crop.permute(2, 0, 1), one.levels.get(offset, rng.random() * self.span)

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """A batch by the numbers of its samples."""
        crops, positions = zip(*map(self.sample, numbers), strict=True)
        return {"x": torch.stack(crops), "position": torch.tensor(positions), "number": torch.tensor(numbers)}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        every = islice(self.batches, worker.id, None, worker.num_workers) if worker else self.batches
        return map(self.batch, every)


def shares(first: int, batch: int, rank: int, world: int) -> Iterator[range]:
    """Numbers of the samples of one of `world` processes: its part of every batch, from the batch at `first` on."""
    part = batch // world
    for start in count(first + rank * part, batch):
        yield range(start, start + part)
