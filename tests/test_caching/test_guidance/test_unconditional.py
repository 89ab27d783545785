"""The unconditional output against the authors' equations over whole spectra."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.guidance.low_pass import low_frequencies
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.guidance.unconditional import PLAIN, Picture, UnconditionalOutput


def spectra(x):
    """Return low and high frequencies of [..., H, W] with the origin at the centre, cut along a circle."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    rows, columns = torch.arange(height)[:, None] - height // 2, torch.arange(width) - width // 2
    low = rows**2 + columns**2 <= (min(height, width) // 5) ** 2
    return spectrum * low, spectrum * ~low


def back(spectrum):
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real


@pytest.mark.parametrize("size", [(8, 8), (10, 13), (15, 21), (30, 53)])
def test_low_frequencies_are_those_of_the_published_mask(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(low_frequencies(x), back(spectra(x)[0]))
    torch.testing.assert_close(low_frequencies(x.movedim(1, -1), (1, 2)), low_frequencies(x).movedim(1, -1))


def test_it_is_rebuilt_as_published():
    """At step 22 of 30, two steps after all rows were computed, both parts have grown twice."""
    cond, uncond, now = torch.randn(3, 2, 4, 2, 10, 12, generator=torch.Generator().manual_seed(1))
    output = UnconditionalOutput(GuidanceReuse(), 30, 2)
    output.measure(20, cond, uncond, [0, 1], None)
    (low_c, high_c), (low_u, high_u), (low, high) = map(spectra, (cond, uncond, now))
    expected = back(1.15**2 * (low_u - low_c) + low + 1.15**2 * (high_u - high_c) + high)
    torch.testing.assert_close(output.rebuild(22, now, PLAIN), expected)
    expected = back(1.15**5 * (low_u - low_c) + low + 1.15**6 * (high_u - high_c) + high)
    torch.testing.assert_close(output.rebuild(26, now, PLAIN), expected)


def test_each_video_has_its_own_steps():
    cond, uncond, now = torch.randn(3, 2, 4, 1, 10, 10, generator=torch.Generator().manual_seed(2))
    both, one = (UnconditionalOutput(GuidanceReuse(), 30, number) for number in (2, 1))
    both.measure(15, cond, uncond, [0, 1], None)
    both.measure(17, cond[1:] + 1, uncond[1:], [1], torch.tensor([1]))
    one.measure(17, cond[1:] + 1, uncond[1:], [0], None)
    assert both.due(18, [0, 1]) == [] and both.due(20, [1]) == [1]
    torch.testing.assert_close(both.rebuild(18, now, PLAIN)[1:], one.rebuild(18, now[1:], PLAIN))


def test_tokens_are_laid_out_as_pictures():
    latents = torch.randn(3, 2, 4, 3, 10, 8, generator=torch.Generator().manual_seed(3))
    tokens = latents.flatten(3).transpose(2, 3)  # [3, B, N, C]
    plain, packed = (UnconditionalOutput(GuidanceReuse(), 30, 2) for _ in range(2))
    plain.measure(20, *latents[:2], [0, 1], None)
    packed.measure(20, *tokens[:2], [0, 1], None)
    found = packed.rebuild(22, tokens[2], Picture((2, 3), (3, 10, 8)))
    torch.testing.assert_close(found, plain.rebuild(22, latents[2], PLAIN).flatten(2).transpose(1, 2))
