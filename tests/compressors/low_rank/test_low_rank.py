"""Convolutions factored into thinner ones, where that pays."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compressors.contract import Workbench
from compressors.latency import estimated_latency
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank.decompose import Form, decompose
from compressors.low_rank.method import LowRank, factor, factorable, refuse_out_of_reach
from compressors.planning.graph import Menu
from compressors.target import Target
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.data.dataset import Images
from detection.evaluation import as_planes
from detection.frozen import InputError
from detection.spec import Factored, Ranks, Spec, full_ranks
from hardware_profiles.schema.library import load_profile
from tests.module_factory import module_detector

TRUE_RANK = 4
EVERYWHERE: dict[str, Any] = {"round_to": 1, "least_saving": 0.0, "only_if_faster": False}


def thin_kernel(shape: torch.Size, rank: int, rng: np.random.Generator) -> Tensor:
    """A kernel of exactly this rank on both sides."""
    outputs, inputs, height, width = shape
    core = rng.normal(size=(rank, rank, height, width))
    left, right = rng.normal(size=(outputs, rank)), rng.normal(size=(inputs, rank))
    return torch.tensor(np.einsum("abhw,oa,ib->oihw", core, left, right) / inputs, dtype=torch.float32)


@pytest.fixture(scope="module")
def thin(tiny_detector: Detector) -> Detector:
    """The tiny detector with kernels of rank 4 wherever 3x3 kernels see more than 8 channels."""
    rng = np.random.default_rng(0)
    weights = dict(tiny_detector.weights)
    for name in wide(tiny_detector):
        weights[f"{name}.weight"] = thin_kernel(weights[f"{name}.weight"].shape, TRUE_RANK, rng)
    return Detector(tiny_detector.spec, MappingProxyType(weights))


def wide(detector: Detector) -> list[str]:
    """Names of the 3x3 convolutions of more than 8 channels."""
    return [name for name, kernel in factorable(detector).items() if kernel.shape[-1] == 3 and kernel.shape[1] > 8]


def answers(detector: Detector, images: Images) -> tuple[Tensor, Tensor]:
    """Score and box logits for two pictures."""
    pixels = torch.from_numpy(np.concatenate([as_planes(images.pixels[row]) for row in range(2)]))
    with torch.no_grad():
        outputs = detector.network()(pixels)
    return outputs.score_logits, outputs.box_logits


@pytest.mark.parametrize("form", ["tucker", "spatial_svd"])
def test_full_ranks_leave_the_answers(form: Form, tiny_detector: Detector, tiny_train: Images) -> None:
    """With every layer at full rank the whole network says what it said, to 1e-5 of its largest logit."""
    kernels = factorable(tiny_detector)
    full = {name: full_ranks(kernel.shape, two=form == "tucker" and kernel.shape[-1] > 1) for name, kernel in kernels.items()}
    after = tiny_detector.spec.edited(Factored(layers=full))
    weights = dict(tiny_detector.weights)
    for name, ranks in full.items():
        row = decompose(weights.pop(f"{name}.weight"), ranks)
        weights |= {f"{name}.{part}.weight": kernel for part, kernel in enumerate(row)}
    for was, now in zip(
        answers(tiny_detector, tiny_train), answers(Detector(after, MappingProxyType(weights)), tiny_train), strict=True
    ):
        torch.testing.assert_close(now, was, rtol=0, atol=1e-5 * float(was.abs().max()))


def test_the_ranks_are_found_where_kernels_are_thin(thin: Detector, tiny_train: Images, workbench: Workbench) -> None:
    """Kernels of rank 4 lose nothing when all their energy is kept: the ranks are found and the outputs stay."""
    factored, change = factor(thin, LowRank(energy=1.0, round_to=1, only_if_faster=False), workbench)
    found = {name: (ranks["inputs"], ranks["outputs"]) for name, ranks in change.details["ranks"].items()}
    # Worth it for the thinnest of them, 16 to 16 channels: 16 * 4 + 4 * 4 * 9 + 4 * 16 = 272 of 2304.
    assert {name: found.get(name) for name in wide(thin)} == dict.fromkeys(wide(thin), (TRUE_RANK, TRUE_RANK))
    assert change.macs_after < 0.8 * change.macs_before
    for was, now in zip(answers(thin, tiny_train), answers(factored, tiny_train), strict=True):
        torch.testing.assert_close(now, was, rtol=0, atol=1e-4 * float(was.abs().max()))


def test_evbmf_finds_the_ranks_under_noise(thin: Detector, workbench: Workbench) -> None:
    """With a little noise on kernels of rank 4, EVBMF finds 4 on both sides of most layers, and all energy would find none."""
    generator = torch.Generator().manual_seed(0)
    weights = dict(thin.weights)
    for name in wide(thin):
        kernel = weights[f"{name}.weight"]
        weights[f"{name}.weight"] = kernel + 0.01 * float(kernel.std()) * torch.randn(kernel.shape, generator=generator)
    noisy = Detector(thin.spec, MappingProxyType(weights))
    ranks = factor(noisy, LowRank(evbmf=True, round_to=1, only_if_faster=False), workbench)[1].details["ranks"]
    found = [(ranks[name]["inputs"], ranks[name]["outputs"]) for name in wide(thin)]
    assert found == [(TRUE_RANK, TRUE_RANK)] * len(found)
    everything = factor(noisy, LowRank(energy=1.0, round_to=1, only_if_faster=False), workbench)[1].details["ranks"]
    assert not set(everything) & set(wide(thin))


def with_singular_values(values: list[float], shape: torch.Size) -> Tensor:
    """A 1x1 kernel with these singular values, between orthogonal matrices drawn by numpy."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(shape[0], shape[0])))[0][:, : len(values)]
    right = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0][:, : len(values)]
    return torch.tensor(left @ np.diag(values) @ right.T, dtype=torch.float32)[:, :, None, None]


