from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.using.inference import Recogniser, load_recogniser

from factories import model_card


@pytest.fixture(scope="module")
def model() -> Small3dCnn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small3dCnn(num_classes=2).eval()


@pytest.fixture(scope="module")
def recogniser(model: Small3dCnn, tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, model, model_card())
    return load_recogniser(folder)


def draw_clips(num_clips: int) -> NDArray[np.uint8]:
    shape = (num_clips, 3, 4, 16, 16)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_recogniser_knows_labels_and_geometry(recogniser: Recogniser) -> None:
    assert recogniser.labels == ("Jump", "Walk")
    assert (recogniser.num_frames, recogniser.size_px) == (4, 16)


def test_probabilities_are_the_softmax_of_the_model(
    recogniser: Recogniser, model: Small3dCnn
) -> None:
    clips = draw_clips(3)
    found = recogniser.probabilities(clips)
    with torch.inference_mode():
        expected = model(torch.from_numpy(clips).float() / 255).softmax(dim=1).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_clips_do_not_influence_each_other(recogniser: Recogniser) -> None:
    clips = draw_clips(3)
    alone = [recogniser.probabilities(clips[place : place + 1])[0] for place in range(3)]
    np.testing.assert_allclose(recogniser.probabilities(clips), alone, atol=1e-6)


def test_clips_are_not_changed(recogniser: Recogniser) -> None:
    clips = draw_clips(1)
    recogniser.probabilities(clips)
    np.testing.assert_array_equal(clips, draw_clips(1))


def test_layout_in_memory_does_not_matter(recogniser: Recogniser) -> None:
    clips = draw_clips(2)
    channels_last = np.ascontiguousarray(clips.transpose(0, 2, 3, 4, 1)).transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(
        recogniser.probabilities(channels_last), recogniser.probabilities(clips), atol=1e-6
    )


def test_clips_may_be_read_only(recogniser: Recogniser) -> None:
    clips = draw_clips(1)
    clips.flags.writeable = False
    assert recogniser.probabilities(clips).shape == (1, 2)


def test_clips_may_be_a_mirrored_view(recogniser: Recogniser) -> None:
    clips = draw_clips(1)
    np.testing.assert_array_equal(
        recogniser.probabilities(clips[..., ::-1]),
        recogniser.probabilities(clips[..., ::-1].copy()),
    )


@pytest.mark.parametrize(
    ("clips", "found"),
    [
        (draw_clips(1).astype(np.float32), "float32"),
        (draw_clips(1)[0], r"uint8 \(3, 4, 16, 16\)"),
        (draw_clips(1).transpose(0, 2, 3, 4, 1), r"uint8 \(1, 4, 16, 16, 3\)"),
        (draw_clips(1)[:, :, :3], r"uint8 \(1, 3, 3, 16, 16\)"),
    ],
)
def test_clips_of_another_type_or_shape_are_refused(
    recogniser: Recogniser, clips: NDArray[np.generic], found: str
) -> None:
    with pytest.raises(ValueError, match=rf"clips {found}.*expected uint8 \(N, \(3, 4, 16, 16\)\)"):
        recogniser.probabilities(clips)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json: cannot be read"):
        load_recogniser(tmp_path)
