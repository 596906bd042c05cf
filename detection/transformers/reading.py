"""A folder of the library as a plan names it: its configuration, its preprocessing, and its trained weights."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from detection.adapted.network import NETWORK
from detection.brought import TransformersDetector
from detection.checkpoint import Detector, started
from detection.frozen import InputError, some_of
from detection.spec import Spec
from detection.transformers.building import config_of, named_once, places_of, refuse_unknown
from detection.transformers.library import library, library_version
from detection.transformers.settings import Three, TransformersSettings

FAMILY = "transformers"
CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files of which a folder with trained weights has one."""
NOT_KEPT = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id", "auto_map")
"""Entries of a configuration that say where it came from, name classes, or name code."""
COUNTER = ".num_batches_tracked"
"""What an ordinary batch normalisation has and a frozen one, as in most folders, has not; it is read by no one."""
CLASS_PARTS = {"class_embed", "enc_score_head", "class_labels_classifier", "enc_out_class_embed", "denoising_class_embed"}
"""Parts of the names of weights that have a row for each class."""
TRAINED_BACKBONE_RATE = 0.1
SHARE_OF_255 = 1 / 255


def spec_of(asked: TransformersDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...]) -> Spec:
    """The detector as data, for pictures of input_size (height, width); InputError where the folder cannot be used."""
    where = place_of(asked, base)
    config, preprocessing = _json(where, CONFIG), _json(where, PREPROCESSING)
    if config is None:
        raise InputError(
            f"detector.transformers: {asked.transformers}: no {CONFIG} there, and no hub has it. Name a folder that "
            f"`save_pretrained` wrote, relative to the params file, or a detector of a hub that can be reached."
        )
    refuse_unknown(str(config.get("model_type")), asked.transformers)
    rate = asked.backbone_learning_rate
    default_rate = TRAINED_BACKBONE_RATE if has_weights(where) else 1.0
    settings = TransformersSettings(
        config={name: config[name] for name in sorted(config) if name not in NOT_KEPT},
        found_classes=_names(config),
        library=library_version(),
        backbone_learning_rate=default_rate if rate is None else rate,
        **_preprocessing(preprocessing or {}),
    )
    return Spec(family=FAMILY, classes=classes, input_size=input_size, settings=settings)


def trained_of(
    asked: TransformersDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None, seed: int
) -> Detector | None:
    """The detector with the folder's weights; None where it has none and is to be trained. InputError where they do not fit.

    Where the data's classes are among the folder's, the heads keep the rows of these; where not, they are drawn anew by the seed,
    if the detector is to be trained.
    """
    folder = place_of(asked, base)
    if not has_weights(folder):
        if asked.train:
            return None
        raise InputError(
            f"detector.transformers: {asked.transformers}: no weights there ({WEIGHTS[0]}, say). Set detector.train to true, and "
            f"`teacher.training` trains it from random ones."
        )
    described = spec_of(asked, base, input_size, ("any",))
    found = cast(TransformersSettings, described.settings).found_classes
    spec = described.model_copy(update={"classes": found})
    own = Detector(spec, MappingProxyType(_weights(spec, folder)))
    wanted = found if classes is None else classes
    if wanted == found:
        return own
    asked_spec = spec.model_copy(update={"classes": wanted})
    if set(wanted) <= set(found):
        rows = torch.tensor([found.index(name) for name in wanted])
        return Detector(
            asked_spec, MappingProxyType({name: _of_classes(name, old, rows, len(found)) for name, old in own.weights.items()})
        )
    if not asked.train:
        raise InputError(
            f"detector.transformers: {asked.transformers} knows {some_of(found)}, the data has {some_of(wanted)}. Set "
            f"detector.train to true: class heads are then made anew, and `teacher.training` begins with the rest of its weights."
        )
    return started(own, asked_spec, seed)


