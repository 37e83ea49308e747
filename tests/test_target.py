"""Files that fit a number of bytes, with a packer that only counts."""

import math

import pytest

from nlaic.errors import NlaicError
from nlaic.target import close_to, guided, largest_within, target_bytes


class Packer:
    """Files whose size grows with the quality like those of a picture, and how often one was made."""

    def __init__(self, smallest: int = 3000, growth: float = 0.0035) -> None:
        self.smallest, self.growth, self.calls = smallest, growth, 0

    def size(self, quality: int) -> int:
        return round(self.smallest * math.exp(self.growth * quality))

    def __call__(self, quality: int) -> bytes:
        assert 0 <= quality <= 1000
        self.calls += 1
        return bytes(self.size(quality))


@pytest.mark.parametrize("limit", [3000, 3011, 5000, 70_000, 99_346, 10**9])
def test_bisection_finds_the_largest_file_that_fits(limit):
    pack = Packer()
    sizes = [pack.size(quality) for quality in range(1001)]
    assert len(largest_within(pack, limit)) == max(size for size in sizes if size <= limit)
    assert pack.calls <= 12


@pytest.mark.parametrize("growth", [0.001, 0.002, 0.0035, 0.006])
@pytest.mark.parametrize("guess", [0, 300, 500, 1000])
@pytest.mark.parametrize("limit", [3050, 5000, 70_000, 10**9])
@pytest.mark.parametrize("close", [0.98, 1.0])
def test_few_tries_come_close_to_the_limit_and_never_above(growth, guess, limit, close):
    pack = Packer(growth=growth)
    size = len(close_to(pack, limit, guess, close))
    largest = len(largest_within(pack, limit))
    assert size == largest if close == 1 else min(close * limit, largest) <= size <= limit


def test_of_files_of_one_size_the_best_quality_is_taken():
    def pack(quality):
        return bytes(100 + quality // 50) + b"%04d" % quality

    assert int(close_to(pack, 110 + 4, 300)[-4:]) == int(largest_within(pack, 110 + 4)[-4:]) == 549


def test_a_good_guess_needs_two_tries():
    pack = Packer()
    guess = next(quality for quality in range(1000) if pack.size(quality) > 20_000) + 10
    close_to(pack, 20_000, guess, 0.98)
    assert pack.calls == 2


@pytest.mark.parametrize("saving", [0.8, 0.95, 1.0, 1.1])
@pytest.mark.parametrize("limit", [3400, 5000, 70_000])
def test_a_quick_packer_guides_a_thoughtful_one(saving, limit):
    quick, pack, shares = Packer(), Packer(round(3000 * saving)), []

    def reporting(quality, report):
        report(0.5)
        return pack(quality)

    data = guided(reporting, quick, limit, progress=shares.append)
    assert len(data) == len(largest_within(Packer(pack.smallest), limit))
    assert shares == sorted(shares)
    assert shares[0] > 0 and shares[-1] < 1


def test_where_thought_takes_more_bytes_the_quick_file_will_do():
    quick, pack = Packer(3000), Packer(3100)
    assert len(guided(lambda quality, _: pack(quality), quick, 3050)) == 3000
    with pytest.raises(NlaicError, match="2900 bytes cannot be met: the smallest file has 3000 bytes"):
        guided(lambda quality, _: pack(quality), quick, 2900)
    assert pack.calls < 20
    pack.calls = 0
    with pytest.raises(NlaicError, match="the smallest file has 3000 bytes"):
        guided(lambda quality, _: pack(quality), quick, 2000)
    assert pack.calls == 0  # hopeless: not tried


@pytest.mark.parametrize("search", [largest_within, lambda pack, limit: close_to(pack, limit, 400)])
def test_a_limit_below_the_smallest_file_names_it(search):
    with pytest.raises(NlaicError, match="target of 2999 bytes cannot be met: the smallest file has 3000 bytes"):
        search(Packer(), 2999)
    with pytest.raises(NlaicError, match="target of 0 bytes cannot be met"):
        search(Packer(), 0)


def test_targets_in_bytes():
    assert target_bytes(None, None, (30, 20)) is None
    assert target_bytes(None, 77, (30, 20)) == 77
    assert target_bytes(0.25, None, (30, 20)) == 18  # 18.75, never more
    assert target_bytes(1e308, None, (2**24, 2**24)) > 2**48  # as good as no target
    for bpp, most in ((1, 1), (0, None), (-1, None), (math.nan, None), (math.inf, None), (None, 0), (None, math.nan)):
        with pytest.raises(NlaicError, match=r"target must be|not both"):
            target_bytes(bpp, most, (30, 20))
