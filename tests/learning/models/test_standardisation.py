import torch
from torch import Tensor

from kinetrack.learning.models.standardisation import add_differences, standardise


def draw_clips(num_frames: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, num_frames, 8, 8, generator=generator)


def test_each_clip_and_channel_gets_mean_0_and_variance_1() -> None:
    found = standardise(draw_clips() * torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1, 1) + 5)
    variance, mean = torch.var_mean(found, dim=(2, 3, 4))
    torch.testing.assert_close(mean, torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(variance, torch.ones(2, 3), atol=2e-2, rtol=0)


def test_a_bright_clip_looks_like_a_dark_one() -> None:
    clips = draw_clips()
    torch.testing.assert_close(
        standardise(0.5 * clips + 0.3), standardise(clips), atol=1e-3, rtol=1e-3
    )


def test_an_evenly_coloured_clip_becomes_0() -> None:
    clips = torch.full((1, 3, 4, 8, 8), 0.75)
    assert standardise(clips).abs().max() < 1e-3
    assert add_differences(clips)[:, 3:].abs().max() == 0


def test_changes_stand_beside_what_they_are_of() -> None:
    clips = draw_clips()
    found = add_differences(clips)
    assert torch.equal(found[:, :3], clips)
    assert found[:, 3:, 0].abs().max() == 0
    expected = clips[:, :, 1:] - clips[:, :, :-1]
    ratio = found[:, 3:, 1:] / expected
    # One factor a clip, another for each.
    for clip in ratio:
        torch.testing.assert_close(clip, clip.median().expand_as(clip), atol=0, rtol=1e-3)
    assert ratio[0].median() != ratio[1].median()
    squares = found[:, 3:].square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(squares, torch.ones(2), atol=1e-2, rtol=0)


def test_slow_motion_looks_like_fast_motion() -> None:
    clips = draw_clips()
    still = clips[:, :, :1]
    slow = still + 0.2 * (clips - still)
    torch.testing.assert_close(
        add_differences(slow)[:, 3:], add_differences(clips)[:, 3:], atol=1e-2, rtol=1e-2
    )
