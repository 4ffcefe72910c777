/* Where the page's data come from.

The page asks everything of one `source`. There are two: the embedded one below reads parts that
lie compressed in the file itself; a live one asks a server. All methods are async and give plain
JSON; what is text is data of strangers and is only ever shown as text. Numbers that are not known
are null. Positions on a contig are 0-based and half-open, scores are 0 to 1, times ISO 8601 UTC.

overview() -> {
  title, made, version,              // the headline; when and by which vnp the page was made
  warning,                           // what must be known before anything is read, or ""
  live,                              // whether it is served by a running program
  store: {
    rows, models: [name],            // records, and the models that embed them
    segments,                        // what windows are, in words: "500 bp segments"
    segment_length, genetic_code,    // bases, 0: whole contigs; NCBI's number
    contig_lengths,                  // whether it keeps them: stores of earlier versions do not
    complete, left,                  // every row filled for every model? embeddings still to make
  },
  total: Sample,                     // the sum over all samples; its name is "all samples"
  samples: [Sample],                 // at most 200, the largest of more, in the order of the store
  n_samples, rest: Sample | null,    // how many there are; the samples not listed, summed up
  classifier: null | {
    file,                            // name of its file, or "" if only its scores are known
    scores,                          // name of the scores kept in the store, or ""
    digest,                          // hash of its weights, "sha256:..."
    date, date_of,                   // "" if unknown; what the date is of, in words
    records,                         // scored
  },
  scores: null | {                   // segments by their consensus
    low, width, threshold,           // left edge of the first bin, width of a bin; 0.5
    groups: [{name, counts: [n]}],   // one a sample, at most 8; the last may be "12 other samples"
  },
  distributions: null | {            // over all records, or an even sample of them
    records, sequences,              // looked at
    segment_length: Histogram, protein_length: Histogram,  // {low, width, counts: [n]}
    frames: {F1: n, ..., R3: n},
  },
  models: [{
    name, dim, rows, filled, blocks, open_blocks,
    cells: [share],                  // share filled, from the first row to the last
    facts: [[name, value]],          // provenance, in words
  }],
  marks: [{name, start, end}],       // samples along the rows, 0 to 1
  work: {
    certificates, of, more_workers,  // read, there are; workers not listed
    workers: [{worker, device, blocks, records, rate, first, last}],   // records: embeddings; rate: those a second
    timeline: null | {
      groups: [name],                // workers; the last may be "3 other workers"
      bins: [{start, end, rates: [embeddings a second, by group]}],
    },
  },
}
Sample = {
  name, contigs, without_records, bases, segments, records, certified,
  called_segments, viral_segments, called_contigs, viral_contigs,      // null without scores
  called_bases, viral_bases,         // length of the called, and of the viral, contigs
}

contigs({sample, min_length, min_score, viral, text, sort, descending, offset, limit}) -> {
  total,                             // how many match
  rows: [{
    sample, contig,
    bases,                           // length; without contig_lengths that to the end of its
                                     // last segment that has a record
    segments, records,               // of its segments, those with a record
    viral_segments, score, viral,    // mean score2 of its called segments; null if not called
  }],
  complete, searched, of,            // are all contigs searched? how many are, how many there are
}
  Every key may be absent or null. `sample` is a name; `text` is found in the id, whatever its
  case; `viral: true` leaves out what is not viral; `sort` is a key of a row, by default
  "evidence": the most viral first. Nulls come last whichever way it is sorted.

track({sample, contig}) -> null | {  // null: not in this file
  start: [base], end: [base],        // the segments that have records, in order
  consensus: [number | null],        // 0.5 or more exactly if the segment is viral; null: not scored
  frames: [{frame, start, end}],     // each record: "F1" .. "R3", and its segment's bases
  regions: [{start, end, name, given}],  // viral regions; given: by a user, else found here
  joined,                            // neighbouring segments that are one here: 1 but of very long
}

map() -> null | {                    // null: too few certified records for a map
  method, axes: [x, y], note,        // "UMAP" or "PCA"; what to hold of it, in words
  of,                                // certified records there are; those shown are a sample
  x: [], y: [],                      // of n records, as are all arrays that follow
  id: [], row: [], length: [],       // record id, row of the store, bases of its contig
  score: [] | null,                  // score2 of the record; null in it: not scored
  contig: [], sample: [], frame: [], // indices into names
  names: {contig: [], sample: [], frame: []},
}

A live source also has
  neighbours(row, told, signal) -> [{row, id, sample, contig, similarity, score}]
                                     // most similar records, with score2; as it compares it calls
                                     // told({done, of, seconds_left, records}): records compared,
                                     // there are, seconds or null, the best so far; signal gives up
  noMap, retryMap                    // why there is no map, or null; whether map({again: true})
                                     // would try once more
  events(callback) -> stop           // calls back with parts of the overview that have changed,
                                     // whole, and {workers, rate, seconds_left}: how many are
                                     // running, embeddings a second; {contigs: {indexed, of, complete}}
                                     // and {map}: certified records of a new map; stop() ends it
and the page shows these parts only if the source has the methods. */

