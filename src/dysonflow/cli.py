"""Command line: artifacts and results folders, and a first look at the user's own networks."""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dysonflow import __version__
from dysonflow.artifacts import kinds
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.planning import audit, own_networks
from dysonflow.planning.configuration_files import check_keys
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import Study, load_config, load_studies
from dysonflow.readers import places
from dysonflow.results import Results

RESULTS = Path("results")
CONFIGURATION = ["config/config.yaml"]
"""Where they are, seen from the folder of the workflow."""
DESCRIPTION = (
    "Look at results, and at networks of your own. Results are made by snakemake, in the folder "
    "of the workflow: snakemake --cores 2"
)


def show(arguments: argparse.Namespace) -> int:
    """Print the provenance of artifacts, of a folder all that lie in it; check their checksums."""
    failed = 0
    found: dict[Path, None] = {}
    for path in arguments.paths:
        try:
            found |= dict.fromkeys(kinds.artifacts_at(path))
        except ArtifactError as error:
            print(error, file=sys.stderr)
            failed = 1
    for path in found:
        try:
            metadata = kinds.read_whole(path)
        except (ArtifactError, FileNotFoundError) as error:
            print(error, file=sys.stderr)
            failed = 1
            continue
        print(path)
        _print(metadata, "  ")
        print("  checksum: matches")
    return failed


def _print(values: Mapping[str, Any], indent: str) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            _print(value, indent + "  ")
        else:
            print(f"{indent}{name}: {value}")


def verify(arguments: argparse.Namespace) -> int:
    """List results that are damaged, or that would be made differently now; 1 if there are any."""
    report = audit.verify(_read(arguments), of_several=len(arguments.configfile) > 1)
    for kind in ("damaged", "newer", "stale", "unreadable", "ahead"):
        for path, text in getattr(report, kind).items():
            print(f"{kind:8} {path}: {text}")
    for note in report.notes:
        print(f"note     {note}")
    found = [*report.damaged, *report.stale]
    other = report.newer or report.unreadable or report.ahead
    if arguments.delete:
        deleted = sum(_deleted(audit.remove, path) for path in found)
        done = f"{deleted} files deleted; run snakemake to make them again"
        print(done if found else "nothing to delete")
        return 1 if other or deleted < len(found) else 0
    print(
        f"{report.checked} files checked, {report.missing} not made yet: {len(report.damaged)} "
        f"damaged, {len(report.stale)} stale, {len(report.newer)} of a newer dysonflow"
    )
    if found:
        print(f"`{_again(arguments)} --delete` deletes them, so that snakemake makes them again")
    return 1 if found or other else 0


def _again(arguments: argparse.Namespace) -> str:
    """The command that was given, for the same results and configuration."""
    words = ["dysonflow", arguments.command]
    if arguments.results != RESULTS:
        words += ["--results", str(arguments.results)]
    if arguments.configfile != CONFIGURATION:
        words += ["--configfile", *arguments.configfile]
    return shlex.join(words)


def _deleted(remove: Callable[[Path], None], path: Path) -> bool:
    """Delete something; where that is not possible, say so."""
    try:
        remove(path)
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return False
    return True


def clean_orphans(arguments: argparse.Namespace) -> int:
    """List the runs that no study names; delete them only if asked to."""
    found = audit.orphans(_read(arguments))
    deleted = 0
    for folder in found:
        print(f"{folder}  {audit.size(folder) / 1e6:.1f} MB")
        for path in audit.foreign(folder):
            print(f"  {path}: not of dysonflow, and never deleted")
        if arguments.delete:
            deleted += _deleted(audit.remove_run, folder)
    hint = "nothing to delete"
    if found:
        again = _again(arguments)
        hint = f"nothing deleted: `{again} --delete` deletes them"
        hint = f"{deleted} deleted" if arguments.delete else hint
    print(f"{len(found)} runs that no study of {', '.join(arguments.configfile)} names; {hint}")
    return 1 if arguments.delete and deleted < len(found) else 0


