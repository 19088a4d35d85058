import torch

from kinetrack.learning.models.cnn_lstm import CnnLstm


def build() -> CnnLstm:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CnnLstm(num_classes=3).eval()


def draw_clips() -> torch.Tensor:
    return torch.rand(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def test_network_is_a_cnn_for_each_frame_and_an_lstm_over_them() -> None:
    model, clips = build(), draw_clips()
    with torch.inference_mode():
        one_by_one = torch.stack([model.cnn(clips[:, :, frame]) for frame in range(4)], dim=1)
        expected = model.head(model.lstm(one_by_one)[0][:, -1])
        torch.testing.assert_close(model(clips), expected, atol=1e-5, rtol=1e-4)


def test_order_of_the_frames_matters() -> None:
    model, clips = build(), draw_clips()
    with torch.inference_mode():
        assert not torch.allclose(model(clips), model(clips.flip(2)), atol=1e-5)
