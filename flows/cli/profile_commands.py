"""`sixfold profiles`: list, show and check the descriptions of devices, start a new one, fit one to measured times."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import DEFAULT, print_table, refuse

app = typer.Typer(help="Describe the devices a detector must run on: list, show, check, new, benchmark, calibrate.")
ParamsOption = Annotated[
    Path | None, typer.Option("--params", help="The params file whose measure.profiles_folder is looked into.")
]
FolderOption = Annotated[Path | None, typer.Option("--folder", help="A folder with profiles of your own, instead of that setting.")]
DEFAULT_FOLDER = "profiles"
"""Of own profiles, next to the plan: what the setting is relative to, and what no `make clean` removes."""
DEFAULT_MEASUREMENTS = Path("calibration")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@app.callback(invoke_without_command=True)
def profiles(context: typer.Context) -> None:
    """List the hardware profiles, or do what the sub-command says."""
    if context.invoked_subcommand is None:
        list_profiles()


@app.command("list")
def list_profiles(params: ParamsOption = None, folder: FolderOption = None) -> None:
    """List the hardware profiles: device, runtime, types, where times come from, how well the numbers are known, files."""
    from flows.cli.profile_tables import profiles_table
    from hardware_profiles.schema.library import load_profile, problems_of, profile_files

    extra = _extra_folder(params, folder)
    files = profile_files(extra)
    wrong = {name: problems for name in sorted(files) if (problems := problems_of(files[name], files))}
    print_table(*profiles_table([load_profile(name, extra) for name in sorted(files) if name not in wrong]))
    for name, problems in wrong.items():
        print(f"{name}: not usable yet, {len(problems)} to correct; `sixfold profiles check {files[name]}` says what.")
    print("Name them in measure.profiles of the params file. `sixfold profiles show NAME` prints one with its sources.")
    print("docs/your-device.md shows how to add one.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name from the list.")], params: ParamsOption = None, folder: FolderOption = None
) -> None:
    """Print a profile: every number with its source, how sure its estimates are, and what the device cannot do."""
    from flows.cli.profile_tables import facts, limits, numbers_table, reliability
    from hardware_profiles.schema.library import load_host_cpu, load_profile

    extra = _extra_folder(params, folder)
    profile = load_profile(name, extra)
    host_cpu = load_host_cpu(profile, extra)
    print(f"{profile.id}: {profile.name}\n")
    print("\n".join(facts(profile)))
    print_table(*numbers_table(profile))
    for title, lines in (("Estimates", reliability(profile)), ("What it cannot do", limits(profile, host_cpu))):
        print("\n".join([f"\n{title}", *(f"  {line}" for line in lines)]))


@app.command()
def check(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE|NAME]...", help="Files or names; all there are if left out.")
    ] = None,
    params: ParamsOption = None,
    folder: FolderOption = None,
) -> None:
    """Check profile files: exit 0 where all are right, else 2 with every problem of every file."""
    from flows.records.formatting import count
    from hardware_profiles.schema.library import known_profiles, problems_of, profile_files

    extra = _extra_folder(params, folder)
    files = profile_files(extra)
    found: list[str] = []
    targets = wanted or list(known_profiles(extra))
    for target in targets:
        path = Path(target) if target.endswith((".yaml", ".yml")) or "/" in target else files.get(target)
        if path is None:
            found.append(f"no hardware profile {target!r}; have {', '.join(sorted(files))}, or name a .yaml file")
            continue
        neighbours = {other.stem: other for other in path.parent.glob("*.yaml")} if path.is_file() else {}
        found += [f"{path}: {problem}" for problem in (*_shadowing(path), *problems_of(path, neighbours | files))]
    if found:
        refuse("\n  ".join([f"{count(len(found), 'problem')} (docs/your-device.md explains every field)", *found]))
    print(f"OK: {count(len(targets), 'profile')}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes; also the file's name.")],
    like: Annotated[str | None, typer.Option("--from", help="Copy all non-numeric fields from this profile.")] = None,
    params: ParamsOption = None,
    folder: FolderOption = None,
) -> None:
    """Write a template of a profile, with every field explained and every number left for you to fill in."""
    from flows.records.files import write_text
    from hardware_profiles.schema.authoring import template
    from hardware_profiles.schema.library import load_profile

    extra = _extra_folder(params, folder)
    other = load_profile(like, extra if extra and extra.is_dir() else None) if like else None
    path = write_text(_new_file(name, extra or _default_folder(params)), template(name, other))
    print(f"{path}\nNext: fill in its empty fields until `sixfold profiles check {path}` says OK.")
    _say_how_to_use(name, path.parent, params)


@app.command()
def benchmark(
    name: Annotated[str, typer.Argument(help="A host profile, in whose runtime and threads networks are timed here.")],
    params: Annotated[
        list[Path] | None, typer.Option("--params", help="A plan, its data prepared next to it; repeat it for several.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where NAME.csv goes, and the files it names.")] = DEFAULT_MEASUREMENTS,
    count: Annotated[int, typer.Option(min=0, help="Networks drawn from the search spaces of each plan.")] = 24,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes that time every file once.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws and the order of timing.")] = 0,
) -> None:
    """Time here what a plan asks about, untrained: its detector, light and narrow ones, and draws from its search spaces."""
    from flows.measure.calibration_networks import benchmark_networks
    from hardware_profiles.schema.library import load_profile

    plans = params or [DEFAULT]
    extra = _extra_folder(plans[0], None)
    profile = load_profile(name, extra)
    if profile.kind != "host":
        refuse(f"{name}: a {profile.kind} profile; networks are timed here, so name a profile of kind host.")
    table = benchmark_networks(plans, profile, folder, count, seed, rounds)
    print(f"{table}\nNext: `sixfold profiles calibrate {name} {table}` fits the profile to this machine.")


@app.command()
def calibrate(
    name: Annotated[str, typer.Argument(help="The profile whose numbers are to be fitted.")],
    measurements: Annotated[Path, typer.Argument(help="A CSV of measured times; docs/your-device.md shows its columns.")],
    new_name: Annotated[str | None, typer.Option("--as", help="Name of the fitted profile; NAME-calibrated if left out.")] = None,
    params: ParamsOption = None,
    folder: FolderOption = None,
) -> None:
    """Fit a profile's numbers to measured times, say how well they predict a network that was left out, and write a new profile."""
    from flows.cli.profile_tables import fit_table
    from flows.records.files import write_text
    from hardware_profiles.estimate.fit.calibration import calibrate as fit
    from hardware_profiles.estimate.fit.measurements import read_measurements
    from hardware_profiles.schema.authoring import text_of
    from hardware_profiles.schema.library import load_profile

    extra = _extra_folder(params, folder)
    new_name = new_name or f"{name}-calibrated"
    path = _new_file(new_name, extra or _default_folder(params))
    profile = load_profile(name, extra if extra and extra.is_dir() else None)
    measured = read_measurements(measurements, profile.runtime)
    found = fit(profile, measured)
    fitted = found.model_copy(update={"id": new_name, "name": f"{profile.name}, fitted to own times"})
    about = f"{profile.name}: {name} with numbers fitted to {len(measured)} measured times of {measurements.name}."
    write_text(path, text_of(fitted, about))
    print_table(*fit_table(profile, fitted))
    print(path)
    _say_how_to_use(new_name, path.parent, params)