const vnp = {};

(() => {
  "use strict";

  const SORTS = {
    evidence: (each) => each.evidence,
    viral: (each) => (each.viral === null ? null : Number(each.viral)),
  };

  /** The source that reads the parts of its own file; `read(name)` gives one as JSON. */
  vnp.embeddedSource = (read) => {
    const parts = new Map();
    const part = (name) => {
      if (!parts.has(name)) parts.set(name, read(name));
      return parts.get(name);
    };
    let rows = null;

    /** Contigs as objects, in the order of their evidence. */
    async function contigRows() {
      const table = await part("contigs");
      rows ??= table.contig.map((contig, at) => ({
        sample: table.samples[table.sample[at]],
        contig,
        bases: table.bases[at],
        segments: table.segments[at],
        records: table.records[at],
        viral_segments: called(table, at) ? table.viral_segments[at] : null,
        score: called(table, at) ? table.score[at] : null,
        viral: called(table, at) ? table.viral[at] === 1 : null,
        evidence: -at,
        at,
      }));
      return rows;
    }

    return {
      overview: () => part("overview"),

      async map() {
        const map = await part("map");
        if (map) map.id ??= map.suffix.map((end, at) => map.names.contig[map.contig[at]] + end);
        return map;
      },

      async contigs(query = {}) {
        const table = await part("contigs");
        const found = select(await contigRows(), query);
        const offset = query.offset ?? 0;
        const limit = query.limit ?? found.length;
        const page = found.slice(offset, offset + limit);
        return {
          total: found.length,
          rows: page.map(({ evidence, at, ...row }) => row),
          complete: table.of === table.contig.length,
          searched: table.contig.length,
          of: table.of,
        };
      },

      async track({ sample, contig }) {
        const row = (await contigRows()).find(
          (each) => each.contig === contig && each.sample === sample,
        );
        const tracks = await part("tracks");
        return row && row.at + 1 < tracks.first.length ? unpacked(tracks, row.at) : null;
      },
    };
  };

  /** Whether a contig has a score. */
  const called = (table, at) => table.score !== null && table.score[at] !== null;

  /** Rows that match a query, sorted. */
  function select(rows, query) {
    const text = (query.text ?? "").toLowerCase();
    const found = rows.filter(
      (row) =>
        (query.sample == null || row.sample === query.sample) &&
        (query.min_length == null || row.bases >= query.min_length) &&
        (query.min_score == null || (row.score !== null && row.score >= query.min_score)) &&
        (!query.viral || row.viral) &&
        (!text || row.contig.toLowerCase().includes(text)),
    );
    const key = query.sort ?? "evidence";
    const value = SORTS[key] ?? ((row) => row[key]);
    const sign = (query.descending ?? key === "evidence") ? -1 : 1;
    return found.sort((a, b) => {
      const [one, two] = [value(a), value(b)];
      if (one === null || two === null) return (one === null) - (two === null) || a.at - b.at;
      return sign * (one < two ? -1 : one > two ? 1 : 0) || a.at - b.at;
    });
  }

  /** The track of contig `at`: starts are kept as steps, frames as six bits, the consensus in 1/1000. */
  function unpacked(tracks, at) {
    const [first, last] = [tracks.first[at], tracks.first[at + 1]];
    const track = {
      start: [],
      end: [],
      consensus: [],
      frames: [],
      regions: tracks.regions[at] ?? [],
      joined: tracks.joined[at] ?? 1,
    };
    let start = 0;
    for (let index = first; index < last; index++) {
      start += tracks.step[index];
      const end = start + tracks.length[index];
      track.start.push(start);
      track.end.push(end);
      const each = tracks.consensus?.[index] ?? null;
      track.consensus.push(each === null ? null : each / 1000);
      tracks.frames.forEach((frame, bit) => {
        if (tracks.mask[index] & (1 << bit)) track.frames.push({ frame, start, end });
      });
    }
    return track;
  }

  /** Read the parts of the document that this script stands in. */
  vnp.partsOfDocument = async (name) => {
    const text = document.getElementById(`part-${name}`).textContent;
    const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  };
})();