def lateral_ranks(detector: Detector, config: LowRank, workbench: Workbench) -> Any:
    """Ranks of the 1x1 convolution from 32 to 16 channels after its kernel got the singular values 3, 2, 1, 0.5."""
    name = "neck.laterals.2.0"
    kernel = with_singular_values([3, 2, 1, 0.5], detector.weights[f"{name}.weight"].shape)
    given = Detector(detector.spec, MappingProxyType(dict(detector.weights) | {f"{name}.weight": kernel}))
    return factor(given, config, workbench)[1].details["ranks"].get(name)


@pytest.mark.parametrize(("energy", "rank"), [(0.63, 1), (0.75, 2), (0.95, 3), (1.0, 4)])
def test_ranks_by_energy_by_hand(energy: float, rank: int, tiny_detector: Detector, workbench: Workbench) -> None:
    """Energy 9 + 4 + 1 + 0.25 = 14.25: 0.63 takes one singular value, 0.75 takes two, 0.95 three, 1.0 four."""
    config = LowRank(energy=energy, **EVERYWHERE)
    assert lateral_ranks(tiny_detector, config, workbench) == {"inputs": None, "outputs": rank}


def test_ranks_are_rounded_up_and_at_most_full(tiny_detector: Detector, workbench: Workbench) -> None:
    """A needed rank of 2 becomes 8; rounded to 24 it is 16, which is full, and saves nothing."""
    config = LowRank(energy=0.75, only_if_faster=False, least_saving=0.0)
    assert lateral_ranks(tiny_detector, config, workbench) == {"inputs": None, "outputs": 8}
    assert lateral_ranks(tiny_detector, config.model_copy(update={"round_to": 24}), workbench) is None


def test_ranks_of_3x3_kernels_against_numpy(tiny_detector: Detector, workbench: Workbench) -> None:
    """Every rank is the least that keeps the energy of numpy's singular values of its unfolding."""

    def needed(matrix: Any) -> int:
        energy = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
        return 1 + int(np.argmax(np.cumsum(energy) / energy.sum() >= 0.5))

    tucker = factor(tiny_detector, LowRank(energy=0.5, **EVERYWHERE), workbench)[1].details["ranks"]
    spatial = factor(tiny_detector, LowRank(form="spatial_svd", energy=0.5, **EVERYWHERE), workbench)[1].details["ranks"]
    assert len(tucker) > 5
    assert len(spatial) > 5
    for name, kernel in factorable(tiny_detector).items():
        (outputs, inputs, height, width), array = kernel.shape, kernel.numpy()
        if height == 1:
            continue
        rank = needed(array.transpose(1, 2, 0, 3).reshape(inputs * height, outputs * width))
        assert spatial.get(name, {"outputs": rank}) == {"outputs": rank} | ({"inputs": None} if name in spatial else {})
        both = {"inputs": needed(array.transpose(1, 0, 2, 3).reshape(inputs, -1)), "outputs": needed(array.reshape(outputs, -1))}
        assert tucker.get(name, both) == both


