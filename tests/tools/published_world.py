"""What VirNucPro published, in small: checkpoints, classifiers, code and results of its layout.

All of it is written here and served on loopback, with faults if asked for. The code stands for the
published one: a script of its own, by the slow rules and oracles of the tests, which finds the
weights where torch hub and the Hugging Face hub keep them.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from tests.vnp.classify.classify_files import publish
from tests.vnp.models.checkpoints import random_state, tiny, write_checkpoint, write_fair_esm

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
SPECS = (
    tiny("mosaicbert", name="tiny_dnabert", repo="someone/Tiny-S"),
    tiny("esm2", name="tiny_esm2", repo="someone/esm2_tiny"),
)
WIDTH = sum(spec.dim for spec in SPECS)
CLASSIFIERS = ("300_model.pth", "500_model.pth")
EXAMPLE = "".join(
    f">contig_{number} of the example\n{text}\n"
    for number, text in enumerate(
        ("ATGGCCGATACCGCAAAG" * 12, "AACGTCCTGGAAGGTCCA" * 34, "GCC" * 21)
    )
)

SCRIPT = """
import argparse, os, sys
from pathlib import Path

sys.path.insert(0, {root!r})
import torch
from tokenizers import Tokenizer

from tests.tools.published_world import REVISION, SPECS
from tests.vnp.classify.classify_files import MLPClassifier
from tests.vnp.inference import oracle_esm2, oracle_mosaicbert
from tests.vnp.models.checkpoints import fair_name
from tests.vnp.sequence.slow_rules import records
from vnp.classify.pickled import read_pickled
from vnp.inference.load import naming_of

assert os.environ["HF_HUB_OFFLINE"] == "1" and "SECRET" not in os.environ
fasta, length, model = sys.argv[1:]
Path({ran!r}).open("a").write("ran\\n")
name = fasta.split(".fa")[0]

hub = Path(os.environ["HF_HOME"]) / "hub/models--someone--Tiny-S"
assert (hub / "refs/main").read_text() == REVISION
snapshot = hub / "snapshots" / REVISION
assert (snapshot / "bert_layers.py").read_text() == "# modelling code\\n"
dna, aa = SPECS
state = torch.load(snapshot / "pytorch_model.bin")
state = {{key.removeprefix(naming_of(dna).prefix): value for key, value in state.items()}}
tokenizer = Tokenizer.from_file(str(snapshot / "tokenizer.json"))
checkpoints = Path(os.environ["TORCH_HOME"]) / "hub/checkpoints"
with torch.serialization.safe_globals([argparse.Namespace]):
    fair = torch.load(checkpoints / "esm2_tiny.pt")["model"]
assert (checkpoints / "esm2_tiny-contact-regression.pt").exists()
prefix = "encoder.sentence_encoder."
esm = {{key: fair[prefix + fair_name(key)] for key in naming_of(aa).shapes}}
alphabet = "LAGVSERTIDPKQNFYMHWCXBUZO.-"

ids, rows = [], []
for part in Path(fasta).read_text().split(">")[1:]:
    header, *lines = part.splitlines()
    for record in records(header.split()[0], "".join(lines), int(length)):
        tokens = tokenizer.encode(record["nucleotide"]).ids
        nucleotide = oracle_mosaicbert.encode(dna, state, tokens).mean(0)
        tokens = [0, *(4 + alphabet.index(letter) for letter in record["protein"]), 2]
        protein = oracle_esm2.encode(aa, esm, tokens)[1:-1].mean(0)
        ids.append(record["id"])
        rows.append(torch.cat([nucleotide, protein]))
out = Path(name + "_merged")
out.mkdir()
for number, first in enumerate(range(0, len(ids), 10), start=1):
    part = slice(first, first + 10)
    made = {{"ids": ids[part], "data": torch.stack(rows[part])}}
    torch.save(made, out / f"output_{{number}}_merged.pt")
module = MLPClassifier(len(rows[0])).eval()
module.load_state_dict(read_pickled(Path(model))[0])
with torch.no_grad():
    scores = module(torch.stack(rows)).softmax(1).tolist()
with (out / "prediction_results.txt").open("w") as file:
    file.write("Sequence_ID\\tPrediction\\tscore1\\tscore2\\n")
    for record, (one, two) in zip(ids, scores):
        file.write(f"{{record}}\\t{{'virus' if two > one else 'others'}}\\t{{one}}\\t{{two}}\\n")
with (out / "prediction_results_highestscore.csv").open("w") as file:
    file.write("Modified_ID\\tIs_Virus\\n")
    for segment in sorted({{record[:-2] for record in ids}}):
        both = [pair for record, pair in zip(ids, scores) if record[:-2] == segment]
        viral = max(two for _, two in both) >= max(one for one, _ in both)
        file.write(f"{{segment}}\\t{{viral}}\\n")
