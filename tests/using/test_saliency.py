import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinetrack.learning.models import NETWORKS, build_model
from kinetrack.using import saliency
from kinetrack.using.saliency import class_saliency, frame_shares

from factories import model_card

SIZES = {"lecture_3dcnn": (32, 64), "s3d": (16, 64)}


def noise(num_frames: int, size_px: int) -> np.ndarray:
    shape = (3, num_frames, size_px, size_px)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def explain(name: str, class_index: int, clip: np.ndarray | None = None) -> np.ndarray:
    frames, px = SIZES.get(name, (8, 32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(name, num_classes=2, num_frames=frames, size_px=px).eval()
    card = model_card(name, num_frames=frames, size_px=px)
    return class_saliency(model, card, noise(frames, px) if clip is None else clip, class_index)


def test_every_network_has_a_layer_to_explain() -> None:
    assert saliency._LAYERS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_says_where_it_looks(name: str) -> None:
    frames, px = SIZES.get(name, (8, 32))
    found = [explain(name, class_index) for class_index in (0, 1)]
    for one in found:
        assert one.shape == (frames, px, px)
        assert one.dtype == np.float32
        assert np.isfinite(one).all()
        assert one.min() >= 0
    # What speaks for one of two classes speaks against the other.
    assert max(one.max() for one in found) == 1


class Brightness(nn.Module):
    """Tells light from dark, by the mean of what its one layer passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.block3 = nn.AvgPool3d((2, 4, 4))

    def forward(self, clips: Tensor) -> Tensor:
        mean = self.block3(clips).mean(dim=(1, 2, 3, 4))
        return torch.stack([mean, -mean], dim=1)


def lit_clip() -> np.ndarray:
    clip = np.zeros((3, 8, 16, 16), dtype=np.uint8)
    clip[:, 4:6, :4, 12:] = 200
    return clip


def test_what_the_class_rests_on_is_found_in_space_and_time() -> None:
    card = model_card(num_frames=8, size_px=16)
    found = class_saliency(Brightness(), card, lit_clip(), 0)
    # Enlarged smoothly: the middle of the lit place, and nothing far from it.
    assert found.max() == 1
    frame, row, column = (int(place[0]) for place in np.nonzero(found == 1))
    assert (frame in (4, 5), row < 4, column >= 12) == (True, True, True)
    assert found[:2].max() == 0
    assert found[:, 8:].max() == 0
    assert found[:, :, :8].max() == 0


def test_what_speaks_against_a_class_counts_as_nothing() -> None:
    card = model_card(num_frames=8, size_px=16)
    assert class_saliency(Brightness(), card, lit_clip(), 1).max() == 0


def test_what_all_classes_share_tells_none() -> None:
    class Shared(Brightness):
        def forward(self, clips: Tensor) -> Tensor:
            mean = self.block3(clips).mean(dim=(1, 2, 3, 4))
            return torch.stack([mean, mean], dim=1)

    card = model_card(num_frames=8, size_px=16)
    assert class_saliency(Shared(), card, lit_clip(), 0).max() == 0


def test_the_network_and_the_clip_stay_as_they_were() -> None:
    model, card = Brightness(), model_card(num_frames=8, size_px=16)
    clip = lit_clip()
    clip.flags.writeable = False
    class_saliency(model, card, clip[:, ::-1], 0)
    assert not model.block3._forward_hooks
    assert not model.block3._forward_pre_hooks
    assert (clip == lit_clip()).all()


def test_shares_of_frames_are_of_the_largest() -> None:
    values = np.zeros((3, 2, 2), dtype=np.float32)
    values[1] = 0.5
    values[2, 0, 0] = 1
    assert frame_shares(values) == [0, 1, 0.5]
    assert frame_shares(np.zeros((2, 2, 2), dtype=np.float32)) == [0, 0]
