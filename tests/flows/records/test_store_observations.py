"""Observations: one new file per artifact and call, with everything one needs to understand it later."""

from __future__ import annotations

import json
from pathlib import Path

from flows.records.store import Observations
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import Block, RoundResult

HERE = {"cpu": "a processor", "cores": 2}
PROTOCOL = {"timed_calls": 64, "pictures": 8}
ROUNDS = tuple(
    RoundResult(
        blocks=tuple(Block(digest=digest, position=0, p50_s=p50_s, repeats=1) for digest in ("a" * 64, "b" * 64)),
        runtime_rss_bytes=99_000_000,
    )
    for p50_s in (0.001, 0.002)
)


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    """The same rounds appended twice are two files per artifact, and the first two are as they were."""
    first = Observations(tmp_path).append("some-host", ROUNDS, HERE, PROTOCOL)
    before = {path: path.read_bytes() for path in first}
    second = Observations(tmp_path).append("some-host", ROUNDS, HERE, PROTOCOL)
    assert len({*first, *second}) == 4
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*first, *second}
    assert before == {path: path.read_bytes() for path in first}


def test_an_observation_explains_itself(tmp_path: Path) -> None:
    """Its path names artifact, profile, environment and protocol; the file holds both in full and every round's block."""
    path, _ = Observations(tmp_path).append("some-host", ROUNDS, HERE, PROTOCOL)
    assert path.relative_to(tmp_path / "latency").parts[:-1] == ("a" * 64, "some-host", digest_of(HERE), digest_of(PROTOCOL))
    seen = json.loads(path.read_text())
    assert (seen["schema"], seen["artifact_digest"], seen["profile"]) == (2, "a" * 64, "some-host")
    assert (seen["environment"], seen["environment_digest"], seen["protocol"]) == (HERE, digest_of(HERE), PROTOCOL)
    assert [block["p50_s"] for block in seen["rounds"]] == [0.001, 0.002]
    assert [Block.model_validate(block) for block in seen["rounds"]] == [result.blocks[0] for result in ROUNDS]


def test_no_rounds_are_no_observation(tmp_path: Path) -> None:
    """A profile that could not be measured leaves nothing behind."""
    assert Observations(tmp_path / "none").append("some-host", (), HERE, PROTOCOL) == ()
    assert not (tmp_path / "none").exists()
