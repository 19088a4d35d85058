import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.saliency import measure
from kinetrack.using.inference import Recogniser

from factories import model_card


class Brightness(nn.Module):
    """Tells light from dark, by the mean of what its one layer passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.block3 = nn.AvgPool3d((2, 2, 2))

    def forward(self, clips: Tensor) -> Tensor:
        mean = 50 * self.block3(clips).mean(dim=(1, 2, 3, 4))
        return torch.stack([mean, 0 * mean], dim=1)


def test_covering_what_the_answer_rests_on_costs_most() -> None:
    clip = np.zeros((3, 8, 24, 24), dtype=np.uint8)
    clip[:, :4, :8, :8] = 200
    recogniser = Recogniser(Brightness().eval(), model_card(num_frames=8, size_px=24))
    drops = measure(recogniser, [clip])
    assert drops.most_salient > 0.2
    assert drops.most_salient > drops.by_chance > drops.least_salient
