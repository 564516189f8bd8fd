"""The sinusoidal embedding of a flow time, by its formula."""

from __future__ import annotations

import math

import pytest
import torch

from rllib_fmq.nn.time_features import frequencies, sinusoidal_features


def test_frequencies_are_log_spaced_from_one_to_a_ten_thousandth():
    found = frequencies(64)
    expected = [10_000.0 ** (-k / 31) for k in range(32)]
    assert found.shape == (32,)
    assert found[0].item() == 1.0
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=2e-6, atol=0)
    assert found[-1].item() == pytest.approx(1e-4, rel=2e-6)


def test_features_are_cosines_then_sines():
    time = torch.tensor([[0.0], [0.3], [1.0]], dtype=torch.float64)
    freqs = frequencies(64).double()
    found = sinusoidal_features(time, freqs)
    assert found.shape == (3, 64)
    for row, t in enumerate((0.0, 0.3, 1.0)):
        angles = [t * f for f in freqs.tolist()]
        expected = [math.cos(x) for x in angles] + [math.sin(x) for x in angles]
        torch.testing.assert_close(found[row], torch.tensor(expected, dtype=torch.float64))


def test_time_zero_is_ones_then_zeros():
    found = sinusoidal_features(torch.zeros(1, 1), frequencies(8))
    assert found.tolist() == [[1.0] * 4 + [0.0] * 4]


def test_features_have_the_derivative_the_losses_need():
    time = torch.tensor([[0.4]], dtype=torch.float64)
    freqs = frequencies(8).double()
    _, slope = torch.func.jvp(
        lambda t: sinusoidal_features(t, freqs), (time,), (torch.ones_like(time),)
    )
    angle = time * freqs
    expected = torch.cat([-freqs * angle.sin(), freqs * angle.cos()], dim=-1)
    torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("size", [0, 2, 7])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(ValueError, match=f"time_embedding_dim={size}.*even"):
        frequencies(size)
