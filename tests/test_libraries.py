"""Networks of torchvision and timm by name: what is fitted to small images, pre-trained files, and what is refused."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from reference_models import noise
from safetensors.torch import save_file
from tiny import Cli
from torch import nn

from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.models import MODELS, Model, build_model, lanes, resolved
from distill_prune.models.fitting import Hardsigmoid, Means, outlined, reductions, repeatable, without
from distill_prune.models.torchvision import Attention
from distill_prune.settings import digest
from distill_prune.training import flops_of_step
from distill_prune.vision import classifier, classifiers

DIGITS, CLASSES = (1, 8, 8), 3
ARCHS = ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "regnet_y_400mf", "mnasnet0_5"]


def settings_of(arch: str, **changes: Any) -> Any:
    return MODELS["torchvision"].Settings.model_validate({"name": "torchvision", "arch": arch, **changes})


def built(arch: str, shape: tuple[int, ...] = DIGITS, **changes: Any) -> Model:
    return build_model(settings_of(arch, **changes), shape, CLASSES)


def doubled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t.double() if t.is_floating_point() else t for n, t in state.items()}


@pytest.mark.parametrize("arch", ARCHS)
def test_networks_of_torchvision_take_small_images(arch: str) -> None:
    """Prunable are weights of convolutions and the head; every one has a gradient, and so has that gradient's norm, in float64.
    The state goes out and in, and one seed gives one state."""
    model = built(arch)
    state, x = doubled(model.fresh(0, "a")), noise(2, *DIGITS)
    assert all(n.endswith(".weight") and state[n].dim() in (2, 4) for n in model.prunable)
    weights = [state[n].requires_grad_() for n in model.prunable]
    loss = F.cross_entropy(model(state, x), torch.tensor([0, 2]))
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    assert all(g.isfinite().all() for g in gradients)
    (second,) = torch.autograd.grad(gradients[0].square().sum(), weights[:1])
    assert bool(second.isfinite().all()) and bool(second.abs().sum() > 0)
    state = {n: t.detach() for n, t in state.items()}
    assert torch.equal(model.instance(state)(x), model(state, x))
    assert flops_of_step(model, 2, torch.Size(DIGITS)) > 0


def test_one_seed_gives_one_state_and_leaves_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    model = built("shufflenet_v2_x0_5")
    first, again, other = model.fresh(1, "a"), model.fresh(1, "a"), model.fresh(2, "a")
    assert all(torch.equal(t, again[n]) for n, t in first.items()) and not torch.equal(first["fc.weight"], other["fc.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_draws_nothing() -> None:
    model = built("mobilenet_v3_small")
    state, x = model.fresh(0, "a"), noise(4, *DIGITS).float()
    assert torch.equal(model(dict(state), x, train=True), model(dict(state), x, train=True))
    drops = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5))
    assert torch.equal(repeatable(drops).train()(x), x)


def test_a_small_resnet_is_the_usual_one_of_cifar() -> None:
    small, large = built("resnet18", (3, 32, 32)).module, built("resnet18", (1, 64, 64)).module
    assert (small.conv1.kernel_size, small.conv1.stride, small.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(small.maxpool, nn.Identity) and isinstance(large.maxpool, nn.MaxPool2d)
    assert (large.conv1.kernel_size, large.conv1.stride, large.conv1.in_channels) == ((7, 7), (2, 2), 1)
    assert sum(p.numel() for p in small.parameters()) == 11_173_962 - 7 * 513  # that of CIFAR-10, with 3 classes


def test_as_torchvision_has_it_where_nothing_is_to_fit() -> None:
    ours, theirs = built("resnet18", (3, 64, 64)).module, classifier("resnet18", CLASSES).eval()
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x))


def test_reductions_by_four_are_left_out() -> None:
    """Layers side by side go together; a stem that divides by four is enough."""
    assert reductions(outlined(lambda: classifier("squeezenet1_1", 2))) == ("features.0", "features.2")
    regnet = ("stem.0", "trunk_output.block1.block1-0.proj.0", "trunk_output.block1.block1-0.f.b.0")
    assert reductions(outlined(lambda: classifier("regnet_x_400mf", 2))) == regnet
    patches = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 5, 2, 2), nn.AvgPool2d(2))
    assert reductions(outlined(lambda: patches)) == ("0",)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2, 1), nn.MaxPool2d(2))
    assert reductions(outlined(lambda: plain)) == ("1", "2")
    fitted = without(nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2, 1)), ("1", "2"))
    assert fitted(torch.zeros(1, 3, 5, 6)).shape == (1, 4, 5, 6)


@pytest.mark.parametrize(("sides", "shape"), [((7, 7), (2, 2)), ((7, 7), (7, 7)), ((6, 6), (13, 15)), ((2, 3), (5, 4))])
def test_means_are_those_of_torch(sides: tuple[int, int], shape: tuple[int, int]) -> None:
    x = noise(2, 3, *shape)
    torch.testing.assert_close(Means(sides)(x), nn.AdaptiveAvgPool2d(sides)(x), rtol=1e-12, atol=1e-12)


def test_a_hard_sigmoid_is_that_of_torch() -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    torch.testing.assert_close(Hardsigmoid()(x), nn.Hardsigmoid()(x))


def test_attention_is_that_of_torch_and_has_second_derivatives() -> None:
    before = nn.MultiheadAttention(8, 2, batch_first=True)
    nn.init.normal_(before.in_proj_bias)
    ours, x = Attention(before).double(), noise(2, 5, 8).requires_grad_()
    before.double()
    torch.testing.assert_close(ours(x, x, x, need_weights=False)[0], before(x, x, x)[0], rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradgradcheck(lambda y: ours(y)[0], x[:, :2, :].detach().requires_grad_())
    assert {n for n, _ in ours.named_parameters()} == {f"{p}_proj.{w}" for p in ("in", "out") for w in ("weight", "bias")}


# -- pre-trained files


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A file's content: 5 classes, 3 channels, and as old files are, without a count of batches."""
    full = classifier("shufflenet_v2_x0_5", 5).state_dict()
    return {n: torch.full_like(t, 0.5) for n, t in full.items() if not n.endswith("num_batches_tracked")}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_training_begins_at_the_weights_of_a_file(state: dict[str, torch.Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    model = build_model(resolved(settings_of("shufflenet_v2_x0_5", path=str(path), redraw=["head", "first"])), DIGITS, CLASSES)
    begin, drawn = model.fresh(0, "a"), model.drawn(0, "a")
    parts = {"conv1.0.weight", "fc.weight", "fc.bias"}
    assert all(torch.equal(t, drawn[n]) for n, t in begin.items() if n in parts or n.endswith("tracked"))
    assert all(bool((t == 0.5).all()) for n, t in begin.items() if n not in parts and not n.endswith("tracked"))


def test_the_key_has_the_file_s_hash_and_not_its_path(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    shutil.copy(tmp_path / "a.pth", tmp_path / "b.pth")
    torch.save({n: t + 1 for n, t in state.items()}, tmp_path / "c.pth")
    a, b, c = (resolved(settings_of("resnet18", path=str(tmp_path / f"{n}.pth"), redraw=["head"])) for n in "abc")
    keys = [digest(s.identity()) for s in (a, b, c, settings_of("resnet18"))]
    assert a.weights and "path" not in a.identity() and keys[0] == keys[1] and len(set(keys)) == 3
    one, other = (settings_of("resnet18", path="a", redraw=parts) for parts in (["first", "head"], ["head", "first"]))
    assert one == other


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            r"conv1.0.weight \(24, 3, 3, 3\)\n  expected: conv1.0.weight \(24, 1, 3, 3\)\n  fix:      redraw: \[first\]",
        ),
        ({"redraw": ["first"]}, r"got:      fc.weight \(5, 1024\)(?s:.)*fix:      redraw: \[first, head\]"),
        ({"redraw": ["head", "first"], "arch": "shufflenet_v2_x1_0"}, "fix:      the weights of this network"),
        (
            {"redraw": ["head", "first"], "arch": "squeezenet1_1"},
            r"tensors without features(?s:.)*fix:      the weights of this",
        ),
        ({"redraw": ["head", "first"], "weights": "0" * 64}, "not the one that model 'torchvision' names by its weights"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(state, tmp_path, changes, said):
    torch.save(state, tmp_path / "net.pth")
    settings = settings_of(**{"arch": "shufflenet_v2_x0_5", "path": str(tmp_path / "net.pth"), **changes})
    model = build_model(resolved(settings), DIGITS, CLASSES)
    with pytest.raises(DataError, match=said):
        model.fresh(0, "a")


def test_files_with_more_or_other_tensors_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    model = built("shufflenet_v2_x0_5", path=str(path), redraw=["first", "head"])
    torch.save({**state, "aux1.fc.weight": torch.ones(2)}, path)
    assert "aux1.fc.weight" not in model.fresh(0, "a")  # an auxiliary output, which is off
    torch.save({**state, "more.weight": torch.ones(2)}, path)
    with pytest.raises(DataError, match=r"another network's\n  got:      more.weight"):
        model.fresh(0, "a")
    torch.save({**state, "conv5.0.weight": state["conv5.0.weight"] * float("nan")}, path)
    with pytest.raises(DataError, match=r"'conv5.0.weight' of '.*' is not finite"):
        model.fresh(0, "a")
    with pytest.raises(DataError, match="there is no file"):
        resolved(settings_of("resnet18", path=str(tmp_path / "none.pth")))
    with pytest.raises(ValidationError, match="redraw: it says what is not read"):
        settings_of("resnet18", redraw=["head"])


def test_old_names_of_a_densenet_are_read() -> None:
    from distill_prune.models.torchvision import _renamed

    assert _renamed("features.denseblock1.denselayer2.norm.1.weight") == "features.denseblock1.denselayer2.norm1.weight"
    assert _renamed("features.norm5.weight") == "features.norm5.weight" and _renamed("AuxLogits.fc.weight") is None
    assert _renamed("encoder.self_attention.in_proj_weight") == "encoder.self_attention.in_proj.weight"


# -- refusals


@pytest.mark.parametrize(
    ("arch", "shape", "said"),
    [
        (
            "alexnet",
            DIGITS,
            r"network 'alexnet' cannot take images of shape \(1, 8, 8\)(?s:.)*Output size is too small",
        ),
        ("vit_b_16", (3, 28, 28), "network 'vit_b_16' cannot take(?s:.)*indivisible by patch size"),
        ("vit_b_16", (3, 32, 48), "a vision transformer takes square images"),
        ("resnet18", (2, 12), "it takes images"),
    ],
)
def test_images_that_a_network_cannot_take(arch, shape, said):
    with pytest.raises(ConfigError, match=said):
        build_model(settings_of(arch), shape, CLASSES)


def test_names_that_are_not_there_are_refused(cli: Cli, file: str) -> None:
    assert len(classifiers()) > 70
    done = cli("plan", file, "--set", "model={name: torchvision, arch: resnet19}")
    assert done.code == 2 and "no classification network 'resnet19'\n  expected: did you mean 'resnet18'?" in done.err, done.err
    with pytest.raises(ValidationError, match="'swin_t' has fused attention on windows"):
        settings_of("swin_t")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"'timm' needs a package that is missing: timm: pip install 'distill-prune\[timm\]'"):
        MODELS["timm"].Settings.model_validate({"arch": "resnet18"})


# -- lanes


def test_lanes_take_networks_that_keep_channels_apart_and_refuse_others() -> None:
    model = built("resnet18")
    states = [model.fresh(i, "a") for i in range(2)]
    x = torch.randn(2, 2, *DIGITS, generator=torch.Generator().manual_seed(0))
    together = lanes.outputs(lanes.network(model, states).eval()(lanes.side_by_side(x)), 2)
    torch.testing.assert_close(together[1], model(states[1], x[1]), rtol=1e-4, atol=1e-5)
    for arch in ("squeezenet1_1", "shufflenet_v2_x0_5"):
        joined = built(arch)
        with pytest.raises(UserError, match=r"in lanes: it joins, splits or mixes channels(?s:.)*lanes: 1"):
            lanes.network(joined, [joined.fresh(i, "a") for i in range(2)])


# -- timm


needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


@needs_timm
@pytest.mark.parametrize("arch", ["resnet10t", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_networks_of_timm_take_small_images(arch: str) -> None:
    shape = (1, 32, 32)
    model = build_model(MODELS["timm"].Settings.model_validate({"arch": arch}), shape, CLASSES)
    state, x = doubled(model.fresh(0, "a")), noise(2, *shape)
    weights = [state[n].requires_grad_() for n in model.prunable]
    gradients = torch.autograd.grad(model(state, x, train=True).square().sum(), weights, create_graph=True)
    assert torch.autograd.grad(gradients[0].square().sum(), weights[0])[0].isfinite().all()


@needs_timm
def test_a_network_of_timm_that_is_not_there() -> None:
    with pytest.raises(ValidationError, match="timm has no network 'resnet19': did you mean 'resnet1"):
        MODELS["timm"].Settings.model_validate({"arch": "resnet19"})