@pytest.mark.parametrize("form", ["tucker", "spatial_svd"])
@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_a_share_of_the_multiply_adds_is_reached(form: Form, keep: float, tiny_detector: Detector, workbench: Workbench) -> None:
    """At most the share stays, at most 2 % below it, by one energy; with a little more energy too much would stay."""
    given = {"form": form, "round_to": 1, "only_if_faster": False, "least_saving": 0.0}
    factored, change = factor(tiny_detector, LowRank.model_validate(given | {"keep_macs": keep}), workbench)
    assert count_macs(factored.spec) == change.macs_after
    assert keep - 0.02 < change.macs_after / change.macs_before <= keep
    assert change.details["keep_macs"] == change.macs_after / change.macs_before
    assert change.target == Target(method="low_rank", setting="keep_macs", asked=keep, reached=change.details["keep_macs"])
    energy = change.details["energy"]
    _, same = factor(tiny_detector, LowRank.model_validate(given | {"energy": energy}), workbench)
    _, more = factor(tiny_detector, LowRank.model_validate(given | {"energy": energy + 1e-4}), workbench)
    assert same.details["ranks"] == change.details["ranks"]
    assert more.macs_after > keep * change.macs_before


def test_a_share_out_of_reach_gives_the_least_ranks(tiny_detector: Detector, workbench: Workbench) -> None:
    """A hundredth of the multiply-adds cannot be: every layer gets rank 1, and the summary says that more was wanted."""
    _, change = factor(tiny_detector, LowRank(keep_macs=0.01, **EVERYWHERE), workbench)
    assert {ranks["outputs"] for ranks in change.details["ranks"].values()} == {1}
    assert change.details["keep_macs"] > 0.01
    assert "(1.0% wanted; out of reach)" in change.summary
    assert change.target is not None
    assert change.target.missed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"round_to": 8, "only_if_faster": False}, "round_to 8, least_saving 0.2. Ask"),
        ({"round_to": 1}, "round_to 1, least_saving 0.2, only_if_faster on x86-openvino-1t. Ask"),
        ({"round_to": 1, "only_if_faster": False, "form": "spatial_svd"}, "round_to 1, least_saving 0.2. Ask"),
    ],
)
def test_what_the_least_ranks_forbid_is_refused(
    given: dict[str, Any], words: str, tiny_detector: Detector, workbench: Workbench
) -> None:
    """By its field, with what keeps the ranks up and the least that can be asked for, which then is reached."""
    config = LowRank.model_validate(given | {"keep_macs": 0.01})
    with pytest.raises(InputError, match=r"^low_rank\.keep_macs: 0\.01 is out of reach: ") as refused:
        refuse_out_of_reach(config, tiny_detector, workbench.design_profile)
    assert words in str(refused.value)
    least = float(str(refused.value).split("out of reach: ")[1].split()[0])
    refuse_out_of_reach(config.model_copy(update={"keep_macs": least + 0.001}), tiny_detector, workbench.design_profile)
    target = factor(tiny_detector, config, workbench)[1].target
    assert target is not None
    assert target.reached == pytest.approx(least, abs=0.0006)


def test_ranks_by_energy_have_no_target(tiny_detector: Detector, workbench: Workbench) -> None:
    """So nothing can be out of reach."""
    assert factor(tiny_detector, LowRank(), workbench)[1].target is None
    refuse_out_of_reach(LowRank(), tiny_detector, workbench.design_profile)


def test_a_stride_makes_the_first_1x1_four_times_as_dear(thin: Detector, workbench: Workbench) -> None:
    """stages.3.0.0, 24 -> 32, rank 4, on a quarter of the pixels: 4 * 24 * 4 + 4 * 4 * 9 + 4 * 32 = 656 of 6912, saved 90.5 %."""
    name = "stages.3.0.0"
    for least, expected in ((0.90, True), (0.91, False)):  # at stride 1 it would be 368 of 6912, saved 94.7 %
        _, change = factor(thin, LowRank(energy=1.0, round_to=1, least_saving=least, only_if_faster=False), workbench)
        assert (name in change.details["ranks"]) is expected
        assert (change.details["dense"].get(name) == "saves too little") is not expected


