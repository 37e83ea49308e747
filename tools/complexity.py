"""What the networks cost, and what the boundary filter saves by looking at strips alone (the paper's Table 2).

python tools/complexity.py [--height 512 --width 768]   multiply-adds of each part
python tools/complexity.py --boundary [--memory]        the filter on all of a 2048x1363 picture and on its strips
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from peak import peak
from rich.console import Console
from rich.table import Table
from torch import nn

from nlaic.canvas import Canvas
from nlaic.nets.boundary import BoundarySettings, build_boundary
from nlaic.nets.complexity import HEIGHT, WIDTH, Cost, module_cost, network_cost
from nlaic.nets.light import build_light
from nlaic.nets.paper import build_paper
from nlaic.seams import SIGMA, SeamFilter
from nlaic.seams import WIDTH as STRIP
from nlaic.tiles import Grid

NETWORKS = {"light": build_light, "nlaic": build_paper}
FILTERS = {"light": BoundarySettings(), "paper": BoundarySettings("paper", 128, 19)}
PICTURE, BLOCK = (2048, 1363), (2048, 1024)  # of the paper's Table 2
PAPER = {"full": ("15694", "out of memory"), "partial": ("1473.84", "3314")}


class OnPicture(nn.Module):
    """A filter on any width; the light one, made for strips, sees a picture as strips side by side."""

    def __init__(self, settings: BoundarySettings) -> None:
        super().__init__()
        self.network, self.cuts = build_boundary(settings).requires_grad_(False), settings.kind == "light"
        self.reach = self.network.reach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, 3, h, w] to the same, w a multiple of a strip's width or less."""
        strips = torch.cat(x.split(STRIP, dim=-1)) if self.cuts else x
        filtered: torch.Tensor = self.network(strips, torch.zeros(len(strips)))
        return torch.cat(filtered.split(1), dim=-1)


class Filter:
    """A boundary filter that keeps the shapes it sees, and does what it is for where it has a network."""

    sigma = SIGMA

    def __init__(self, settings: BoundarySettings, *, runs: bool) -> None:
        self.network = OnPicture(settings)
        self.reach, self.runs, self.shapes = self.network.reach, runs, []

    def correction(self, strip: np.ndarray, quality: int) -> np.ndarray:
        """See `nlaic.seams.BoundaryFilter`."""
        self.shapes.append(strip.shape)
        if not self.runs:
            return np.zeros(strip.shape, np.float32)
        with torch.inference_mode():
            x = torch.tensor(strip.copy()).permute(2, 0, 1)[None].float() / 255
            return (self.network(x) - x)[0].permute(1, 2, 0).numpy() * 255


def filter_picture(filter_: Filter, full: bool) -> None:
    """As the codec does it, or the whole picture at once."""
    grid = Grid(*PICTURE, BLOCK)
    whole = 0, 0, *PICTURE
    if full:
        filter_.correction(np.zeros((-(-PICTURE[1] // 4) * 4, PICTURE[0], 3), np.uint8), 0)
        return
    seams = SeamFilter(grid, whole, filter_, 0)
    canvas = Canvas(grid, seams.numbers)
    for number in seams.numbers:
        seams.pasted(canvas, number)


def giga_macs(settings: BoundarySettings, full: bool) -> float:
    """Multiply-adds of the filter on the picture, in 10^9."""
    filter_ = Filter(settings, runs=False)
    filter_picture(filter_, full)
    return sum(module_cost(filter_.network, 3, 1, h, w).kmac * h * w for h, w, _ in filter_.shapes) / 1e6


def measured(start: Callable[[], None], settings: BoundarySettings, full: bool) -> None:
    """Filter the picture, in a process of its own."""
    filter_ = Filter(settings, runs=True)
    start()
    filter_picture(filter_, full)


def boundary_table(memory: bool) -> Table:
    """Table 2 with ours beside."""
    table = Table(title="boundary filter at {}x{}, blocks of {}x{}".format(*PICTURE, *BLOCK))
    for column in ("filter", "on", "GMAC", "GFLOP", "full / partial", "peak MB", "of which its own"):
        table.add_column(column, justify="left" if column in ("filter", "on") else "right")
    for name, settings in FILTERS.items():
        costs = {full: giga_macs(settings, full) for full in (True, False)}
        for full in (True, False):
            ratio = "" if full else f"{costs[True] / costs[False]:.1f}"
            cells = ["", ""]
            if memory:
                result = peak(measured, settings, full)
                cells = (
                    ["out of memory", ""] if result is None else [f"{result[1]:.0f}", f"{result[1] - result[0]:.0f}"]
                )
            on = "full" if full else "partial"
            table.add_row(name, on, f"{costs[full]:.1f}", f"{2 * costs[full]:.1f}", ratio, *cells, end_section=not full)
    for on, (flops, most) in PAPER.items():
        table.add_row("the paper's Table 2", on, flops, "", "10.6" if on == "partial" else "", most, "")
    return table


def table(costs: dict[str, dict[str, Cost]], height: int, width: int) -> Table:
    """Cost of each part of each network."""
    result = Table(title=f"at {width}x{height}")
    result.add_column("part")
    for name in costs:
        result.add_column(f"{name}: parameters", justify="right")
        result.add_column("kMAC/px", justify="right")
    for part in next(iter(costs.values())):
        cells = [cell for cost in costs.values() for cell in (f"{cost[part].parameters:,}", f"{cost[part].kmac:,.3f}")]
        result.add_row(part, *cells, end_section=part in ("rates",))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=HEIGHT, help="of the picture, a multiple of 64")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the picture, a multiple of 64")
    parser.add_argument("--boundary", action="store_true", help="the paper's Table 2")
    parser.add_argument("--memory", action="store_true", help="measure its peak memory too: minutes, many GB")
    arguments = parser.parse_args()
    if arguments.height % 64 or arguments.width % 64:
        parser.error(f"height and width must be multiples of 64, got {arguments.height} and {arguments.width}")
    console = Console(width=110)
    if arguments.boundary:
        console.print(boundary_table(arguments.memory))
        return
    costs = {name: network_cost(build(), arguments.height, arguments.width) for name, build in NETWORKS.items()}
    console.print(table(costs, arguments.height, arguments.width))


if __name__ == "__main__":
    main()
