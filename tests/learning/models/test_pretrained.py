import copy
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights, resnet18

from kinetrack.errors import InputError
from kinetrack.learning.models import NETWORKS, ModelName, build_model
from kinetrack.learning.models.pretrained import (
    freeze_backbone,
    list_published,
    load_pretrained,
)


def build(name: ModelName = "small_3dcnn", *, num_classes: int = 2, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(name, num_classes=num_classes, num_frames=32, size_px=32)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(state: object, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def load(model: nn.Module, path: Path, name: ModelName = "small_3dcnn") -> str:
    return load_pretrained(model, name, weights=str(path), sha256=sha256_of(path))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_all_but_the_head_comes_from_the_file(tmp_path: Path, suffix: str) -> None:
    other = build(num_classes=5, seed=1)
    other.train()(torch.rand(2, 3, 4, 16, 16))  # statistics of its own
    path = save(other.state_dict(), tmp_path / f"start{suffix}")
    model, fresh = build(), build().state_dict()
    assert load(model, path) == sha256_of(path)
    for key, values in model.state_dict().items():
        wanted = fresh if key.startswith("head.") else other.state_dict()
        assert torch.equal(values, wanted[key]), key


def test_head_is_not_taken_even_where_it_fits(tmp_path: Path) -> None:
    path = save(build(seed=1).state_dict(), tmp_path / "start.pt")
    model = build()
    load(model, path)
    assert torch.equal(model.head.weight, build().head.weight)


def test_published_part_of_a_network_is_filled_alone(tmp_path: Path) -> None:
    resnet, model = resnet18(), build("cnn_lstm")
    path = save(resnet.state_dict(), tmp_path / "resnet18.pth")
    load(model, path, "cnn_lstm")
    assert torch.equal(model.cnn.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    assert torch.equal(model.lstm.weight_ih_l0, build("cnn_lstm").lstm.weight_ih_l0)


def test_whole_network_with_a_published_part_is_filled_whole(tmp_path: Path) -> None:
    other, model = build("cnn_lstm", num_classes=3, seed=1), build("cnn_lstm")
    path = save(other.state_dict(), tmp_path / "mine.safetensors")
    load(model, path, "cnn_lstm")
    assert torch.equal(model.lstm.weight_ih_l0, other.lstm.weight_ih_l0)
    assert torch.equal(model.cnn.conv1.weight, other.cnn.conv1.weight)


State = dict[str, Tensor]


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: values for name, values in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"more": torch.zeros(1)}, "found more, which the network does not"),
        (
            lambda state: state | {"block2.0.weight": torch.zeros(32, 16, 3, 3, 1)},
            r"found block2\.0\.weight \(32, 16, 3, 3, 1\), expected .* \(32, 16, 3, 3, 3\)",
        ),
        (without("block3.1.bias"), r"does not fit small_3dcnn, found no block3\.1\.bias"),
        (lambda _: {}, "holds no weights of small_3dcnn, found 0 tensors"),
        (lambda state: {"head.bias": state["head.bias"]}, "holds no weights of small_3dcnn"),
        (lambda state: {"model": state}, "holds no weights, expected a state dict"),
        (lambda state: list(state.values()), "holds no weights, expected a state dict"),
        (lambda state: state | {"block1.1.bias": 3}, "holds no weights, expected a state dict"),
        (
            lambda state: state | {"x": torch.zeros(1, device="meta")},
            "holds no weights, found asks",
        ),
    ],
)
def test_file_that_does_not_fit_is_refused_and_changes_nothing(
    tmp_path: Path, change: Callable[[State], object], reason: str
) -> None:
    path = save(change(build(seed=1).state_dict()), tmp_path / "start.pth")
    model = build()
    with pytest.raises(InputError, match=rf"start\.pth: .*{reason}") as caught:
        load(model, path)
    assert "\n" not in str(caught.value)
    for key, values in build().state_dict().items():
        assert torch.equal(model.state_dict()[key], values), key


def test_count_of_batches_may_lack(tmp_path: Path) -> None:
    state = without("block1.1.num_batches_tracked")(build(seed=1).state_dict())
    load(build(), save(state, tmp_path / "old.pth"))


