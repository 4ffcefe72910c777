"""``vnp run``: init, append, embed and predict in one go.

Each stage is the command of that name, with what the user would have typed; each resumes from the
store, so the same ``vnp run`` again goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from typing import Any

from store.errors import UsageError
from vnp.cli.main import DONE, INCOMPLETE, INTERRUPTED, main
from vnp.cli.output import print_json, say


def run(options: argparse.Namespace) -> int:
    """Run the stages until one does not end well; its exit code is the answer."""
    if options.sample is not None and len(options.fasta) > 1:
        raise UsageError("--sample names one sample, and several files were given")
    results: dict[str, Any] = {}
    code = DONE
    for stage in _stages(options):
        say("vnp " + " ".join(stage))
        code = _stage(stage, results, as_json=options.json)
        if code != DONE:
            carry_on = (
                "; run the same command to go on" if code in (INCOMPLETE, INTERRUPTED) else ""
            )
            say(f"vnp {stage[0]} ended with exit code {code}{carry_on}")
            break
    if options.json:
        print_json({"exit_code": code, **results})
    return code


def _stages(options: argparse.Namespace) -> list[list[str]]:
    """Command lines of the stages, in order."""
    path = str(options.store)
    stages: list[list[str]] = []
    made = options.store.exists()
    if not made or options.recipe is not None or options.segment_length is not None:
        init = ["init", path, "--if-missing"]
        if options.recipe is not None:
            init += ["--recipe", options.recipe]
        if options.segment_length is not None:
            init += ["--segment-length", str(options.segment_length or "whole")]
        stages.append(init)
    for file in options.fasta:
        append = ["append", path, file, "--existing", "skip", "--duplicates", options.duplicates]
        if options.sample is not None:
            append += ["--sample", options.sample]
        stages.append(append)
    embed = ["embed", path, "--device", options.device, "--precision", options.precision]
    if options.weights is not None:
        embed += ["--weights", str(options.weights)]
    if options.workers is not None:
        embed += ["--workers", str(options.workers)]
    stages.append(embed)
    predict = ["predict", path, "--classifier", str(options.classifier)]
    predict += ["--device", options.device]
    if options.output is not None:
        predict += ["--output", str(options.output)]
    stages.append(predict)
    return stages


def _stage(arguments: list[str], results: dict[str, Any], *, as_json: bool) -> int:
    """Run one stage; with ``as_json`` its result is put into ``results``."""
    if not as_json:
        return main(arguments)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = main([*arguments, "--json"])
    lines = output.getvalue().splitlines()
    result = json.loads(lines[-1]) if lines else None
    if arguments[0] == "append":
        results.setdefault("append", []).append(result)
    else:
        results[arguments[0]] = result
    return code
