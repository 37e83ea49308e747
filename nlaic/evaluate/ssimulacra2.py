"""SSIMULACRA2 2.1, the metric of the JPEG XL project (the package of that name computes something else).

Jon Sneyers, "SSIMULACRA 2", https://github.com/cloudinary/ssimulacra2 (BSD-3-Clause): the definition is that program;
this is written after it. 100 is equal, 90 hardly to be told apart, 70 high quality, 50 medium, 30 low; below 0 is bad.

Six scales, each half the last in linear light; colours XYB; three error maps for each of its three channels (structure,
edges that were added, edges that were lost), each pooled by its mean and its 4-norm; a weighted sum of all of it.
"""

import numpy as np

SCALES, SMALLEST = 6, 8  # a picture smaller than this on one side has no further scale
C2 = np.float32(0.0009)  # of SSIM, for pictures in 0..1
BIAS = np.float32(0.0037930732552754493)  # of XYB
ABSORBANCE = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.55180986650955360],
    ],
    np.float32,
)

# Of the 108 norms: by channel (X, Y, B), scale (six), norm (mean, 4-norm), map (structure, added, lost); a row a scale.
# fmt: off
WEIGHTS = np.array([
    0.0, 0.0007376606707406586, 0.0, 0.0, 0.0007793481682867309, 0.0,
    0.0, 0.0004371155730107379, 0.0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752,
    0.0, 0.0016406437456599754, 0.0, 1.8422455520539298, 11.441172603757666, 0.0,
    0.0007989109436015163, 0.000176816438078653, 0.0, 1.8787594979546387, 10.94906990605142, 0.0,
    0.0007289346991508072, 0.9677937080626833, 0.0, 0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053,
    0.0004550992113792063, 0.0, 0.0, 0.0013648766163243398, 0.0, 0.0,
    0.0, 0.0, 0.0, 7.466890328078848, 0.0, 17.445833984131262,
    0.0006235601634041466, 0.0, 0.0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0.0, 0.0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0.0, 0.0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
    0.0, 0.0, 0.0, 34.77906344483772, 44.835625328877896, 0.0,
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.0008680556573291698, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.0005313191874358747, 0.0, 0.00016533814161379112, 0.0, 0.0,
    0.0, 0.0, 0.0, 0.0004179171803251336, 0.0017290828234722833, 0.0,
    0.0020827005846636437, 0.0, 0.0, 8.826982764996862, 23.19243343998926, 0.0,
    95.1080498811086, 0.9863978034400682, 0.9834382792465353, 0.0012286405048278493,
    171.2667255897307, 0.9807858872435379,
    0.0, 0.0, 0.0, 0.0005130064588990679, 0.0, 0.00010854057858411537,
])
# fmt: on


def ssimulacra2(reference: np.ndarray, decoded: np.ndarray) -> float:
    """The score of `decoded` against `reference`, both uint8 [H, W, 3] sRGB; up to 100.

    A picture too small for six scales has fewer norms, and they take the first weights, as in the program.
    """
    pictures = [_linear(picture) for picture in (reference, decoded)]  # [3, H, W]
    norms = []
    for scale in range(SCALES):
        if min(pictures[0].shape[1:]) < SMALLEST:
            break
        if scale:
            pictures = [_half(picture) for picture in pictures]
        norms.append(_norms(*(_xyb(picture) for picture in pictures)))
    values = np.stack(norms, 1).reshape(-1)  # channel, scale, norm, map
    total = 0.9562382616834844 * float(values @ WEIGHTS[: values.size])
    total = 2.326765642916932 * total - 0.020884521182843837 * total**2 + 6.248496625763138e-05 * total**3
    return float(100.0 - 10.0 * max(total, 0.0) ** 0.6276336467831387)


def _linear(picture: np.ndarray) -> np.ndarray:
    """sRGB uint8 [H, W, 3] to linear light [3, H, W]."""
    values = np.arange(256) / 255
    table = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[picture].transpose(2, 0, 1)


