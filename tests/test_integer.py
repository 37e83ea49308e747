"""The exact scale network against plain Python integers, at random and at the extremes."""

import numpy as np
import pytest
import torch

from nlaic.errors import FormatError
from nlaic.integer import IntegerLayer, IntegerScaleNetwork, at_quality
from nlaic.weights import find_weights


def plain_layer(levels, layer, offset=None, high=255):
    """The same layer by the specification, in Python integers; levels [h][w][I] lists."""
    h, w = len(levels), len(levels[0])
    k, out = layer.weight.shape[2], []
    for y in range(h):
        row = []
        for x in range(w):
            values = []
            for o in range(len(layer.weight)):
                total = int(layer.bias[o])
                for i in range(layer.weight.shape[1]):
                    for dy in range(k):
                        for dx in range(k):
                            yy = min(max(y + dy - k // 2, 0), h - 1)
                            xx = min(max(x + dx - k // 2, 0), w - 1)
                            total += int(layer.weight[o, i, dy, dx]) * levels[yy][xx][i]
                shifted = total * int(layer.multiplier[o]) + (int(offset[o]) << 16 if offset is not None else 0)
                values.append(min(max((shifted + 2**23) >> 24, 0), high))
            row.append(values)
        out.append(row)
    return out


def plain_indices(network, z_hat, quality):
    channels, h, w = z_hat.shape
    row, rest = divmod(quality * (len(network.offset) - 1), 1000)

    def at(rows, c):
        low, high = int(rows[row][c]), int(rows[min(row + 1, len(rows) - 1)][c])
        return (low * (1000 - rest) + high * rest + 500) // 1000

    def level(c, y, x):
        return min(max(((int(z_hat[c, y, x]) * at(network.z_multiplier, c) + 2**15) >> 16) + 128, 0), 255)

    levels = [[[level(c, y, x) for c in range(channels)] for x in range(w)] for y in range(h)]
    for number, layer in enumerate(network.layers[:3]):
        levels = plain_layer(levels, layer)
        if number == 1:
            count = len(levels[0][0]) // 16
            levels = [
                [[levels[y // 4][x // 4][c * 16 + 4 * (y % 4) + x % 4] for c in range(count)] for x in range(4 * w)]
                for y in range(4 * h)
            ]
    offset = [at(network.offset, c) for c in range(network.offset.shape[1])]
    return plain_layer(levels, network.layers[3], offset, high=63)


def random_network(rng, extreme=None):
    def layer(inputs, outputs, k):
        shape = (outputs, inputs, k, k)
        weight = np.full(shape, extreme) if extreme else rng.integers(-127, 128, shape)
        bias = rng.integers(-20000, 20000, outputs)
        multiplier = rng.integers(1, 2**31 if extreme else 2**19, outputs)
        return IntegerLayer(weight.astype(np.int8), bias.astype(np.int32), multiplier.astype(np.int32))

    layers = (layer(6, 9, 3), layer(9, 32, 1), layer(2, 5, 3), layer(5, 7, 1))
    multiplier = rng.integers(1, 2**20, (5, 6)).astype(np.int32)
    return IntegerScaleNetwork(layers, multiplier, rng.integers(-9000, 9000, (5, 7)).astype(np.int32))


@pytest.mark.parametrize("extreme", [None, 127, -127])
@pytest.mark.parametrize("quality", [0, 3, 333, 999, 1000])
def test_equals_plain_integers(extreme, quality):
    rng = np.random.default_rng(quality)
    network = random_network(rng, extreme)
    for z_hat in (rng.integers(-40, 40, (6, 2, 3)), np.full((6, 1, 1), 10**6), np.full((6, 2, 2), -(10**6))):
        expected = np.array(plain_indices(network, z_hat, quality)).transpose(2, 0, 1)
        assert np.array_equal(network.indices(z_hat, quality), expected)


def test_float_sums_are_exact_at_the_extremes():
    """1152 inputs of 255 * 127 leave float32's integers: the layer must have chosen float64."""
    weight = np.full((3, 128, 3, 3), 127, np.int8)
    weight[1, ::2] = -127
    layer = IntegerLayer(weight, np.array([1, 2, 3], np.int32), np.ones(3, np.int32))
    levels = np.full((4, 5, 128), 255, np.uint8)
    levels[2, 2] -= 1
    sums = layer.accumulate(levels)
    assert sums[0, 0, 0] == 255 * 127 * 1152 + 1
    assert sums[1, 1, 2] == 255 * 127 * 1152 - 127 * 128 + 3
    assert sums[0, 0, 1] == 2


def test_float_sums_are_exact_just_beyond_what_float32_holds():
    """Between 2^24 and 2^25 float32 holds even numbers alone."""
    inputs = 2**24 // (255 * 127) + 2
    layer = IntegerLayer(np.full((1, inputs, 1, 1), 127, np.int8), np.zeros(1, np.int32), np.ones(1, np.int32))
    levels = np.full((1, 2, inputs), 255, np.uint8)
    levels[0, 1, 0] = 254
    expected = [255 * 127 * inputs, 255 * 127 * inputs - 127]
    assert 2**24 < expected[1] < 2**25 and {n % 2 for n in expected} == {0, 1}
    assert layer.accumulate(levels)[0, :, 0].tolist() == expected


def test_the_bias_counts_as_what_could_leave_the_accumulator():
    weight = np.full((1, 7300, 3, 3), 127, np.int8)  # 2,127,675,... of 2^31
    room = 2**31 - 255 * 127 * 7300 * 9
    for bias, allowed in ((room - 1, True), (-room, False), (room, False)):
        arrays = weight, np.array([bias], np.int32), np.ones(1, np.int32)
        if allowed:
            IntegerLayer(*arrays)
        else:
            with pytest.raises(FormatError, match=r"2\^31"):
                IntegerLayer(*arrays)


def test_sums_that_could_leave_the_accumulator_are_refused_at_load():
    with pytest.raises(FormatError, match=r"2\^31"):
        IntegerLayer(np.full((1, 8000, 3, 3), 127, np.int8), np.zeros(1, np.int32), np.ones(1, np.int32))


def test_rows_are_interpolated_half_up():
    rows = np.array([[0, -10], [1, 10], [5, 30]], np.int32)
    assert at_quality(rows, 0).tolist() == [0, -10]
    assert at_quality(rows, 250).tolist() == [1, 0]  # 0.5 rounds up
    assert at_quality(rows, 750).tolist() == [3, 20]
    assert at_quality(rows, 1000).tolist() == [5, 30]
    assert at_quality(rows[:1], 700).tolist() == [0, -10]


def test_agrees_with_the_network_that_was_trained(tiny_model):
    """Fake quantisation plays the integers: indices differ rarely, and then by one."""
    from nlaic.nets.light import LightSettings, build_light

    weights = find_weights(tiny_model)
    network = weights.scale_network()
    settings = LightSettings(analysis=((8, 1), (16, 1)), synthesis=((8, 1), (16, 1)), context=8)
    torch.manual_seed(0)
    net = build_light(settings)
    torch.nn.init.normal_(net.scale.layers[3].weight, std=0.05)
    from nlaic.export import export

    exported = export(net, "light", settings.to_dict(), (0.001, 0.1), [torch.rand(1, 3, 64, 64)])
    network = exported.scale_network()
    z_hat = torch.randint(-9, 10, (1, 128, 3, 4)).float()
    for quality in (0, 200, 700, 1000):
        position = torch.tensor([quality / 200])
        z_step = net.rates.at(net.rates.log_z_step, position).exp()
        with torch.no_grad():
            floats = net.index(z_hat, z_step, position)[0].round().numpy()
        ours = network.indices(z_hat[0].numpy().astype(np.int32), quality).astype(int)
        assert np.mean(floats != ours) < 0.02
        assert np.abs(floats - ours).max() <= 1
