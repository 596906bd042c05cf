"""Ray's refusals, told in one message with the mend; and where its sockets go. A stand-in for Ray but in the last test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.grid.ray_cluster import ClusterError, ray_cluster
from flows.grid.scoring import SCORES, score_key
from tests.flows.cli_runner import Sixfold
from tests.flows.sweep_entries import forget
from tests.flows.sweep_factory import Sweep
from tests.places import ROOT
from tests.programs import surroundings


class RayError(Exception):
    """Of the stand-in."""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Replaces Ray by something that starts, or raises what it is given; the options of each start."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)

    def install(error: Exception | None = None) -> list[dict[str, Any]]:
        started: list[dict[str, Any]] = []

        def init(**options: Any) -> None:
            started.append(options)
            if error is not None:
                raise error

        fake = SimpleNamespace(init=init, shutdown=lambda: None, exceptions=SimpleNamespace(RayError=RayError))
        monkeypatch.setitem(sys.modules, "ray", fake)
        return started

    return install


REFUSALS = [
    (
        RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.11.9"),
        "RuntimeError: Version mismatch: The cluster was started with:",
        "Install the versions of Ray and Python that the cluster has, or unset RAY_ADDRESS",
    ),
    (
        ValueError("Failed to merge the Job's runtime env {'env_vars': {'PYTHONPATH': '/a'}} with a ray.init's runtime env"),
        "ValueError: Failed to merge the Job's runtime env",
        "leave it out of the job's runtime_env, or set RAY_OVERRIDE_JOB_RUNTIME_ENV=1",
    ),
    (
        Exception("The current node timed out during startup. This could happen because some of the raylet failed to startup"),
        "Exception: The current node timed out during startup.",
        "`--executor inline` runs without Ray.",
    ),
    (
        OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /a/b"),
        "AF_UNIX path length cannot exceed 107 bytes",
        "Set RAY_TMPDIR to a folder with a shorter path.",
    ),
    (ConnectionError("Could not connect"), "no Ray cluster answers there", "unset RAY_ADDRESS"),
    (TypeError("something new"), "TypeError: something new", "`--executor inline` runs without Ray."),
]


@pytest.mark.parametrize("address", ["", "auto"])
@pytest.mark.parametrize(("error", "words", "mend"), REFUSALS, ids=lambda own: type(own).__name__)
def test_a_refusal_is_one_message_with_its_mend(
    error: Exception, words: str, mend: str, address: str, stand_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever class Ray raises; what was asked for, what Ray said in a line, what to do."""
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    stand_in(error)
    with pytest.raises(ClusterError) as caught, ray_cluster(1):
        pass
    text = str(caught.value)
    assert text.startswith("RAY_ADDRESS=auto: " if address else "Ray on this machine: ")
    assert words in text
    assert mend in text
    assert "\n" not in text


def test_a_refusal_ends_the_grid_with_its_code(stand_in: Callable[..., Any], sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Exit 3, and nothing but the message after what the grid said of its work."""
    node = next(iter(swept_copy.cells.cells)).artifacts["onnxruntime"].url.split("/")[2]
    forget(swept_copy, SCORES, score_key(node, "onnxruntime", swept_copy.data))
    stand_in(REFUSALS[0][0])
    ended = sixfold(swept_copy.folder, "grid", "--no-tracking")
    assert ended.code == 3
    assert ended.err.splitlines()[-1].startswith("sixfold: Ray on this machine: RuntimeError: Version mismatch")
    assert "Traceback" not in ended.err


def test_a_loss_of_ray_is_one_message(stand_in: Callable[..., Any]) -> None:
    """What Ray raises later, when its head is gone: what is stored is kept."""
    stand_in()
    with pytest.raises(ClusterError) as caught, ray_cluster(1):
        raise RayError("gone")
    assert str(caught.value) == "Ray was lost (RayError: gone). What is stored is kept: Run the same command again."


def test_other_errors_of_the_block_pass(stand_in: Callable[..., Any]) -> None:
    """They are not Ray's."""
    stand_in()
    with pytest.raises(KeyError), ray_cluster(1):
        raise KeyError("own")


def test_sockets_go_to_a_short_folder(stand_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A temporary folder with a long path leaves no room for Ray's sockets: a folder in /tmp is made for them, and removed."""
    started = stand_in()
    with ray_cluster(1):
        assert started[-1]["_temp_dir"] is None
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 20)))
    with ray_cluster(1):
        own = Path(started[-1]["_temp_dir"])
        assert (own.parent, own.is_dir()) == (Path("/tmp"), True)
    assert not own.exists()


def test_a_long_folder_that_was_asked_for_is_refused(stand_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_TMPDIR is the user's word: its length, what is allowed, what to set."""
    started = stand_in()
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 99)
    with pytest.raises(ClusterError) as caught, ray_cluster(1):
        pass
    assert str(caught.value).startswith("RAY_TMPDIR=/xxx")
    assert str(caught.value).endswith("100 bytes, of which 36 are allowed. Set RAY_TMPDIR to a folder with a shorter path.")
    assert started == []


REAL = """
import sys
from flows.grid.ray_cluster import ray_cluster
with ray_cluster(1) as ray:
    print(ray.get(ray.remote(lambda: 7).remote()))
"""


@pytest.mark.slow
def test_ray_starts_below_paths_that_it_cannot_take(tmp_path: Path) -> None:
    """A space in the path of Python, which Ray puts into a shell command, and a temporary folder with a long path."""
    (tmp_path / "my work").mkdir()
    (tmp_path / "my work/env").symlink_to(sys.prefix)
    temporary = tmp_path / ("long" * 20)
    temporary.mkdir()
    python = tmp_path / "my work/env/bin" / Path(sys.executable).name
    done = subprocess.run(
        [str(python), "-c", REAL], cwd=tmp_path, env=surroundings(ROOT, TMPDIR=str(temporary)), capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.stdout == "7\n", done.stderr
