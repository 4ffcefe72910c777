"""``vnp launch ENGINE``: workers on the machines of an engine that is there already."""

from __future__ import annotations

import argparse

from vnp.cli import launch_ray, launch_slurm, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the engines, each with its options."""
    engines = parser.add_subparsers(dest="engine", metavar="ENGINE", required=True)
    about = "submit an array job of workers to Slurm, and a job that certifies the store after it"
    slurm = engines.add_parser("slurm", help=about, description=about, allow_abbrev=False)
    launch_slurm.add_arguments(slurm)
    slurm.set_defaults(launch=launch_slurm.run)
    about = "fill and certify the store by tasks of a Ray cluster (also KubeRay, SkyPilot)"
    ray = engines.add_parser("ray", help=about, description=about, allow_abbrev=False)
    launch_ray.add_arguments(ray)
    ray.set_defaults(launch=launch_ray.run)
    for engine in engines.choices.values():
        options.common(engine)
        engine.set_defaults(command_parser=engine, passes_on=engine is slurm)


def run(given: argparse.Namespace) -> int:
    """Launch workers by the engine."""
    if given.passed_on and not given.passes_on:
        from store.errors import UsageError

        raise UsageError(f"{given.engine} takes nothing behind --: {' '.join(given.passed_on)}")
    code: int = given.launch(given)
    return code
