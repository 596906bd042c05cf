"""What is timed is what the run made, and a question for something else is answered with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from hardware_profiles.timing.round import Block, File, Job, Protocol, RoundError, RoundResult
from studies.measurement import subject
from studies.measurement.subject import bench, copies, open_run, timings
from tests.studies.measurement.study_factory import tiny_run


def test_a_model_is_found_by_cell_and_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown cell or runtime is answered with the known ones."""
    run = tiny_run(tmp_path, monkeypatch)
    assert run.model("none", "onnxruntime").path == tmp_path / "none.onnx"
    with pytest.raises(InputError, match=r"no cell 'nas'; have none, lightweight\+nas"):
        run.model("nas", "onnxruntime")
    with pytest.raises(InputError, match="no file for 'openvino'; have onnxruntime"):
        run.model("none", "openvino")
    with pytest.raises(InputError, match=r"no results/cells\.json there"):
        open_run(tmp_path / "elsewhere")


def test_copies_are_equal_files_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same bytes, other path, other digest: what makes a timing of its own."""
    model = tiny_run(tmp_path, monkeypatch).model("none", "onnxruntime")
    (tmp_path / "copies").mkdir()
    files = copies(model, ("a", "b"), tmp_path / "copies")
    assert {Path(file.path).read_bytes() for file in files.values()} == {model.path.read_bytes()}
    assert len({file.digest for file in files.values()} | {model.digest}) == 3


def test_a_copy_of_an_openvino_file_has_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The .bin beside an .xml is copied too."""
    model = tiny_run(tmp_path, monkeypatch).model("none", "onnxruntime")
    for suffix in (".xml", ".bin"):
        (tmp_path / f"model{suffix}").write_text(suffix)
    (tmp_path / "copies").mkdir()
    copies(subject.Model("none", "openvino", tmp_path / "model.xml", model.digest), ("a",), tmp_path / "copies")
    assert (tmp_path / "copies" / "a.xml").read_text() == ".xml"
    assert (tmp_path / "copies" / "a.bin").read_text() == ".bin"


def test_a_file_that_cannot_be_timed_ends_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with an error is no observation; the message is the block's."""
    run = tiny_run(tmp_path, monkeypatch)
    broken = RoundResult(blocks=(Block(digest="a", position=0, error="SessionError: no"),), runtime_rss_bytes=None)
    monkeypatch.setattr(subject, "in_fresh_process", lambda *_: broken)
    with bench(run, Protocol(), 0) as place, pytest.raises(RoundError, match="a: SessionError: no"):
        place.round("onnxruntime", (File(digest="a", path="a.onnx"),), 0)


def test_a_round_knows_the_yardstick_of_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that never was alone on its core would take its neighbour's pace for its own."""
    run, jobs = tiny_run(tmp_path, monkeypatch), list[Job]()

    def process(job: Job, *_: object) -> RoundResult:
        jobs.append(job)
        return RoundResult(blocks=(), runtime_rss_bytes=None, yardstick_s=min(1e-6 * (3 - len(jobs)), job.yardstick_s or 1.0))

    monkeypatch.setattr(subject, "in_fresh_process", process)
    with bench(run, Protocol(), 0) as place:
        for index in range(3):
            place.round("onnxruntime", (), index)
    assert [job.yardstick_s for job in jobs] == [None, pytest.approx(2e-6), pytest.approx(1e-6)]


def test_a_neighbour_is_told_by_the_least_reading_of_all_rounds() -> None:
    """The first round had one and could not know; the last was alone."""
    files = {"a": File(digest="a", path="a")}
    blocks = [Block(digest="a", position=0, p50_s=1.0, yardstick_s=reading_s) for reading_s in (1.6e-6, 1e-6)]
    found = [RoundResult(blocks=(own,), runtime_rss_bytes=None, yardstick_s=own.yardstick_s) for own in blocks]
    assert timings(found, files).disturbed_blocks == 1


def test_timings_go_by_name() -> None:
    """Rounds in their order, whatever the order of files within a round; repeated and disturbed blocks are counted."""
    files = {name: File(digest=f"digest of {name}", path=name) for name in ("a", "b")}

    def found(order: str, p50_s: float, repeats: int, disturbed: bool) -> RoundResult:
        blocks = tuple(
            Block(digest=f"digest of {name}", position=i, p50_s=p50_s + ord(name), repeats=repeats, disturbed=disturbed)
            for i, name in enumerate(order)
        )
        return RoundResult(blocks=blocks, runtime_rss_bytes=None)

    seen = timings([found("ab", 1.0, 2, False), found("ba", 2.0, 2, True), found("ba", 3.0, 0, False)], files)
    assert seen.medians_s == {"a": (98.0, 99.0, 100.0), "b": (99.0, 100.0, 101.0)}
    assert (seen.repeated_blocks, seen.disturbed_blocks) == (4, 2)
