"""SVAC2's filter: Hu, Li, Xia, Zhang, "Combine Traditional Compression Method With Convolutional Neural Networks"
(CVPR workshop 2018), section 3.

```
Y ─ seven conv3, ReLU, to 16 14 12 11 10 9 8 channels ─ all outputs (80) ─┬─ A1 conv1 24 ────────────┬─ conv1 ─ + Y
                                                                         └─ B1 conv1 8 ─ B2 conv3 8 ┘
```
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.nets.layers import RGB_TO_YCBCR, zero_init

FEATURES = (16, 14, 12, 11, 10, 9, 8)
UNIT = 0.03  # of the last layer's output: about an error of luma, so that one learning rate fits all layers


class Svac2(nn.Module):
    """Filters luma alone; the chroma of a decoded picture stays as it is, so that 4:2:0 is enlarged without it."""

    reach, multiple = len(FEATURES) + 1, 1

    def __init__(self) -> None:
        super().__init__()
        sides = zip((1, *FEATURES), FEATURES, strict=False)
        layers = [nn.Conv2d(i, o, 3, padding=1) for i, o in sides]
        self.extract = nn.ModuleList(layers)
        self.a1 = nn.Conv2d(sum(FEATURES), 24, 1)
        self.b1 = nn.Conv2d(sum(FEATURES), 8, 1)
        self.b2 = nn.Conv2d(8, 8, 3, padding=1)
        self.last = zero_init(nn.Conv2d(24 + 8, 1, 1))  # an untrained filter changes nothing
        for layer in (*layers, self.a1, self.b1, self.b2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
        with torch.no_grad():  # as if the input were centred, and of the size that layers begin for
            layers[0].weight.mul_(4)
            layers[0].bias = nn.Parameter(-0.5 * layers[0].weight.sum((1, 2, 3)))
        self.luma = nn.Buffer(torch.tensor(RGB_TO_YCBCR[0], dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 to filtered ones; `level` is not looked at.

        What luma gains is added to R, G and B alike, which leaves Cb and Cr as they were.
        """
        return x + self.residual(torch.einsum("bchw,c->bhw", x, self.luma)[:, None])

    def residual(self, y: Tensor) -> Tensor:
        """F(Y): luma [B, 1, H, W] to what is to be added to it."""
        features, x = [], y
        for layer in self.extract:
            x = F.relu(layer(x))
            features.append(x)
        every = torch.cat(features, dim=1)  # (B, 80, H, W)
        a = F.relu(self.a1(every))
        b = F.relu(self.b2(F.relu(self.b1(every))))
        return UNIT * self.last(torch.cat((a, b), dim=1))
