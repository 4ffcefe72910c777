"""The files that calls flow on to, beside the tables: FASTA, BED and GFF3, as a user names them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from store.errors import UsageError
from store.io.replace import check_free, refuse_shared, refuse_store, write_whole
from store.io.tables import safe_cell
from store.location import Location, beside
from store.schema import Sample
from vnp.classify.calls import Contig
from vnp.classify.regions import Region
from vnp.classify.tracks import RegionFiles, region_files
from vnp.classify.viral_contigs import (
    SampleSource,
    ViralContig,
    Wanted,
    match_files,
    write_viral,
)

MISSING = "missing_contigs.tsv"
SAMPLES = "samples.tsv"
REPORT = "predict.json"


def tables_folder(store: Location, output: Path | None) -> Path:
    """Where the tables go, by default beside the store; UsageError if they may not go there."""
    folder = output or beside(store, ".predictions")
    refuse_store(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and the tables go into a folder; name another")
    return folder


def own_tables(folder: Path) -> tuple[Path, ...]:
    """Files that a prediction writes into its folder, beside the folders of the samples."""
    return folder / SAMPLES, folder / REPORT, folder / MISSING


@dataclass(frozen=True, slots=True)
class CallFiles:
    """Which files are wanted; None for one that is not."""

    fasta: Path | None = None  # viral contigs
    contigs: tuple[str, ...] = ()  # files with their sequences: those that were appended
    bed: Path | None = None  # viral regions
    gff: Path | None = None  # the same as GFF3
    force: bool = False  # replace what exists

    def check(
        self,
        samples: Sequence[Sample] = (),
        *,
        outputs: Iterable[Path] = (),
        inputs: Iterable[Path] = (),
    ) -> None:
        """Refuse, before hours of work, what cannot be written.

        `UsageError` if a file exists (without ``force``), two of them and of the other ``outputs``
        are one file, one is among the ``inputs`` or contigs, or one of ``fasta`` and ``contigs`` is
        given without the other.
        """
        paths = [path for path in (self.fasta, self.bed, self.gff) if path is not None]
        refuse_shared([*outputs, *paths], [*inputs, *map(Path, self.contigs)])
        for path in paths:
            if path.is_dir() and (self.force or path == Path()):  # an empty name is .
                raise UsageError(f"{path} is a directory; name a file")
            check_free(path, force=self.force)
        if self.fasta is not None and not self.contigs:
            sources = ", ".join(sample.source for sample in samples[:10])
            appended = f" ({sources})" if sources else ""
            raise UsageError(
                "--fasta-out needs whole contigs, and a store keeps only the stop-free frames of "
                f"their segments: name the files that were appended with --contigs{appended}"
            )
        if self.contigs and self.fasta is None:
            raise UsageError(
                "--contigs names where the sequences for --fasta-out come from; name it too"
            )


@dataclass(frozen=True, slots=True)
class Written:
    """What went into the files."""

    regions: int  # viral regions
    contigs: int  # viral contigs with a sequence in the FASTA file
    missing: int  # viral contigs without one, because no file had it


class CallWriter:
    """Takes the calls of all samples in turn."""

    def __init__(
        self,
        files: CallFiles,
        tracks: RegionFiles,
        sources: Sequence[SampleSource],
        *,
        prefixed: bool,
    ) -> None:
        self._files = files
        self._tracks = tracks
        self._sources = sources
        self._prefixed = prefixed
        self._regions = 0
        self._wanted: dict[str, Wanted] = {}

    def add(self, sample: str, contig: Contig, regions: Sequence[Region]) -> None:
        """Write the regions of a contig, and remember it if it is viral."""
        name = contig.id.decode()
        self._tracks.write(f"{sample}|{name}" if self._prefixed else name, regions)
        self._regions += len(regions)
        if self._files.fasta is not None and contig.is_virus:
            self._wanted.setdefault(sample, {})[contig.id] = ViralContig.of(contig)

    def finish(self, folder: Path) -> Written:
        """Write the FASTA file, and name in ``folder`` the contigs that it lacks."""
        missing: dict[str, list[bytes]] = {}
        if self._files.fasta is not None:
            missing = write_viral(
                self._files.fasta,
                self._sources,
                self._wanted,
                prefixed=self._prefixed,
                force=self._files.force,
            )
        if missing:
            lines = [
                f"{sample}\t{safe_cell(contig.decode())}\n"
                for sample, contigs in missing.items()
                for contig in contigs
            ]
            write_whole(folder / MISSING, ("sample\tcontig\n" + "".join(lines)).encode())
        else:
            (folder / MISSING).unlink(missing_ok=True)
        lacking = sum(map(len, missing.values()))
        return Written(self._regions, sum(map(len, self._wanted.values())) - lacking, lacking)


@contextmanager
def call_writer(files: CallFiles, samples: Sequence[Sample]) -> Iterator[CallWriter]:
    """Yield what takes the calls of ``samples``; BED and GFF3 get their names at the end.

    With several samples every contig's name begins with its sample's: ids may be in both.
    Memory grows with the number of viral contigs, if a FASTA file is wanted. Errors are those of
    `CallFiles.check` and `match_files`, and of writing.
    """
    files.check(samples)
    sources = match_files(files.contigs, samples) if files.contigs else []
    with region_files(files.bed, files.gff, force=files.force) as tracks:
        yield CallWriter(files, tracks, sources, prefixed=len(samples) > 1)