class Attack:
    """Makes a file where the pickle that holds it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, name: str, write: str) -> None:
    state = {"block1.0.weight": Attack(tmp_path / "executed")}
    path = tmp_path / name
    if write == "torch":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(InputError, match="holds no weights") as caught:
        load(build(), path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04", b"text", b"\xff" * 40])
def test_file_that_is_no_weights_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="holds no weights"):
        load(build(), tmp_path / name)


def test_checksum_is_compared_before_the_file_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"a\.pth: is not what model\.weights_sha256 names, found"):
        load_pretrained(build(), "small_3dcnn", weights=str(path), sha256="0" * 64)


def test_file_needs_a_checksum_and_the_refusal_tells_it(tmp_path: Path) -> None:
    path = save(build().state_dict(), tmp_path / "a.pth")
    told = rf"model\.weights_sha256 is null -> .* model\.weights_sha256: {sha256_of(path)}"
    with pytest.raises(InputError, match=told):
        load_pretrained(build(), "small_3dcnn", weights=str(path), sha256=None)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(Path.mkdir, "is no regular file"), (lambda _: None, "does not exist")],
)
def test_file_that_cannot_be_read_is_named(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "a.pth")
    with pytest.raises(InputError, match=rf"a\.pth: {reason}"):
        load_pretrained(build(), "small_3dcnn", weights=str(tmp_path / "a.pth"), sha256="0" * 64)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("small_3dcnn", r"a file \.pth"),
        ("r3d_18", r"KINETICS400_V1, a file \.pth \.pt \.safetensors"),
        ("cnn_lstm", r"IMAGENET1K_V1, a file \.pth"),
    ],
)
def test_wrong_name_is_answered_with_the_right_ones(name: ModelName, names: str) -> None:
    reason = rf"model\.weights names no weights of {name}, found IMAGENET, expected {names}"
    with pytest.raises(InputError, match=reason):
        load_pretrained(build("small_3dcnn"), name, weights="IMAGENET", sha256=None)


def test_every_network_of_torchvision_has_published_weights() -> None:
    for name, network in NETWORKS.items():
        urls = list_published(name)
        assert bool(urls) == (network.published is not None)
        assert all(url.startswith("https://download.pytorch.org/") for url in urls.values())


class Published(NamedTuple):
    """Weights of mc3_18 with a URL of the test's own."""

    path: Path
    cached: Path


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A file that stands for what torchvision publishes, and where it will be put."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    path = save(build("mc3_18", num_classes=400, seed=1).state_dict(), tmp_path / "made.pth")
    path = path.rename(tmp_path / f"mc3_18-{sha256_of(path)[:8]}.pth")
    monkeypatch.setattr(get_model_weights("mc3_18").DEFAULT.value, "url", path.as_uri())
    return Published(path, tmp_path / "cache/hub/checkpoints" / path.name)


def load_published(sha256: str | None = None) -> str:
    return load_pretrained(build("mc3_18"), "mc3_18", weights="KINETICS400_V1", sha256=sha256)


def test_published_weights_are_downloaded_once(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = sha256_of(published.path)
    assert load_published() == sha256
    assert sha256_of(published.cached) == sha256
    published.path.unlink()
    assert load_published(sha256) == sha256
    assert capsys.readouterr() == ("", "")


def test_published_weights_have_to_be_those_of_the_checksum(published: Published) -> None:
    with pytest.raises(InputError, match=r"is not what model\.weights_sha256 names"):
        load_published("0" * 64)


def test_damaged_file_in_the_cache_is_named(published: Published) -> None:
    published.cached.parent.mkdir(parents=True)
    published.cached.write_bytes(published.path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"mc3_18-.*\.pth: is damaged, .* -> remove it"):
        load_published()


def test_download_that_is_not_what_it_should_be_is_not_kept(published: Published) -> None:
    published.path.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(InputError, match=r"cannot be downloaded .*invalid hash value"):
        load_published()
    assert list(published.cached.parent.iterdir()) == []


def test_without_network_the_way_out_is_told_in_one_line(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:1/mc3_18-00000000.pth"  # nobody listens there
    monkeypatch.setattr(get_model_weights("mc3_18").DEFAULT.value, "url", url)
    reason = rf"no network\?.*download URL {url} .*`model\.weights: PATH`.*`model\.weights_sha256`"
    with pytest.raises(InputError, match=reason) as caught:
        load_published()
    assert "\n" not in str(caught.value)
    assert list(published.cached.parent.iterdir()) == []


TRAINABLE = {
    "small_3dcnn": {"head"},
    "cnn_lstm": {"head", "lstm"},
    "mc3_18": {"fc"},
    "s3d": {"classifier"},
    "mvit_v2_s": {"head"},
    "swin3d_t": {"head"},
}


@pytest.mark.parametrize("name", TRAINABLE)
def test_only_the_head_of_a_frozen_network_is_trained(name: ModelName) -> None:
    with torch.device("meta"):
        model = build(name)
    freeze_backbone(model, name)
    trainable = [key for key, values in model.named_parameters() if values.requires_grad]
    assert {key.partition(".")[0] for key in trainable} == TRAINABLE[name]


def test_frozen_batch_norm_does_not_see_the_batch() -> None:
    model, clips = build(), torch.rand(4, 3, 4, 16, 16)
    expected = model.eval()(clips)
    before = {key: values.clone() for key, values in model.state_dict().items()}
    freeze_backbone(model, "small_3dcnn")
    for _ in range(2):
        assert torch.equal(model.train()(clips), expected)
    for key, values in model.state_dict().items():
        assert torch.equal(values, before[key]), key


def test_copy_of_a_frozen_network_is_frozen_by_itself() -> None:
    model, clips = build(), torch.rand(4, 3, 4, 16, 16)
    freeze_backbone(model, "small_3dcnn")
    twin = copy.deepcopy(model)
    assert torch.equal(twin.train()(clips), model.eval()(clips))
    assert not twin.block1[1].training