def _extra_folder(params: Path | None, folder: Path | None) -> Path | None:
    """The user's own folder: the option, else the setting of the params file, else none."""
    if folder is None and (params is not None or DEFAULT.is_file()):
        from flows.sweep.params import read_plan

        folder = read_plan(params or DEFAULT).profiles_folder
    return folder


def _plan_folder(params: Path | None) -> Path:
    """Where relative settings of the params file start: its real folder, since a workspace's is a link into `plans/`."""
    path = params or DEFAULT
    return path.resolve().parent if path.is_file() else Path.cwd()


def _default_folder(params: Path | None) -> Path:
    return Path(os.path.relpath(_plan_folder(params) / DEFAULT_FOLDER))


def _new_file(name: str, folder: Path) -> Path:
    """Where the profile of this name goes; InputError where the name is bad or taken."""
    from hardware_profiles.schema.library import known_profiles

    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name):
        refuse(f"{name!r} is no name for a profile. Allowed: lower-case letters, digits and dashes, for instance my-board.")
    if name in known_profiles():
        refuse(f"{name} is a built-in profile. Choose another name.")
    if path.exists():
        refuse(f"{path}: there already. Choose another name, or remove it first.")
    return path


def _say_how_to_use(name: str, place: Path, params: Path | None) -> None:
    from hardware_profiles.schema.library import FOLDER

    setting = _extra_folder(params, None)
    known = {known_place.resolve() for known_place in (FOLDER, *([setting] if setting else []))}
    own = os.path.relpath(place.resolve(), _plan_folder(params))
    first = "" if place.resolve() in known else f"set measure.profiles_folder to {own} in the params file and "
    print(f"To use it, {first}name {name} in measure.profiles, or in grid.design_profile for searches that aim at it.")


def _shadowing(path: Path) -> list[str]:
    """A problem where the file would hide a built-in profile."""
    from hardware_profiles.schema.library import FOLDER, known_profiles

    hides = path.stem in known_profiles() and path.resolve().parent != FOLDER.resolve()
    return [f"{path.stem} is the name of a built-in profile; choose another file name and id"] if hides else []
