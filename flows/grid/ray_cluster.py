"""A connection to Ray: a cluster, or a private one on this machine; and what to do where Ray refuses."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.records.formatting import describe_failure

CONNECT_TIMEOUT_S = 10.0
MOST_TEMP_BYTES = 36
"""Of the path of Ray's temporary folder: with session and socket below it, a Unix socket's path may have 107."""
AGAIN = "Run the same command again."
INLINE = "`--executor inline` runs without Ray."
REFUSALS = {
    "Version mismatch": (
        "Install the versions of Ray and Python that the cluster has, or unset RAY_ADDRESS to run on this machine alone."
    ),
    "Failed to merge the Job's runtime env": (
        "The Ray job and sixfold both set PYTHONPATH for the workers: leave it out of the job's runtime_env, or set "
        "RAY_OVERRIDE_JOB_RUNTIME_ENV=1 there."
    ),
    "timed out during startup": (
        f"The machine is too busy, or short of memory: end other work and Ray processes left over (`ray stop`). {AGAIN} {INLINE}"
    ),
    "AF_UNIX path length": "Set RAY_TMPDIR to a folder with a shorter path.",
}
"""Words of an error that Ray starts with -> what to do."""


class ClusterError(RuntimeError):
    """The cluster cannot be used: infrastructure (exit 3)."""


@contextlib.contextmanager
def ray_cluster(cpus: int) -> Iterator[Any]:
    """Ray, connected: to the cluster at RAY_ADDRESS where that is set, otherwise to a private one that ends with the block."""
    # Ray 2.59+ writes a token on a local start that later turns authentication on behind one's back: say what is meant.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let any other process of the machine starve a training
    import ray

    address = os.environ.get("RAY_ADDRESS")
    root = Path(__file__).parents[2]
    environment: dict[str, Any] = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}}
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
        if address:
            _check_reachable(address)
        else:
            environment |= {"py_executable": shlex.quote(sys.executable)}  # Ray quotes all of a worker's command but this
            options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
            options |= {"_temp_dir": stack.enter_context(_short_folder())}
        stack.callback(ray.shutdown)
        try:
            ray.init(runtime_env=environment, **options)
        except Exception as error:  # Ray raises bare ones too
            raise _refusal(error, address) from error
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise ClusterError(f"Ray was lost ({describe_failure(error)}). What is stored is kept: {AGAIN}") from error


def _refusal(error: Exception, address: str | None) -> ClusterError:
    """What to say of an error that Ray started or connected with, and what to do."""
    where = f"RAY_ADDRESS={address}" if address else "Ray on this machine"
    if isinstance(error, ConnectionError):
        return ClusterError(
            f"{where}: no Ray cluster answers there ({describe_failure(error)}). If one runs, compare RAY_AUTH_MODE "
            f"here ({os.environ['RAY_AUTH_MODE']}) with the cluster's; to run on this machine alone, unset RAY_ADDRESS."
        )
    mend = next((mend for words, mend in REFUSALS.items() if words in str(error)), f"{AGAIN} {INLINE}")
    return ClusterError(f"{where}: {describe_failure(error)}. {mend}")


@contextlib.contextmanager
def _short_folder() -> Iterator[str | None]:
    """Where Ray keeps its sockets: a folder of our own in /tmp where its usual one has a path too long for them, else None."""
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    usual = os.environ[variable] if variable else "/tmp"
    if len(os.fsencode(usual)) <= MOST_TEMP_BYTES:
        yield None
        return
    folder = None
    if variable != "RAY_TMPDIR":  # that one was asked for by its name
        with contextlib.suppress(OSError):
            folder = tempfile.mkdtemp(prefix="sixfold-", dir="/tmp")
    if folder is None:
        raise ClusterError(
            f"{variable}={usual}: too long a path for the sockets that Ray keeps in it: {len(os.fsencode(usual))} bytes, of which "
            f"{MOST_TEMP_BYTES} are allowed. Set RAY_TMPDIR to a folder with a shorter path."
        )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_reachable(address: str) -> None:
    """ClusterError unless something listens there; ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto" and the like: only ray knows where that is
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({describe_failure(error)}). Start one, correct the address, or "
            f"unset RAY_ADDRESS to run on this machine alone."
        ) from error
