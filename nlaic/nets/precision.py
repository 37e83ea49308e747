"""Which arithmetic is the fastest here."""

import time
from functools import lru_cache

import torch
from torch.nn import functional as F


@lru_cache
def bf16_is_faster(device: str = "cpu", backward: bool = False, margin: float = 1.2, rounds: int = 5) -> bool:
    """Whether a convolution of this codec's kind runs faster in bf16 than in fp32, by a probe of some milliseconds.

    Args:
        device: `cpu` or `cuda`; of a GPU it is asked, not measured.
        backward: measure the gradients too.
        margin: by which factor at least.
        rounds: the best of so many counts.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Its own numbers, so that nobody's random state moves.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 24, 24, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator).requires_grad_(backward)

    def best(kind: torch.dtype) -> float:
        times = []
        with torch.inference_mode(not backward), torch.enable_grad() if backward else torch.no_grad():
            for _ in range(rounds):
                begin = time.perf_counter()
                y = F.conv2d(x.to(kind), weight.to(kind), padding=1).float().square().mean()
                if backward:
                    y.backward()
                times.append(time.perf_counter() - begin)
        return min(times)

    return best(torch.float32) > margin * best(torch.bfloat16)