"""


@dataclass
class World:
    """Files that are served, and what becomes of requests for them."""

    folder: Path
    ran: Path  # a line for each time the code ran
    files: dict[str, str] = field(default_factory=dict)  # part by path
    seen: list[str] = field(default_factory=list)  # "PATH" or "PATH from N" for each request
    cut: dict[str, list[int]] = field(default_factory=dict)  # bytes after which answers end
    address: str = ""

    def listed(self, path: Path, **changes: Any) -> Path:
        """Write the list of pinned files; ``changes`` are of entries, by path."""
        files = []
        for name, part in self.files.items():
            content = (self.folder / name).read_bytes()
            entry: dict[str, Any] = {
                "path": name,
                "part": part,
                "url": f"{self.address}/{name}",
                "size": len(content),
            }
            if name.endswith(".pth"):  # as of those published, only the blob's id is known
                entry["git_blob"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                entry["size"] = None
            else:
                entry["sha256"] = hashlib.sha256(content).hexdigest()
            files.append(entry | changes.get(name, {}))
        code = {
            "script": "prediction.py",
            "requirements": "requirements.txt",
            "also": [],
            "without": [],
            "hub": {"repo": "someone/Tiny-S", "revision": REVISION},
        }
        path.write_text(json.dumps({"recipe": "tiny", "code": code, "files": files}))
        return path


def publish_all(folder: Path) -> World:
    """Write the files, and the results of the code on the example."""
    dna, aa = SPECS
    folder.mkdir()
    world = World(folder, folder.parent / "ran")

    def add(name: str, part: str, text: str | None = None) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        world.files[name] = part
        if text is not None:
            path.write_text(text)
        return path

    state = random_state(dna, seed=1, prefix=True)
    write_checkpoint(folder / "weights/Tiny-S", dna, state, kind="bin")
    for name in ("config.json", "tokenizer.json", "pytorch_model.bin"):
        add(f"weights/Tiny-S/{name}", "weights")
    write_fair_esm(add("weights/esm2_tiny.pt", "weights"), random_state(aa, seed=2))
    for name in CLASSIFIERS:
        publish(add(name, f"classifier {name[:3]}"), WIDTH, seed=int(name[:3]))
    add("example/small.fa", "example", EXAMPLE)
    add("code/prediction.py", "code", script(world))
    add("code/requirements.txt", "code", "")
    add("code/esm2_tiny-contact-regression.pt", "code", "unused")
    add("code/Tiny-S/bert_layers.py", "code", "# modelling code\n")
    return world


def script(world: World) -> str:
    """Text of the published script."""
    return SCRIPT.format(root=str(ROOT), ran=str(world.ran))


def add_results(world: World, made: Path) -> None:
    """Take what the code made as published results."""
    names = ("output_1_merged.pt", "prediction_results.txt", "prediction_results_highestscore.csv")
    parts = [torch.load(path) for path in sorted(made.glob("*_merged.pt"))]
    whole = {
        "ids": [name for part in parts for name in part["ids"]],
        "data": torch.cat([part["data"] for part in parts]),
    }
    for name in names:
        path = world.folder / "example/reference" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".pt"):
            torch.save(whole, path)
        else:
            path.write_bytes((made / name).read_bytes())
        world.files[f"example/reference/{name}"] = "reference"


def spoil_results(world: World) -> None:
    """Lose a record's features, shift those of ESM-2, turn the call of a record and a segment."""
    folder = world.folder / "example/reference"
    merged = torch.load(folder / "output_1_merged.pt")
    ids, data = merged["ids"][:-1], merged["data"][:-1]
    data[:, SPECS[0].dim :] += 0.05
    torch.save({"ids": ids, "data": data}, folder / "output_1_merged.pt")
    table = folder / "prediction_results.txt"
    lines = table.read_text().splitlines()
    name, call, *both = lines[1].split("\t")
    lines[1] = "\t".join([name, "others" if call == "virus" else "virus", *both])
    table.write_text("\n".join(lines) + "\n")
    table = folder / "prediction_results_highestscore.csv"
    lines = table.read_text().splitlines()
    name, call = lines[1].split("\t")
    lines[1] = f"{name}\t{call != 'True'}"
    table.write_text("\n".join(lines) + "\n")


@contextmanager
def served(world: World) -> Iterator[None]:
    """Serve the files, with ranges; answers end where ``world.cut`` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            path = world.folder / name
            if not path.is_file():
                world.seen.append(name)
                return self.send_error(404, "Not Found")
            content = path.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(found[1]) if found else 0
            world.seen.append(f"{name} from {first}" if first else name)
            self.send_response(206 if first else 200)
            body = content[first:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            ends = world.cut.get(name)
            self.wfile.write(body[: ends.pop(0)] if ends else body)
            return None

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        world.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def new_interpreter(path: Path) -> Path:
    """An interpreter that says it is of a version without the published packages."""
    path.write_text("#!/bin/sh\necho 3 13\n")
    path.chmod(0o755)
    subprocess.run([path], check=True, stdout=subprocess.DEVNULL)
    return path


INTERPRETER = sys.executable
