"""Results that came home: undamaged, of the export they claim to answer, and the same statistics as for rounds made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detection.frozen import InputError
from flows.measure.devices.imported import DeviceSession, ExportManifest, mismatch, newest_session, parse_results, session_file
from flows.records.files import write_text
from flows.records.schema import write_records
from tests.flows.device_factory import exported, faked_results, signed

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder."""
    return exported(tmp_path_factory.mktemp("export"))


@pytest.fixture
def manifest(carried: Path) -> ExportManifest:
    """Of the exported folder."""
    return ExportManifest.model_validate_json((carried / "manifest.json").read_text())


def session(carried: Path, imported_at: str = "2026-01-03T00:00:00Z", call_ns: int = 1_000_000) -> DeviceSession:
    """Of invented times."""
    return DeviceSession.model_validate(
        {
            "imported_at": imported_at,
            "manifest": json.loads((carried / "manifest.json").read_text()),
            "results": faked_results(carried, call_ns),
        }
    )


def test_statistics_are_worked_out_at_home(carried: Path) -> None:
    """Calls of 1, 2, 3, 4, 5 ms: median 3 ms, no 90th percentile of so few, spread sqrt(2) / 3, and the whole core was ours."""
    first, second = session(carried).rounds()[0].blocks
    assert second.p50_s == pytest.approx(3e-3)
    assert first.p50_s == pytest.approx(6e-3)
    assert second.p90_s is None
    assert second.cv == pytest.approx(2**0.5 / 3)
    assert second.cpu_share == 1.0
    assert (second.load_s, second.first_s) == (pytest.approx(5e-3), pytest.approx(4e-3))
    assert (second.end_to_end_p50_s, second.postprocess_p50_s) == (None, None)
    assert second.contended  # so wide a spread is no quiet core's


def test_memory_counts_from_the_start_of_the_round(carried: Path) -> None:
    """30 MB before the first model plus the million bytes that each grew by, whatever an earlier one left behind."""
    assert [block.peak_rss_bytes for block in session(carried).rounds()[0].blocks] == [31_000_000, 31_000_000]
    assert session(carried).rounds()[0].blocks[0].runtime_rss_bytes == 29_000_000


def test_an_unbroken_answer_matches(carried: Path, manifest: ExportManifest, tmp_path: Path) -> None:
    """What the factory writes passes both checks, or the refusals below would prove nothing."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps(faked_results(carried)))
    assert mismatch(manifest, parse_results(path)) is None


def _another_profile(found: dict[str, Any]) -> None:
    found["profile"] = "raspberry-pi-5"


def _another_model(found: dict[str, Any]) -> None:
    name = next(name for name in found["files"] if name.startswith("models/"))
    found["files"][name] = "0" * 64


def _another_machine(found: dict[str, Any]) -> None:
    found["environment"]["machine"] = "vax"


def _a_round_less(found: dict[str, Any]) -> None:
    found["rounds"].pop()


def _an_unknown_digest(found: dict[str, Any]) -> None:
    found["rounds"][1]["blocks"][0]["digest"] = "0" * 64


def _a_block_twice(found: dict[str, Any]) -> None:
    found["rounds"][1]["blocks"].append(found["rounds"][1]["blocks"][0])


def _a_call_less(found: dict[str, Any]) -> None:
    found["rounds"][2]["blocks"][0]["times"]["calls_ns"].pop()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_another_profile, "measures profile raspberry-pi-5, the export was for toy-device"),
        (_another_model, "on the device was not the exported one (1 of "),
        (_another_machine, "was made on a vax machine, the profile is for "),
        (_a_round_less, "has rounds [0, 1], the export asked for [0, 1, 2]"),
        (_an_unknown_digest, f"round 2 has times of {'0' * 64}, a file that was not exported"),
        (_a_block_twice, "round 2 has 3 blocks for 2 models; each is timed once a round"),
        (_a_call_less, "round 3 has blocks of [4, 5] calls, the protocol asked for 5"),
    ],
)
def test_an_answer_to_something_else_says_how_it_differs(
    change: Change, why: str, carried: Path, manifest: ExportManifest, tmp_path: Path
) -> None:
    """Each in its own words, though the digest over the results is right."""
    found = faked_results(carried)
    change(found)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(signed(found)))
    assert why in (mismatch(manifest, parse_results(path)) or "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "content: Input should be a valid dictionary"),
        ('{"schema": 2}', "schema: Input should be 1"),
    ],
)
def test_a_damaged_file_is_refused(text: str, why: str, tmp_path: Path) -> None:
    """One message with the place and what to do, whatever the damage."""
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"Import the results\.json that measure\.py wrote, unchanged") as error:
        parse_results(path)
    assert why in str(error.value)


def test_an_edited_number_is_refused(carried: Path, tmp_path: Path) -> None:
    """The digest is of everything: a call made faster by hand shows."""
    found = faked_results(carried)
    found["rounds"][0]["blocks"][0]["times"]["calls_ns"][0] //= 2
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match="differs from what the script wrote"):
        parse_results(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With where it comes from."""
    with pytest.raises(InputError, match=r"results\.json: no such file\. The script writes results\.json on the device"):
        parse_results(tmp_path / "results.json")


def test_sessions_are_kept_beside_each_other_and_the_newest_counts(carried: Path, tmp_path: Path) -> None:
    """By this machine's clock: devices without a battery live in 1970."""
    late, early = session(carried, "2026-03-01T00:00:00Z", 1_000_000), session(carried, "2026-02-01T00:00:00Z", 2_000_000)
    for own in (late, early):
        write_records(session_file(own, tmp_path), own)
    assert len(list((tmp_path / "toy-device").iterdir())) == 2
    assert newest_session("toy-device", tmp_path) == late
    assert newest_session("raspberry-pi-5", tmp_path) is None


def test_a_broken_session_is_named(carried: Path, tmp_path: Path) -> None:
    """Which file, and what to do about it."""
    path = write_text(session_file(session(carried), tmp_path), "{}")
    with pytest.raises(InputError, match=rf"{path.name}: .*Remove it and import the device's results again"):
        newest_session("toy-device", tmp_path)