def _half(picture: np.ndarray) -> np.ndarray:
    """Means of 2x2, the last row and column repeated where a side is odd."""
    _, height, width = picture.shape
    even = np.pad(picture, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return even.reshape(3, even.shape[1] // 2, 2, even.shape[2] // 2, 2).mean((2, 4))


def _xyb(picture: np.ndarray) -> np.ndarray:
    """Linear light [3, H, W] to XYB, B without its luma, all shifted into about 0..1."""
    mixed = [sum(weight * plane for weight, plane in zip(row, picture, strict=True)) + BIAS for row in ABSORBANCE]
    long, middle, short = np.cbrt(np.maximum(mixed, 0)) - np.cbrt(BIAS)
    x, y = (long - middle) / 2, (long + middle) / 2
    return np.stack((14 * x + 0.42, y + 0.01, short - y + 0.55))


def _recursion(sigma: float = 1.5) -> tuple[int, np.ndarray, np.ndarray]:
    """The blur: not a Gaussian but three cosines that stand for one, each a recursion of second order.

    Charalampidis, "Recursive implementation of the Gaussian filter using truncated cosine functions" (IEEE TSP 2016):
    Eq. 57 is the radius, Eq. 33 to 35 the recursion.

    Returns:
        The radius, the weights of the input and those of the last output, both [3].
    """
    radius = round(3.2795 * sigma + 0.2546)
    omega = np.array([1, 3, 5]) * np.pi / (2 * radius)
    p = np.array([1, -1, 1]) / np.tan(omega / 2)
    r = np.array([1, -1, 1]) * p**2 / np.sin(omega)
    rho = np.exp(-0.5 * sigma**2 * omega**2) / radius
    d13, d35, d51 = p[0] * r[1] - r[0] * p[1], p[1] * r[2] - r[1] * p[2], p[2] * r[0] - r[2] * p[0]
    last = np.array([d35 / d13, d51 / d13, 1])
    beta = np.linalg.solve(np.stack((p, r, last)), [1, radius**2 - sigma**2, last @ rho])
    return radius, -beta * np.cos(omega * (radius + 1)), 2 * np.cos(omega)


def _steps(lanes: int) -> tuple[int, list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """The recursion written out for so many outputs at once: weights of the inputs and of the last two outputs."""
    radius, of_input, of_last = _recursion()
    rows = [(of_input, of_last, -np.ones(3))]
    before = (np.zeros(3), np.ones(3), np.zeros(3))
    for _ in range(lanes - 1):
        now, then = rows[-1], before
        rows.append((of_last * now[0] - then[0], of_last * now[1] - then[1], of_last * now[2] - then[2]))
        before = now
    inputs, lasts, seconds = ([row[n].astype(np.float32)[:, None] for row in rows] for n in range(3))
    return radius, inputs, lasts, seconds


def _multiply_add(a: np.ndarray, weight: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * weight + b, rounded once."""
    return (a.astype(np.float64) * weight + b).astype(np.float32)


def _filter(signals: np.ndarray, lanes: int) -> np.ndarray:
    """Blur float32 [length, signals] along its length; black outside.

    In single precision, `lanes` outputs at once where there is room, rounded where the program rounds: the recursion
    never forgets an error, and flat pictures' scores show it. In double precision they differ by up to 0.7 from the
    program's; photographs' do not.
    """
    radius, of_input, of_last, of_second = _steps(lanes)
    length = len(signals)
    sums = np.zeros((length + radius + lanes, signals.shape[1]), np.float32)  # from the first output, at 1 - radius
    sums[:length] = signals
    sums[2 * radius : 2 * radius + length] += signals[: len(sums) - 2 * radius]
    out = np.empty_like(sums)
    last = second = np.zeros((3, signals.shape[1]), np.float32)
    at, end = 0, length + radius - 1
    while at < end:
        inside = radius - 1 + 2 * lanes <= at < length - lanes + 1
        outputs: list[np.ndarray] = []
        for lane in range(lanes if inside else 1):
            value = sums[at] * of_input[lane]
            for further in range(1, lane + 1):
                value = _multiply_add(sums[at + further], of_input[lane - further], value)
            value = _multiply_add(second, of_second[lane], value)
            value = _multiply_add(last, of_last[lane], value)
            outputs.append(value)
            out[at + lane] = value[0] + value[1] + value[2]
        second, last = (last, *outputs)[-2:]
        at += len(outputs)
    return out[radius - 1 : end]


def _blur(pictures: np.ndarray) -> np.ndarray:
    """Float32 [N, H, W]: along the rows, then along the columns."""
    count, height, width = pictures.shape
    rows = _filter(pictures.transpose(2, 0, 1).reshape(width, -1), lanes=4).reshape(width, count, height)
    columns = _filter(rows.transpose(2, 1, 0).reshape(height, -1), lanes=1)
    return columns.reshape(height, count, width).transpose(1, 0, 2)


def _norms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean and 4-norm of the three maps of two pictures [3, H, W], as [channel, norm, map]."""
    mean_x, mean_y, square_x, square_y, product = np.split(_blur(np.concatenate((x, y, x * x, y * y, x * y))), 5)
    covariance = product - mean_x * mean_y
    variances = (square_x - mean_x**2) + (square_y - mean_y**2)
    structure = np.maximum(1 - (1 - (mean_x - mean_y) ** 2) * (2 * covariance + C2) / (variances + C2), 0)
    edges = (1 + np.abs(y - mean_y)) / (1 + np.abs(x - mean_x)) - 1
    maps = np.stack((structure, np.maximum(edges, 0), np.maximum(-edges, 0)), 1, dtype=float)  # [channel, map, H, W]
    return np.stack((maps.mean((2, 3)), (maps**4).mean((2, 3)) ** 0.25), 1)