def layers(arguments: argparse.Namespace) -> int:
    """List the tensors of checkpoints: which are read as layers, and why the others are not."""
    found = own_networks.look(arguments.path, arguments.set)
    for line in own_networks.table(found.held.lines):
        print(line)
    print(found.summary)
    return 0


def init(arguments: argparse.Namespace) -> int:
    """Write the configuration of a study of checkpoints."""
    found = own_networks.look(arguments.path, arguments.set)
    name = arguments.study or own_networks.study_name(arguments.path)
    output = arguments.output or Path(f"{name}.yaml")
    text = own_networks.study(found, name, str(output))
    try:
        with open(output, "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(f"{output}: is there already; name another file with --output") from None
    print(found.summary)
    print(f"written: {output}; now: snakemake --cores 2 --configfile {output}")
    return 0


def _read(arguments: argparse.Namespace) -> Plan:
    """What all given configuration files ask for."""
    studies: dict[str, Study] = {}
    reproduction: dict[str, str] = {}
    paths: Sequence[str] = arguments.configfile
    places.look_beside(paths)
    check_keys(paths)
    for path in paths:
        try:
            config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such file in {Path.cwd()}; go to the folder of the workflow, or name "
                "the configuration with --configfile"
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            # YAML tells what is wrong, and where, in several lines.
            raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        if not isinstance(config, dict):
            raise ConfigError(f"{path}: not a configuration, which begins with studies:")
        for name, study in load_studies(config).items():
            if studies.setdefault(name, study) != study:
                raise ConfigError(
                    f"{path}: another file has a study {name!r} too, which is not the same; their "
                    "figures would lie in one folder: rename one"
                )
        reproduction |= load_config(config).reproduction
    plan = Plan(studies, reproduction, Results(str(arguments.results)))
    audit.check_places(plan)
    return plan


def _purpose(command: Callable[[argparse.Namespace], int]) -> str:
    """What a command does, without its exit status, in the words of its docstring."""
    return (command.__doc__ or "").splitlines()[0].split("; 1 if")[0].rstrip(".").lower()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dysonflow", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"dysonflow {__version__}")
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser("show", help="print what results were made from")
    command.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a result, or a folder of results"
    )
    command.set_defaults(run=show)
    for name, run in (("verify", verify), ("clean-orphans", clean_orphans)):
        text = _purpose(run)
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--results",
            type=Path,
            default=RESULTS,
            metavar="FOLDER",
            help="where the results are (default: %(default)s)",
        )
        command.add_argument(
            "--configfile",
            nargs="+",
            default=CONFIGURATION,
            metavar="FILE",
            help=f"the configuration they were made with (default: {CONFIGURATION[0]})",
        )
        command.add_argument("--delete", action="store_true", help="delete what is listed")
        command.set_defaults(run=run)
    for name, run in (("layers", layers), ("init", init)):
        text = _purpose(run)
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "path", metavar="PATH", help="a checkpoint, a folder of them, or a pattern"
        )
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a hyperparameter of the study, such as layers=*mlp* or heads=12",
        )
        if run is init:
            command.add_argument("--study", metavar="NAME", help="its name in the configuration")
            command.add_argument(
                "--output", type=Path, metavar="FILE", help="by default STUDY.yaml"
            )
        command.set_defaults(run=run)
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    for stream in (sys.stdout, sys.stderr):
        # A name may hold letters that the locale cannot spell.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = int(chosen.run(chosen))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads has seen enough; nothing is left to be flushed when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("dysonflow: interrupted", file=sys.stderr)
        return 130
    except (ArtifactError, ConfigError) as error:
        print(f"dysonflow: {error}", file=sys.stderr)
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        print(f"dysonflow: {where}{error.strerror or error}", file=sys.stderr)
    except MemoryError:
        print("dysonflow: there is not enough memory", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
