"""Speed of training: patches a second, what each part of a step takes, and how near it is to what the machine can do.

    python tools/bench.py train [--model light] [--precision 32-true|bf16-mixed] [--terms mse=1,lpips_alex=0.00657]
                                [--networks DIR] [--batch 8] [--patch 192] [--threads 1] [--turns 5]

The bound is arithmetic: a step needs about three times the multiply-adds of its forward pass. A probe (dense 3x3
convolutions of the network's own sizes, forwards and backwards) says how many the machine does in a second; probe and
step run in turn. Compare figures of one run with each other.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from nlaic.nets.build import build, make_settings, start
from nlaic.nets.complexity import network_cost
from nlaic.train.data import Batch, Crops, Pictures, SampleNoise
from nlaic.train.losses import Distortion
from nlaic.train.objectives import RateDistortion
from nlaic.train.optimisation import Optimisation

PROBES = ((64, 8), (192, 16))  # channels and stride of the probe's convolutions


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def probe(batch: int, patch: int, reduced: bool) -> tuple[float, Callable[[], None]]:
    """Multiply-adds of the probe, forwards and backwards, and what runs it."""
    pairs, macs = [], 0.0
    for channels, stride in PROBES:
        x = torch.randn(batch, channels, patch // stride, patch // stride).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
        pairs.append((x.requires_grad_(), weight.requires_grad_()))
        macs += 3 * 4 * x[:, 0].numel() * weight.numel()

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            for x, weight in pairs:
                out = x
                for _ in range(4):
                    out = F.conv2d(out, weight, padding=1)
                out.float().sum().backward()

    return macs, run


def both_ways(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, reduced: bool) -> Callable[[], None]:
    """A part of the network, forwards and backwards."""

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            out = run(x.detach().requires_grad_())
        out.float().square().mean().backward()

    return work


def make_parts(arguments: argparse.Namespace) -> tuple[dict[str, Callable[[], object]], float]:
    """What is timed, by name, and the multiply-adds of a step."""
    batch, patch, reduced = arguments.batch, arguments.patch, arguments.precision == "bf16-mixed"
    settings = make_settings(arguments.model, {})
    noise = np.random.default_rng(0).integers(0, 256, 3 * 600 * 800, dtype=np.uint8)
    span = float(getattr(settings, "anchors", 1) - 1)
    crops = Crops([(Pictures(noise, [(0, 600, 800)], []), 1.0)], patch, span, 0)

    def load() -> Batch:
        drawn = crops.batch(range(batch))
        x = (drawn["x"].float() / 255).contiguous()
        return Batch(x, drawn["position"], SampleNoise(0, drawn["number"], torch.device("cpu")))

    net = build(settings).to(memory_format=torch.channels_last)
    work = load()
    start(net, settings, [work.x])
    terms = {name: float(weight) for name, _, weight in (word.partition("=") for word in arguments.terms.split(","))}
    objective = RateDistortion(net, Distortion(terms, networks=arguments.networks), settings.lambdas).train()
    optimisers = Optimisation().optimisers(net)

    def optimise() -> None:
        for optimiser in optimisers:
            optimiser.step()

    def step() -> None:
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            loss = objective.losses("net", load())["loss"]
        loss.backward()
        optimise()

    def bits(y: torch.Tensor) -> torch.Tensor:
        y_hat, bits = net._code(y, work.position, True, work.noise)
        return y_hat.mean() + bits["y"].sum() + bits["z"].sum()

    with torch.no_grad():
        y = net.g_a(work.x)
        x_hat = net.g_s(y)
    costs = network_cost(net, patch, patch)
    kmac = sum(costs[part].kmac for part in ("g_a", "h_a", "h_s", "scale", "context", "g_s"))
    parts: dict[str, Callable[[], object]] = {
        "step": step,
        "g_a": both_ways(net.g_a, work.x, reduced),
        "g_s": both_ways(net.g_s, y, reduced),
        "h, context, bits": both_ways(bits, y, reduced),
        "losses": both_ways(lambda x: objective.distortion(x, work.x)[0], x_hat, reduced),
        "loader": load,
        "optimiser": optimise,
    }
    return parts, 3 * kmac * 1000 * batch * patch**2


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="light")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--terms", default="mse=1")
    parser.add_argument("--networks")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    parts, step_macs = make_parts(arguments)
    macs, parts["probe"] = probe(arguments.batch, arguments.patch, arguments.precision == "bf16-mixed")
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(arguments.turns + 1):
        for name, part in parts.items():
            spent = seconds(part)
            if turn:  # the first is warm-up
                times[name].append(spent)
    middle = {name: statistics.median(values) for name, values in times.items()}
    rate, own = macs / middle["probe"] / 1e9, step_macs / middle["step"] / 1e9
    print(
        f"{arguments.model}, {arguments.precision}, {arguments.terms}, {arguments.batch} patches of {arguments.patch}"
    )
    print(f"{arguments.batch / middle['step']:.1f} patches/s")
    print(f"probe {rate:.1f} GMAC/s, the step {own:.1f}: {100 * own / rate:.0f} %")
    for name, values in times.items():
        spread = f"({1000 * min(values):.1f} to {1000 * max(values):.1f})"
        share = f"{100 * middle[name] / middle['step']:4.0f} %" if name != "probe" else ""
        print(f"{name:18s} {1000 * middle[name]:7.1f} ms {spread} {share}")


if __name__ == "__main__":
    main()
