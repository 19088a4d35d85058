from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinetrack.learning.models.pooling import (
    GlobalAverage,
    average_pool,
    largest_of_cubes,
    max_pool,
)

Pooling = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (lambda x: max_pool(x, (2, 2, 2)), lambda x: F.max_pool3d(x, 2)),
        (lambda x: largest_of_cubes(x, (2, 2, 2)), lambda x: F.max_pool3d(x, 2)),
        (lambda x: largest_of_cubes(x, (1, 2, 3)), lambda x: F.max_pool3d(x, (1, 2, 3))),
        (lambda x: average_pool(x, 4), lambda x: F.avg_pool3d(x, 4)),
        (GlobalAverage(), lambda x: F.adaptive_avg_pool3d(x, 1)),
    ],
    ids=["max", "largest", "largest uneven", "average", "global"],
)
def test_pooling_is_that_of_torch_with_its_gradient(ours: Pooling, torchs: Pooling) -> None:
    values = torch.rand(2, 3, 5, 9, 11, generator=torch.Generator().manual_seed(0))
    found, expected = (values.clone().requires_grad_(True) for _ in range(2))
    outputs = ours(found), torchs(expected)
    torch.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        torch.autograd.backward((output * torch.arange(output.numel()).view_as(output)).sum())
    torch.testing.assert_close(found.grad, expected.grad)


@pytest.mark.gpu
def test_gradient_on_cuda_is_the_same_on_every_run() -> None:
    torch.use_deterministic_algorithms(mode=True)
    try:
        values = torch.rand(2, 3, 8, 32, 32, device="cuda", requires_grad=True)
        gradients = [
            torch.autograd.grad(average_pool(max_pool(values, (2, 2, 2)), 2).square().sum(), values)
            for _ in range(5)
        ]
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert all(torch.equal(gradients[0][0], other[0]) for other in gradients)
