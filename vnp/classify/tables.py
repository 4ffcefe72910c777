"""The files of a prediction, in the published layout and beside it, whole or not at all.

Published layout, worked out from what the published code does with its scores:

``prediction_results.txt``
    Tab-separated, header ``Sequence_ID Prediction score1 score2``, records in row order. A score is
    NumPy's shortest text of a float32 (``0.99999994``, ``1e-05``). The prediction is the class with
    the higher score, ``others`` on a tie.
``prediction_results_highestscore.csv``
    Tab-separated in spite of its name, header ``Modified_ID Is_Virus``, ``True`` or ``False``.
    pandas makes it by grouping, which sorts: windows are in byte order of their ids (chunk_10
    before chunk_2), and an id that holds a quotation mark is quoted.

In the tables beside them an id that a spreadsheet would take for a formula gets an apostrophe in
front; in the two published files it stays as it is.
"""

from __future__ import annotations

import csv
import heapq
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import compress, islice
from pathlib import Path
from typing import IO, TextIO

import numpy as np

from store.io.files import fsync_dir, rename_over
from store.io.tables import safe_cell
from vnp.classify.calls import Contig, RecordScores, Window
from vnp.classify.mlp import CLASSES
from vnp.classify.regions import Region
from vnp.classify.score_texts import shortest

RECORDS = "prediction_results.txt"
WINDOWS = "prediction_results_highestscore.csv"
SEGMENTS = "segments.tsv"
CONTIGS = "contigs.tsv"
REGIONS = "viral_regions.tsv"
UNSCORED = "unscored.tsv"

_HEADERS = {
    RECORDS: "Sequence_ID\tPrediction\tscore1\tscore2\n",
    SEGMENTS: "contig\tsegment\tstart\tend\trecords\tunscored\tscore1\tscore2\tcall\n",
    CONTIGS: (
        "contig\tstart\tend\tsegments\tviral_segments\tviral_share\tmean_score2\tbest_score2\t"
        "best_segment\tregions\tcall\tlength\n"
    ),
    REGIONS: "contig\tstart\tend\tsegments\tviral_segments\tmean_consensus\tbest_consensus\n",
    UNSCORED: "Sequence_ID\trow\tnot_certified_for\n",
}
_WRITTEN_AT_A_TIME = 10_000  # lines
_PERHAPS_QUOTED = (b'"', b"\r", b" ")  # in an id, by csv; and a tab
_SORTED_AT_A_TIME = 500_000  # windows sorted in memory, about 100 MB


