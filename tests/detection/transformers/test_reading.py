"""A folder of the transformers library as a plan names it: what it holds is what is compressed, or a message says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from detection.brought import TransformersDetector
from detection.checkpoint import Detector
from detection.frozen import InputError
from detection.transformers import library as library_module
from detection.transformers.building import library_network
from detection.transformers.library import library
from flows.sweep.given_network import network_spec, read_network
from tests.places import ROOT
from tests.transformers_factory import NEEDS_TRANSFORMERS, SMALL, asked, copied, first_version

SIZE = (64, 96)
CLASSES = ("cat", "dog", "bird")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def saved(name: str, folder: Path, classes: Sequence[str] = CLASSES) -> tuple[TransformersDetector, Any]:
    """A folder as `save_pretrained` writes it, and the library's network that is in it."""
    torch.manual_seed(0)
    described = asked(name) if name in SMALL else first_version(folder / "described")
    network = cast(Any, library_network(network_spec(described, ROOT / "examples", SIZE, tuple(classes)))).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # as trained ones, no two alike
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    preprocessing = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing | {"size": {"height": 64, "width": 96}}))
    return TransformersDetector(transformers=str(folder)), network


def said(detector: Detector, pixels: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Boxes and scores of images in [0, 1]."""
    network = detector.network()
    with torch.no_grad():
        boxes, scores = detector.family.decode(network, detector.family.raw(network, pixels))
    return boxes.numpy(), scores.numpy()


@NEEDS_TRANSFORMERS
@pytest.mark.parametrize("name", [*SMALL, "rt_detr"])
def test_a_folder_predicts_as_in_the_library(name: str, tmp_path: Path) -> None:
    """Weights, classes, mean and std are the folder's own, and boxes are corners in pixels."""
    own, network = saved(name, tmp_path)
    detector = read_network(own, tmp_path, SIZE)
    assert detector is not None
    assert detector.spec.classes == CLASSES
    pixels = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        expected = network((pixels - mean) / std)
    centre, sides = expected.pred_boxes.chunk(2, -1)
    corners = torch.cat([centre - sides / 2, centre + sides / 2], -1) * torch.tensor([96, 64, 96, 64])
    boxes, scores = said(detector, pixels)
    assert np.allclose(scores, expected.logits.sigmoid().numpy(), atol=1e-5)
    assert np.allclose(boxes, corners.numpy(), atol=1e-3)


@NEEDS_TRANSFORMERS
def test_frozen_normalisations_become_ordinary_ones(tmp_path: Path) -> None:
    """As in nearly all published folders: the same predictions, and statistics that pruning and training can change."""
    config = json.loads((ROOT / "examples" / SMALL[0] / "config.json").read_text())
    kind = library().CONFIG_MAPPING[config.pop("model_type")]
    torch.manual_seed(0)
    frozen = (
        library().AutoModelForObjectDetection.from_config(kind.from_dict(config | {"freeze_backbone_batch_norms": True})).eval()
    )
    norms = [module for module in frozen.modules() if "Frozen" in type(module).__name__]
    for norm in norms:
        norm.running_var += 0.5
        norm.bias += 0.1
    frozen.save_pretrained(tmp_path)
    detector = read_network(TransformersDetector(transformers=str(tmp_path)), tmp_path, SIZE)
    assert norms
    assert detector is not None
    assert not [name for name, module in detector.network().named_modules() if "Frozen" in type(module).__name__]
    pixels = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = frozen(pixels).logits.sigmoid().numpy()
    assert np.allclose(said(detector, pixels)[1], expected, atol=1e-5)


@NEEDS_TRANSFORMERS
@pytest.mark.parametrize("name", SMALL)
def test_some_of_the_classes_keep_their_scores(name: str, tmp_path: Path) -> None:
    """Data with two of the folder's three classes, in another order: the heads have their rows."""
    own, _ = saved(name, tmp_path)
    everything, two = read_network(own, tmp_path, SIZE), read_network(own, tmp_path, SIZE, ("bird", "cat"))
    assert everything is not None
    assert two is not None
    rows = [2, 0]
    for layer in ("network.model.enc_score_head.weight", "network.model.decoder.class_embed.1.bias"):
        assert torch.equal(two.weights[layer], everything.weights[layer][rows])
    noised = "network.model.denoising_class_embed.weight"
    assert torch.equal(two.weights[noised], everything.weights[noised][[2, 0, 3]])


@NEEDS_TRANSFORMERS
def test_other_classes_have_to_be_trained(tmp_path: Path) -> None:
    """Without `train` they are refused; with it the class heads alone are drawn anew, by the seed."""
    own, _ = saved(SMALL[0], tmp_path)
    with pytest.raises(InputError, match=r"knows cat, dog, bird, the data has cat, cow. Set detector.train to true"):
        read_network(own, tmp_path, SIZE, ("cat", "cow"))
    trained = own.model_copy(update={"train": True})
    first, again, other = (read_network(trained, tmp_path, SIZE, ("cat", "cow"), seed) for seed in (0, 0, 1))
    brought = read_network(own, tmp_path, SIZE)
    assert first is not None
    assert again is not None
    assert other is not None
    assert brought is not None
    assert first.digest == again.digest != other.digest
    changed = {name for name, tensor in brought.weights.items() if not torch.equal(tensor, first.weights[name])}
    assert changed
    assert all("class_embed" in name or "enc_score_head" in name for name in changed)
    about = list(first.family.about(first.spec)) if first.family.about else []
    assert any("class heads are made anew" in line for line in about)


@NEEDS_TRANSFORMERS
def test_the_library_opens_what_comes_back(tmp_path: Path) -> None:
    """The author's network out of a detector is the library's, heads under both names, and saves and loads there."""
    own, network = saved(SMALL[1], tmp_path / "brought")
    detector = read_network(own, tmp_path, SIZE)
    assert detector is not None
    assert detector.family.unwrapped is not None
    back = cast(Any, detector.family.unwrapped(detector.network()))
    back.save_pretrained(tmp_path / "back")
    again = library().AutoModelForObjectDetection.from_pretrained(tmp_path / "back").eval()
    pixels = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(again(pixels).logits, network(pixels).logits, atol=1e-5)


@NEEDS_TRANSFORMERS
def test_a_folder_without_weights_is_trained_or_refused() -> None:
    """A configuration alone begins with random weights where it is to be trained."""
    assert read_network(asked(SMALL[0]), ROOT / "examples", SIZE, CLASSES) is None
    with pytest.raises(InputError, match=r"no weights there \(model.safetensors, say\). Set detector.train to true"):
        read_network(asked(SMALL[0], train=False), ROOT / "examples", SIZE, CLASSES)


@NEEDS_TRANSFORMERS
def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    """Layers that are missing or of another shape are named; nothing is filled with random numbers unsaid."""
    own, _ = saved(SMALL[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"decoder_layers": 3}))
    with pytest.raises(InputError, match=r"weights do not fit config.json: missing keys: bbox_embed.2.*37 more"):
        read_network(own, tmp_path, SIZE)


@NEEDS_TRANSFORMERS
def test_small_pictures_have_fewer_queries(tmp_path: Path) -> None:
    """No more places can be proposed than the maps have, and `inspect` says so."""
    folder = copied(SMALL[0], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_queries": 300}))
    own = TransformersDetector(transformers=str(folder), train=True)
    spec = network_spec(own, tmp_path, SIZE, CLASSES)
    from detection.family import family_of

    about = family_of(spec).about
    assert about is not None
    assert "queries: 126 of 300, since pictures of (64, 96) have no more places" in list(about(spec))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config.json: not JSON"),
        ("[]", r"config.json: holds a list, not a mapping"),
        ('{"model_type": "vit"}', r"model_type 'vit' is not known here; known are rt_detr, rt_detr_v2, d_fine"),
    ],
)
def test_a_broken_folder_is_named(content: str, message: str, tmp_path: Path) -> None:
    """The file, what is wrong with it and what to do."""
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        network_spec(TransformersDetector(transformers=str(tmp_path)), tmp_path, SIZE, CLASSES)


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named; a plan that does not need it never asks."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(library_module, "version", missing)
    with pytest.raises(InputError, match=r'not installed here. Run `pip install "sixfold\[transformers\]"`'):
        network_spec(asked(SMALL[0]), ROOT / "examples", SIZE, CLASSES)
