"""Draw the picture of the report in the README: ``docs/images/report.png``.

``python tools/report_picture.py [--output FILE]``: two minutes, with Playwright and Chromium. The
store is made anew: two samples of made-up coding contigs, one with 20 kb of the bundled phage in
its middle, and the phage itself, embedded by the demo models and called by a classifier that is
trained on them. The picture shows the longest contigs and the track of the planted one. The warning
about demo models is above that part of the page, so the README's caption says it.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vnp.cli.main import main as vnp  # noqa: E402

PHAGE = files("vnp") / "data/lambda_phage.fa.gz"
PLANTED, BEGIN, END = "soil_contig_1", 22_500, 42_500  # where the phage is
MOST_BYTES = 200_000
STOPS = ("TAA", "TAG", "TGA")
CODONS = [each for each in map("".join, product("ACGT", repeat=3)) if each not in STOPS]


def coding(generator: random.Random, bases: int) -> str:
    """Made-up sequence without a stop in its first frame."""
    return "".join(generator.choices(CODONS, k=bases // 3))


def write_fasta(path: Path, contigs: dict[str, str]) -> None:
    """Write contigs."""
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in contigs.items()))


def make_report(folder: Path) -> Path:
    """Make samples, store, classifier and report."""
    generator = random.Random(7)
    phage = "".join(gzip.decompress(PHAGE.read_bytes()).decode().splitlines()[1:])
    soil, sea, genes = (
        {f"{name}_contig_{n}": coding(generator, bases(n)) for n in range(2, most)}
        for name, most, bases in (
            ("soil", 40, lambda n: 36_000 // n),
            ("seawater", 30, lambda n: 30_000 // n),
            ("genes", 12, lambda _: 3_000),
        )
    )
    flanks = coding(generator, BEGIN), coding(generator, 63_000 - END)
    soil[PLANTED] = flanks[0] + phage[10_000 : 10_000 + END - BEGIN] + flanks[1]
    for name, contigs in (("soil", soil), ("seawater", sea), ("genes", genes)):
        write_fasta(folder / f"{name}.fa", contigs)
    shutil.copyfile(str(PHAGE), folder / "lambda_phage.fa.gz")
    labels = "sample\tlabel\nlambda_phage\tvirus\ngenes\tothers\n"
    (folder / "labels.tsv").write_text(labels)
    (folder / "planted.bed").write_text(f"{PLANTED}\t{BEGIN}\t{END}\tplanted\n")
    store, classifier = str(folder / "study.zarr"), str(folder / "demo.safetensors")
    output = folder / "report.html"
    for words in (
        ["init", store, "--recipe", "demo"],
        *(["append", store, str(folder / f"{name}.fa")] for name in ("soil", "seawater", "genes")),
        ["append", store, str(folder / "lambda_phage.fa.gz")],
        ["embed", store],
        ["train", store, "--labels", str(folder / "labels.tsv"), "-o", classifier,
         "--learning-rate", "0.002", "--patience", "20"],
        ["report", store, "--classifier", classifier, "-o", str(output), "--title",
         "Soil and seawater, pilot study", "--regions", str(folder / "planted.bed")],
    ):  # fmt: skip
        if code := vnp([*words, "--quiet"]):
            sys.exit(code)
    return output


def draw(report: Path, output: Path) -> None:
    """Open the planted contig's track, and draw the table with it."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1120, "height": 2000}, color_scheme="light")
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready]")
        page.get_by_label("Length at least").fill("14000")
        page.locator("#contigs .status", has_text=re.compile("^1.[1-9] of")).wait_for()
        page.locator(".contigs .open", has_text=re.compile(f"^{PLANTED}$")).click()
        page.locator(".sheet svg").wait_for()
        page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 500)))")
        table = page.locator("#contigs").bounding_box()
        assert table is not None
        clip = {"x": 0, "y": table["y"] - 8, "width": 1120, "height": table["height"] + 16}
        page.screenshot(path=output, clip=clip, full_page=True)
        browser.close()


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/report.png")
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        draw(make_report(Path(folder)), output)
    size = output.stat().st_size
    print(f"{output}: {size:,} bytes")
    if size > MOST_BYTES:
        sys.exit(f"larger than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