@pytest.mark.parametrize(("latency_in", "dtype"), [("float", "fp32"), ("int8", "int8")])
def test_every_factored_layer_is_faster_on_the_design_profile(
    latency_in: Any, dtype: Any, thin: Detector, workbench: Workbench
) -> None:
    """Taken alone, each factored layer lowers the network's estimate; each that was left dense for it would not lower it."""
    config = LowRank(energy=0.9, round_to=4, latency_in=latency_in)
    _, change = factor(thin, config, workbench)
    _, everywhere = factor(thin, config.model_copy(update={"only_if_faster": False}), workbench)
    before_s = estimated_latency(thin.spec, workbench.design_profile, dtype).point_s
    assert change.details["design_profile"] == workbench.design_profile.id
    for name, ranks in everywhere.details["ranks"].items():
        alone = thin.spec.edited(Factored(layers={name: Ranks.model_validate(ranks)}))
        is_faster = estimated_latency(alone, workbench.design_profile, dtype).point_s < before_s
        assert (name in change.details["ranks"]) is is_faster
        assert is_faster or change.details["dense"][name] == "not faster"


def with_overhead(workbench: Workbench, overhead_us: float) -> Workbench:
    """A bench whose design profile takes this long to start an operator in fp32."""
    profile = workbench.design_profile
    overhead = profile.op_overhead_us.model_copy(update={"fp32": overhead_us})
    return replace(workbench, design_profile=profile.model_copy(update={"op_overhead_us": overhead}))


def test_where_starting_is_dear_nothing_is_factored(thin: Detector, workbench: Workbench) -> None:
    """An overhead of 1 ms an operator outweighs any saving here: the same detector, no effect, and the reason by layer."""
    config = LowRank(energy=1.0, round_to=1)
    same, change = factor(thin, config, with_overhead(workbench, 1000.0))
    assert same.digest == thin.digest
    assert change.no_effect
    assert change.details["ranks"] == {}
    assert {change.details["dense"][name] for name in wide(thin)} == {"not faster"}
    assert "0 of" in change.summary
    assert not factor(thin, config.model_copy(update={"only_if_faster": False}), with_overhead(workbench, 1000.0))[1].no_effect


