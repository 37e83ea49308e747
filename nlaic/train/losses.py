"""What the decoded picture is compared by (Eq. 2 of the paper): squared error, a perceptual term where asked for."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nlaic.errors import NlaicError

MSE_SCALE = 255.0**2  # lambda weighs the squared error of 0..255 pixels, as the field does


class Distortion(nn.Module):
    """255^2 * (mse * MSE + lpips * LPIPS), a value a sample, for pictures in 0..1.

    Args:
        mse: weight of the mean squared error.
        lpips: weight of LPIPS (Zhang et al., https://arxiv.org/abs/1801.03924) over a random window; 0: not built.
        network: `alex` or `squeeze`.
        features: safetensors file with the network's convolutions, named as torchvision names them.
        window: side of LPIPS' window in pixels.
    """

    def __init__(
        self,
        mse: float = 1.0,
        lpips: float = 0.0,
        network: str = "alex",
        features: str | None = None,
        window: int = 128,
    ) -> None:
        super().__init__()
        self.mse, self.lpips, self.window = mse, lpips, window
        self.teacher = load_lpips(network, features) if lpips else None

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] to the distortion [B]."""
        total = self.mse * (x_hat - x).square().flatten(1).mean(1)
        if self.teacher is not None:
            top, left = (int(torch.randint(n - self.window + 1, ())) for n in x.shape[-2:])
            window = (..., slice(top, top + self.window), slice(left, left + self.window))
            total = total + self.lpips * self.teacher(2 * x_hat[window] - 1, 2 * x[window] - 1).flatten()
        return MSE_SCALE * total


def load_lpips(network: str, features: str | None) -> nn.Module:
    """LPIPS 0.1 with the package's own heads on a network from a file.

    Raises:
        NlaicError: if the package or the file is missing.
    """
    try:
        import lpips
        from safetensors.torch import load_file
    except ImportError as error:
        raise NlaicError("loss.lpips needs the package lpips: pip install 'nlaic[eval]'") from error
    if not features or not Path(features).is_file():
        raise NlaicError(
            f"loss.features: no file {features!r}; give torchvision's {network} convolutions as safetensors, "
            "or train with loss=mse"
        )
    model = lpips.LPIPS(net=network, pnet_rand=True, verbose=False).eval().requires_grad_(False)
    weights = {name.removeprefix("features."): value for name, value in load_file(features).items()}
    model.net.load_state_dict({name: weights[name.split(".", 1)[1]] for name in model.net.state_dict()})
    return model
