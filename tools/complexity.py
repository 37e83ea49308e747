"""Print what each part of each network costs: `python tools/complexity.py [--height 512 --width 768]`."""

import argparse

from rich.console import Console
from rich.table import Table

from nlaic.nets.complexity import HEIGHT, WIDTH, Cost, network_cost
from nlaic.nets.light import build_light
from nlaic.nets.paper import build_paper

NETWORKS = {"light": build_light, "nlaic": build_paper}


def table(costs: dict[str, dict[str, Cost]], height: int, width: int) -> Table:
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=HEIGHT, help="of the picture, a multiple of 64")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the picture, a multiple of 64")
    arguments = parser.parse_args()
    if arguments.height % 64 or arguments.width % 64:
        parser.error(f"height and width must be multiples of 64, got {arguments.height} and {arguments.width}")
    costs = {name: network_cost(build(), arguments.height, arguments.width) for name, build in NETWORKS.items()}
    Console(width=100).print(table(costs, arguments.height, arguments.width))


if __name__ == "__main__":
    main()
