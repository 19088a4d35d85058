import pytest
import torch

from kinetrack.errors import InputError
from kinetrack.learning.device import DEVICE_VARIABLE, choose_device, make_repeatable


def test_device_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize("name", [None, ""])
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_device_is_the_cpu_without_cuda(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    if name is None:
        monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(DEVICE_VARIABLE, name)
    assert choose_device() == torch.device("cpu")


@pytest.mark.gpu
def test_device_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    assert choose_device().type == "cuda"


@pytest.mark.parametrize(
    "name",
    [
        "gpu",
        "CPU",
        "cpu ",
        "cuda:99",
        "mps",
        "xla",
        "hpu",
        "meta",
    ],
)
def test_device_that_is_not_there_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, name)
    with pytest.raises(
        InputError, match=rf"^{DEVICE_VARIABLE}: names no device.* {name}"
    ) as caught:
        choose_device()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("torch_settings")
def test_random_numbers_repeat() -> None:
    make_repeatable(seed=5, threads=1)
    first = torch.rand(3)
    make_repeatable(seed=5, threads=1)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.usefixtures("torch_settings")
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_fixed(threads: int) -> None:
    make_repeatable(seed=0, threads=threads)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("torch_settings")
def test_kernels_are_not_chosen_by_their_speed() -> None:
    torch.backends.cudnn.benchmark = True
    make_repeatable(seed=0, threads=1)
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic
