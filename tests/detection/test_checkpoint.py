"""A detector on disk is the detector: same spec, same weights, same digest, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from detection.checkpoint import SPEC_FILE, WEIGHTS_FILE, Detector, freeze, fresh, inherit, load, load_spec, save
from detection.compact.architecture import architecture_of
from detection.frozen import InputError
from tests.detection.variants import PLAIN, VARIANTS, lively


def changed(detector: Detector, name: str) -> Detector:
    """The same detector with one number of one tensor nudged by the smallest possible amount."""
    tensor = detector.weights[name].clone()
    tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(1e9))
    return Detector(detector.spec, MappingProxyType(dict(detector.weights) | {name: tensor}))


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    """Spec, every weight and the digest survive, edits included, and the network answers as before."""
    detector = lively(VARIANTS[name])
    save(detector, tmp_path / "deep" / "folder")
    again = load(tmp_path / "deep" / "folder")
    assert again.spec == detector.spec
    assert set(again.weights) == set(detector.weights)
    assert all(torch.equal(again.weights[key], tensor) for key, tensor in detector.weights.items())
    assert again.digest == detector.digest
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.network()(picture).score_logits, detector.network()(picture).score_logits)


def test_the_files_are_plain_data(tmp_path: Path) -> None:
    """JSON and safetensors (eight bytes of length, then a JSON header), and nothing else."""
    save(lively(PLAIN), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {SPEC_FILE, WEIGHTS_FILE}
    assert json.loads((tmp_path / SPEC_FILE).read_text())["input_size"] == [64, 96]
    content = (tmp_path / WEIGHTS_FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["stem.0.weight"] == {
        "dtype": "F32",
        "shape": [8, 3, 3, 3],
        "data_offsets": header["stem.0.weight"]["data_offsets"],
    }


@pytest.mark.parametrize("name", ["stem.0.weight", "heads.2.box.bias", "stages.0.0.1.running_mean"])
def test_one_weight_changes_the_digest(name: str) -> None:
    """The last bit of one number, in a weight, a bias or a running mean, makes it another detector."""
    detector = lively(PLAIN)
    assert changed(detector, name).digest != detector.digest
    assert len(detector.digest) == 64


def test_the_spec_is_part_of_the_digest() -> None:
    """The same weights under other class names or for another input are another detector."""
    detector = lively(PLAIN)
    renamed = detector.spec.model_copy(update={"classes": ("a", "b", "c")})
    resized = detector.spec.model_copy(update={"input_size": (96, 64)})
    assert len({Detector(spec, detector.weights).digest for spec in (detector.spec, renamed, resized)}) == 3


def test_the_order_of_weights_is_not_part_of_the_digest() -> None:
    """A file may list tensors in any order."""
    detector = lively(PLAIN)
    backwards = MappingProxyType({name: detector.weights[name] for name in sorted(detector.weights, reverse=True)})
    assert Detector(detector.spec, backwards).digest == detector.digest


@pytest.mark.parametrize("missing", [SPEC_FILE, WEIGHTS_FILE])
def test_half_a_detector_is_no_detector(missing: str, tmp_path: Path) -> None:
    """The message names the folder, the file and the command that makes one."""
    save(lively(PLAIN), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"no {missing} here.*sixfold teacher"):
        load(tmp_path)


def test_a_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    """Not a FileNotFoundError from three calls down."""
    with pytest.raises(InputError, match="nowhere"):
        load(tmp_path / "nowhere")


def test_a_seed_decides_the_fresh_weights_and_nothing_else() -> None:
    """Same seed, same detector; another seed, another one; the global generator goes on as if nothing had happened."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = fresh(PLAIN, 0), fresh(PLAIN, 0), fresh(PLAIN, 1)
    assert torch.equal(torch.rand(3), expected)
    assert first.digest == again.digest != other.digest


def test_what_happens_to_a_network_does_not_reach_its_detector() -> None:
    """Neither to one it was frozen from, nor to one it gave out; and its weights cannot be assigned."""
    detector = lively(PLAIN)
    before = detector.digest
    network = detector.network()
    frozen = freeze(detector.spec, network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert detector.digest == frozen.digest == before
    assert not network.training
    with pytest.raises(TypeError):
        detector.weights["stem.0.weight"] = torch.zeros(8, 3, 3, 3)  # type: ignore[index]


def test_the_same_weights_at_another_size() -> None:
    """Half the input has a quarter of the points; weights stay the very same, and its own size gives the detector itself."""
    detector = lively(PLAIN)
    half = detector.at((32, 64))
    assert (half.spec.input_size, half.weights) == ((32, 64), detector.weights)
    assert half.spec.model_copy(update={"input_size": detector.spec.input_size}) == detector.spec
    with torch.no_grad():
        boxes, _ = half.network().decode(half.network()(torch.rand(1, 3, 32, 64)))
    assert boxes.shape[1] == sum((32 // stride) * (64 // stride) for stride in architecture_of(detector.spec).levels)
    assert detector.at(detector.spec.input_size) is detector


def test_a_broken_spec_names_its_folder(tmp_path: Path) -> None:
    """JSON that is no spec, or one of another schema: the message names the folder, in one line."""
    save(lively(PLAIN), tmp_path)
    assert load_spec(tmp_path) == PLAIN
    whole = json.loads((tmp_path / SPEC_FILE).read_text())
    for broken in ("{", json.dumps(whole | {"schema": 1}), json.dumps(whole | {"family": "large"})):
        (tmp_path / SPEC_FILE).write_text(broken)
        with pytest.raises(InputError, match=rf"^{tmp_path}: broken") as caught:
            load_spec(tmp_path)
        assert "\n" not in str(caught.value)


def test_inheriting_takes_what_agrees_in_name_and_shape() -> None:
    """Weights of the teacher where both have them alike, the detector's own elsewhere; neither of the two is changed."""
    teacher, deeper = lively(PLAIN), PLAIN.settings.model_copy(update={"stage_depths": (1, 2, 1, 1), "neck_width": 8})
    start = fresh(PLAIN.having(deeper), 3)
    digests = teacher.digest, start.digest
    child = inherit(teacher, start)
    assert child.spec == start.spec
    shared = {name for name, own in start.weights.items() if name in teacher.weights and teacher.weights[name].shape == own.shape}
    assert 0 < len(shared) < len(start.weights)
    for name, tensor in child.weights.items():
        assert torch.equal(tensor, teacher.weights[name] if name in shared else start.weights[name])
    assert torch.equal(child.weights["stages.1.2.reduce.0.weight"], start.weights["stages.1.2.reduce.0.weight"])
    assert (teacher.digest, start.digest) == digests