def test_where_starting_is_free_work_decides(thin: Detector, workbench: Workbench) -> None:
    """Without overhead thin layers are faster in some places: the cheaper starting is, the more is factored."""
    counts = [
        len(factor(thin, LowRank(energy=1.0, round_to=1), with_overhead(workbench, own))[1].details["ranks"])
        for own in (0.0, 1.0, 1000.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 0


def test_a_device_for_int8_alone_is_estimated_in_int8(tiny_detector: Detector, workbench: Workbench) -> None:
    """In float it cannot be asked, and the message names the field that helps; in int8 it can."""
    bench = replace(workbench, design_profile=load_profile("coral-edge-tpu"))
    with pytest.raises(InputError, match=r"low_rank\.only_if_faster.*low_rank\.latency_in"):
        factor(tiny_detector, LowRank(), bench)
    _, change = factor(tiny_detector, LowRank(latency_in="int8"), bench)
    assert set(change.details["ranks"]) | set(change.details["dense"]) == set(factorable(tiny_detector))


def test_depthwise_and_prediction_layers_are_never_factored(tiny_detector: Detector, workbench: Workbench) -> None:
    """A depthwise kernel has nothing to factor; the last prediction convolutions have meanings to keep."""
    light, _ = rebuild(tiny_detector, Lightweight(), workbench)
    _, change = factor(light, LowRank(energy=0.3, **EVERYWHERE), workbench)
    grouped = {name for name, module in light.network().named_modules() if isinstance(module, nn.Conv2d) and module.groups > 1}
    assert len(grouped) > 5
    assert change.details["ranks"]
    assert not grouped & set(change.details["ranks"])
    assert not set(light.network().protected_layers()) & set(change.details["ranks"])


@pytest.mark.parametrize("form", ["tucker", "spatial_svd"])
def test_more_energy_keeps_more(form: Form, tiny_detector: Detector, workbench: Workbench) -> None:
    """With a higher share of energy the network stays larger and each factored layer is at least as wide."""
    changes = [factor(tiny_detector, LowRank(form=form, energy=own, **EVERYWHERE), workbench)[1] for own in (0.2, 0.4, 0.6)]
    macs = [change.macs_after for change in changes]
    assert macs == sorted(macs)
    assert macs[0] < macs[-1] < changes[0].macs_before
    low, high = (change.details["ranks"] for change in (changes[0], changes[-1]))
    assert all(low[name]["outputs"] <= high[name]["outputs"] for name in set(low) & set(high))


@pytest.mark.parametrize("form", ["tucker", "spatial_svd"])
def test_the_edit_records_the_ranks_that_were_chosen(form: Form, tiny_detector: Detector, workbench: Workbench) -> None:
    """The spec's last edit and the change tell the same ranks, also through JSON; the rest of the weights is untouched."""
    factored, change = factor(tiny_detector, LowRank(form=form, energy=0.4, round_to=4, only_if_faster=False), workbench)
    edit = Spec.model_validate_json(factored.spec.model_dump_json(by_alias=True)).edits[-1]
    assert isinstance(edit, Factored)
    assert edit.layers
    assert {name: ranks.model_dump() for name, ranks in edit.layers.items()} == change.details["ranks"]
    kept = [name for name in tiny_detector.weights if name.removesuffix(".weight") not in edit.layers]
    assert all(torch.equal(factored.weights[name], tiny_detector.weights[name]) for name in kept)
    assert all(torch.isfinite(own).all() for own in factored.weights.values())


def test_another_rule_replaces_the_default_energy() -> None:
    """Naming evbmf or keep_macs is enough; energy is 0.75 only where neither is named. A dump reads back as itself."""
    assert LowRank().energy == 0.75
    assert LowRank(keep_macs=0.5).energy is None
    assert LowRank(evbmf=True).energy is None
    for config in (LowRank(), LowRank(energy=0.5), LowRank(keep_macs=0.5), LowRank(evbmf=True)):
        assert LowRank.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"energy": 0.5, "keep_macs": 0.5}, "energy, evbmf, keep_macs: .* found energy 0.5 and keep_macs 0.5"),
        ({"evbmf": True, "keep_macs": 0.5}, "found evbmf True and keep_macs 0.5"),
        ({"energy": None}, "found none"),
        ({"keep_macs": 0.0}, "keep_macs"),
        ({"keep_macs": 1.5}, "keep_macs"),
        ({"energy": 0.0}, "energy"),
        ({"round_to": 0}, "round_to"),
        ({"least_saving": 1.0}, "least_saving"),
        ({"form": "cp"}, "form"),
        ({"latency_in": "fp16"}, "latency_in"),
        ({"rank": 3}, "rank"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(given: dict[str, Any], message: str) -> None:
    """At the door, with the field in the message."""
    with pytest.raises(ValidationError, match=message):
        Menu.model_validate({"low_rank": [given]})


def test_labels_tell_variants_apart() -> None:
    """Form, rule and where it applies are part of the name of a cell."""
    variants = [
        LowRank(),
        LowRank(form="spatial_svd"),
        LowRank(keep_macs=0.75),
        LowRank(evbmf=True),
        LowRank(only_if_faster=False),
        LowRank(latency_in="int8"),
    ]
    assert [config.label() for config in variants] == [
        "tucker-0.75",
        "spatial_svd-0.75",
        "tucker-macs-0.75",
        "tucker-evbmf",
        "tucker-0.75-everywhere",
        "tucker-0.75-int8",
    ]


def test_a_layer_that_no_prediction_uses_is_left_alone(tiny_detector: Detector, workbench: Workbench) -> None:
    """An auxiliary head of training, say: it has no cost, and factoring it would save nothing."""
    detector = module_detector("own_points", tiny_detector, auxiliary=True)
    assert "network.deep.0" in factorable(detector)
    assert "network.auxiliary.0" not in factorable(detector)
    factored, _ = factor(detector, LowRank(energy=0.4, only_if_faster=False), workbench)
    assert count_macs(factored.spec) < count_macs(detector.spec)