def _weights(spec: Spec, folder: Path) -> dict[str, Tensor]:
    """Those in a folder, by the names of the adapted network; the spec has the folder's classes."""
    network, told = library().AutoModelForObjectDetection.from_pretrained(
        folder,
        config=config_of(spec),
        attn_implementation="eager",
        dtype=torch.float32,
        output_loading_info=True,
    )
    told["missing_keys"] = {name for name in told["missing_keys"] if not name.endswith(COUNTER)}
    wrong = {what: sorted(names) for what, names in told.items() if names and what != "error_msgs"}
    if wrong:
        lines = "; ".join(f"{what.replace('_', ' ')}: {some_of([str(name) for name in names])}" for what, names in wrong.items())
        raise InputError(f"detector.transformers: {folder}: weights do not fit {CONFIG}: {lines}. Save both by `save_pretrained`.")
    own = named_once(network, cast(TransformersSettings, spec.settings).model_type)
    state = {name: tensor.detach().contiguous() for name, tensor in own.state_dict().items()}
    return {f"{NETWORK}.{name}": tensor for name, tensor in state.items()}


def about(spec: Spec) -> Iterator[str]:
    """What was read, in lines for people."""
    settings, config = cast(TransformersSettings, spec.settings), config_of(spec)
    found = settings.found_classes
    yield f"{settings.model_type} by transformers {settings.library}"
    if missing := [name for name in spec.classes if name not in found]:
        yield f"class heads are made anew: the folder's classes ({some_of(found)}) lack {some_of(missing)}"
    elif spec.classes != found:
        yield f"class heads keep the rows of {len(spec.classes)} of the folder's {len(found)} classes, by name"
    if settings.trained_size not in (None, spec.input_size):
        yield f"its preprocessing gives pictures of {settings.trained_size} (height, width), data.input_size is {spec.input_size}"
    asked = int(cast(Any, settings.config.get("num_queries", 0)))
    if hasattr(config, "feat_strides") and asked > (places := places_of(config, spec.input_size)):
        yield f"queries: {places} of {asked}, since pictures of {spec.input_size} have no more places"


def place_of(asked: TransformersDetector, base: Path) -> Path:
    """The folder, downloaded where the plan names a hub's detector."""
    folder = base / asked.transformers
    return folder if folder.is_dir() else _downloaded(asked.transformers)


def has_weights(folder: Path) -> bool:
    """Whether a folder has trained weights."""
    return any((folder / name).is_file() for name in WEIGHTS)


def _downloaded(name: str) -> Path:
    """A hub's detector in the library's cache; InputError where it cannot be had."""
    library()
    hub = importlib.import_module("huggingface_hub")  # comes with the library

    try:
        return Path(hub.snapshot_download(name, allow_patterns=[CONFIG, PREPROCESSING, *WEIGHTS, "*.safetensors"]))
    except Exception as error:  # not a name, no such detector, no hub: nothing common to all
        raise InputError(
            f"detector.transformers: {name}: no folder of that name, and not had from a hub ({str(error).splitlines()[0]:.200}). "
            f"Name a folder that `save_pretrained` wrote, relative to the params file."
        ) from error


def _json(folder: Path, file: str) -> dict[str, Any] | None:
    """The content of a file of the folder; None where it is not there."""
    path = folder / file
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"detector.transformers: {path}: not JSON ({error}). Save it again by `save_pretrained`.") from error
    if not isinstance(found, dict):
        raise InputError(f"detector.transformers: {path}: holds a {type(found).__name__}, not a mapping of settings.")
    return found


def _names(config: dict[str, Any]) -> tuple[str, ...]:
    """The classes by their numbers; the library's own names where the configuration gives none."""
    names = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(int(config.get("num_labels", 2)))}
    return tuple(str(names[number]) for number in sorted(names, key=int))


def _preprocessing(found: dict[str, Any]) -> dict[str, Any]:
    """What is done to a picture's share of 255, and the size it is brought to, as settings."""
    factor = found.get("rescale_factor", SHARE_OF_255) if found.get("do_rescale", True) else 1.0
    settings: dict[str, Any] = {"scale": round(float(factor) / SHARE_OF_255, 9)}
    if found.get("do_normalize", False):
        settings |= {name: cast(Three, tuple(found[f"image_{name}"])) for name in ("mean", "std")}
    size = found.get("size")
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        settings["trained_size"] = (size["height"], size["width"])
    return settings


def _of_classes(name: str, tensor: Tensor, rows: Tensor, classes: int) -> Tensor:
    """The rows of some of the classes where a tensor has one for each; some tensors have one more at the end, for none of them."""
    if not CLASS_PARTS & set(name.split(".")) or len(tensor) not in (classes, classes + 1):  # YOLOS has hidden layers before
        return tensor
    return (torch.cat([tensor[rows], tensor[-1:]]) if len(tensor) > classes else tensor[rows]).contiguous()