@contextmanager
def sample_tables(folder: Path) -> Iterator[SampleTables]:
    """Yield what writes the files of one sample; they get their names if the body succeeds.

    The folder is made if it does not exist; files of an earlier run are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part,
        ExitStack() as stack,
    ):
        files = {
            name: stack.enter_context((Path(part) / name).open("w", newline="\n"))
            for name in (*_HEADERS, WINDOWS)
        }
        tables = SampleTables(files, Path(part))
        yield tables
        tables.finish()
        for name, file in files.items():
            file.flush()
            os.fsync(file.fileno())
            if name == UNSCORED and not tables.unscored:
                (folder / name).unlink(missing_ok=True)
            else:
                rename_over(Path(part) / name, folder / name)
        fsync_dir(folder)


class SampleTables:
    """Writes the files of one sample, which are open and empty; sorts in the folder ``scratch``."""

    def __init__(self, files: Mapping[str, TextIO], scratch: Path) -> None:
        self.unscored = 0  # records named in the table of those without a score
        self._files = files
        self._windows = _SortedLines(scratch)
        for name, header in _HEADERS.items():
            files[name].write(header)

    def records(self, rows: RecordScores) -> None:
        """Write the next records, those that have a score."""
        scored = ~np.isnan(rows.scores[:, 1])
        score1, score2 = rows.scores[scored].T
        ids = map(bytes.decode, compress(rows.id, scored.tolist()))
        columns = zip(
            ids, (score2 > score1).tolist(), shortest(score1), shortest(score2), strict=True
        )
        self._files[RECORDS].writelines(
            [f"{record}\t{CLASSES[virus]}\t{one}\t{two}\n" for record, virus, one, two in columns]
        )

    def unscored_record(self, record: bytes, row: int, models: list[str]) -> None:
        """Name a record that has no score, with its row and the models it lacks."""
        self._files[UNSCORED].write(f"{safe_cell(record.decode())}\t{row}\t{','.join(models)}\n")
        self.unscored += 1

    def windows(self, windows: Sequence[Window]) -> None:
        """Write the next called windows, all of one contig."""
        self._windows.add(
            [
                name + (b"\t1" if score2 >= score1 else b"\t0")
                for name, _, _, _, _, _, _, score1, score2, _ in windows
            ]
        )
        contig = safe_cell(windows[0].contig.decode())
        self._files[SEGMENTS].writelines(
            [
                f"{contig}\t{number}\t{start}\t{end}\t{records}\t{unscored}\t{score1:.6g}\t"
                f"{score2:.6g}\t{CLASSES[score2 >= score1]}\n"
                for _, _, number, start, end, records, unscored, score1, score2, _ in windows
            ]
        )

    def contig(self, contig: Contig, regions: Sequence[Region]) -> None:
        """Write the next contig and its viral regions."""
        name = safe_cell(contig.id.decode())
        self._files[CONTIGS].write(
            f"{name}\t{contig.start}\t{contig.end}\t{contig.windows}\t{contig.viral}\t"
            f"{contig.viral / contig.windows:.6g}\t{contig.mean:.6g}\t{contig.best:.6g}\t"
            f"{contig.best_window}\t{len(regions)}\t{CLASSES[contig.is_virus]}\t"
            f"{contig.length or ''}\n"
        )
        for region in regions:
            self._files[REGIONS].write(
                f"{name}\t{region.start}\t{region.end}\t{region.windows}\t{region.viral}\t"
                f"{region.mean:.6g}\t{region.best:.6g}\n"
            )

    def finish(self) -> None:
        """Write the windows, which had to be sorted first."""
        file = self._files[WINDOWS]
        file.write("Modified_ID\tIs_Virus\n")
        quoting = csv.writer(file, delimiter="\t", lineterminator="\n")
        lines = iter(self._windows)
        while some := list(islice(lines, _WRITTEN_AT_A_TIME)):
            text = b"\n".join([*some, b""])
            if text.count(b"\t") > len(some) or any(odd in text for odd in _PERHAPS_QUOTED):
                parts = (line.rpartition(b"\t") for line in some)
                quoting.writerows((window.decode(), virus == b"1") for window, _, virus in parts)
            else:
                text = text.replace(b"\t1\n", b"\tTrue\n").replace(b"\t0\n", b"\tFalse\n")
                file.write(text.decode())


class _SortedLines:
    """Byte strings in order, in bounded memory: sorted runs on disk, merged at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[bytes] = []
        self._runs: list[Path] = []

    def add(self, lines: list[bytes]) -> None:
        self._held += lines
        if len(self._held) >= _SORTED_AT_A_TIME:
            run = self._folder / f"run-{len(self._runs)}"
            run.write_bytes(b"".join(held + b"\n" for held in sorted(self._held)))
            self._runs.append(run)
            self._held = []

    def __iter__(self) -> Iterator[bytes]:
        # A tab sorts before every character of an id, so whole lines are in the order of ids.
        if not self._runs:
            yield from sorted(self._held)
            return
        with ExitStack() as stack:
            runs: list[IO[bytes]] = [stack.enter_context(run.open("rb")) for run in self._runs]
            last = [held + b"\n" for held in sorted(self._held)]
            for line in heapq.merge(*runs, last):
                yield line[:-1]
