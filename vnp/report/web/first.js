/* The first screen: what is viral, by which classifier, in which samples; what to know before. */

(() => {
  "use strict";

  /** The head of the page. */
  vnp.header = (overview) => {
    const { store, total } = overview;
    const models =
      store.models.map((name) => vnp.clipped(name, 40)).join(" and ") || "no models yet";
    return vnp.el(
      "header",
      {},
      vnp.el("p", { class: "over" }, "Viral metagenome · vnp"),
      vnp.el("h1", {}, vnp.name(overview.title, 120)),
      vnp.el(
        "p",
        { class: "lead" },
        `${vnp.plural(total.contigs, "contig")}, ${vnp.bases(total.bases)}, cut into ${store.segments}; ${store.rows && store.complete ? "" : "to be "}embedded with ${models}.`,
      ),
      vnp.warning(overview),
      vnp.el("p", { class: "state" }, state(store)),
    );
  };

  /** What must be known before anything else is read. */
  vnp.warning = ({ warning }) =>
    warning
      ? vnp.el(
          "div",
          { class: "warning", role: "alert" },
          vnp.el("strong", {}, "Not a result: "),
          `${warning}.`,
        )
      : null;

  function state({ rows, complete, left }) {
    if (!rows) return vnp.el("span", { class: "pill" }, "Empty: no records yet");
    if (complete)
      return vnp.el(
        "span",
        { class: "pill complete" },
        "Complete: every record is certified for every model",
      );
    return vnp.el(
      "span",
      { class: "pill partial" },
      `Incomplete: ${vnp.plural(left, "embedding")} still to be made`,
    );
  }

  /** Figures of the whole, the classifier, and the table of samples. */
  vnp.viralSection = (overview, choose) => {
    const called = overview.classifier !== null;
    return vnp.section(
      "viral",
      called ? "What is viral" : "Samples",
      vnp.el(
        "div",
        { class: "answer" },
        tiles(overview, called),
        called ? classifier(overview.classifier) : uncalled(overview),
      ),
      called ? vnp.lengthNote(overview, "viral and called lengths") : null,
      overview.n_samples
        ? samples(overview, called, choose)
        : vnp.el(
            "p",
            { class: "empty" },
            "No sample has been appended yet: “vnp append STORE FILE”.",
          ),
    );
  };

  function tiles({ total, n_samples: n }, called) {
    const shown = called
      ? [
          [
            vnp.count(total.viral_contigs),
            `viral ${total.viral_contigs === 1 ? "contig" : "contigs"}`,
            `of ${vnp.count(total.called_contigs)} called`,
          ],
          [
            vnp.bases(total.viral_bases),
            "viral length",
            `of ${vnp.bases(total.called_bases)} called`,
          ],
          [
            vnp.percent(total.viral_bases, total.called_bases),
            "share of length",
            `${vnp.percent(total.viral_contigs, total.called_contigs)} of contigs`,
          ],
          [vnp.count(n), n === 1 ? "sample" : "samples", vnp.plural(total.records, "record")],
        ]
      : [
          [vnp.count(n), n === 1 ? "sample" : "samples", ""],
          [
            vnp.short(total.contigs),
            total.contigs === 1 ? "contig" : "contigs",
            vnp.bases(total.bases),
          ],
          [vnp.short(total.segments), total.segments === 1 ? "segment" : "segments", ""],
          [
            vnp.short(total.records),
            total.records === 1 ? "record" : "records",
            total.records ? `${vnp.percent(total.certified, total.records)} certified` : "",
          ],
        ];
    return vnp.el(
      "dl",
      { class: "tiles" },
      shown.map(([number, name, under], at) =>
        vnp.el(
          "div",
          { class: called && at < 3 ? "virus" : null },
          vnp.el("dt", {}, name),
          vnp.el("dd", {}, vnp.el("b", {}, number), vnp.el("span", {}, under)),
        ),
      ),
    );
  }

  function classifier(known) {
    const name = known.file || known.scores;
    const date = known.date ? `${vnp.moment(known.date)} (${known.date_of})` : "date unknown";
    return facts("Classifier", [
      [known.file ? "file" : "kept scores", vnp.name(name, 48)],
      ["weights", known.digest ? vnp.hash(known.digest) : "unknown"],
      ["date", date],
      ["scored", vnp.plural(known.records, "record")],
    ]);
  }

  function uncalled({ store, scores }) {
    if (scores) return facts("Classifier", [["state", "its scores are being read"]]);
    const say = store.rows
      ? "Nothing is called yet: no scores are kept in the store. "
      : "Nothing to call yet. ";
    return vnp.el(
      "div",
      { class: "facts-box" },
      vnp.el("h3", {}, "Classifier"),
      vnp.el(
        "p",
        {},
        say,
        "“vnp predict STORE --classifier FILE --save NAME” keeps scores for this page; “vnp report STORE --classifier FILE” scores for it alone.",
      ),
    );
  }

  function facts(title, rows) {
    return vnp.el(
      "div",
      { class: "facts-box" },
      vnp.el("h3", {}, title),
      vnp.el(
        "dl",
        { class: "facts" },
        rows.map(([name, value]) => [vnp.el("dt", {}, name), vnp.el("dd", {}, value)]),
      ),
    );
  }
  vnp.facts = facts;

  function samples(overview, called, choose) {
    const { samples: listed, rest, total, n_samples: n } = overview;
    const heads = [
      "Sample",
      ...(called ? ["Viral contigs", "Viral length", "Share of length"] : []),
      "Contigs",
      "Without record",
      "Length",
      "Segments",
      "Records",
      "Certified",
    ];
    const about = {
      "Viral contigs": "Of its called contigs: those with a score",
      "Viral length": "Of the length of its called contigs",
      "Share of length": "Viral length in per cent of the length of its called contigs",
      Contigs: "All contigs, also those without a record",
      "Without record": "Contigs that have no stop-free reading frame in any segment",
      Length: "Bases of all contigs, also of those without a record",
      Segments: "All segments of all contigs, also those without a record",
      Certified: "Records that have the embeddings of every model",
    };
    const line = (row, kind) => {
      const name = kind ? vnp.visible(row.name) : vnp.name(row.name, 20);
      const chosen =
        kind || n === 1
          ? name
          : vnp.button(name, () => choose(row.name), { class: "open", title: "Its contigs" });
      return vnp.el(
        "tr",
        { class: kind },
        vnp.el("th", { scope: "row", class: "left" }, chosen),
        called
          ? [
              cell(`${vnp.count(row.viral_contigs)} of ${vnp.count(row.called_contigs)}`),
              cell(`${vnp.bases(row.viral_bases)} of ${vnp.bases(row.called_bases)}`),
              shareCell(row),
            ]
          : null,
        cell(vnp.count(row.contigs)),
        cell(vnp.count(row.without_records)),
        cell(vnp.bases(row.bases)),
        cell(vnp.count(row.segments)),
        cell(vnp.count(row.records)),
        cell(vnp.percent(row.certified, row.records)),
      );
    };
    const table = vnp.scroll(
      "Table of samples",
      vnp.el(
        "table",
        { class: "samples" },
        vnp.el("caption", { class: "unseen" }, "Samples"),
        vnp.el(
          "thead",
          {},
          vnp.el(
            "tr",
            {},
            heads.map((name, at) =>
              vnp.el("th", { scope: "col", class: at ? null : "left", title: about[name] }, name),
            ),
          ),
        ),
        vnp.el(
          "tbody",
          {},
          listed.map((row) => line(row, null)),
          rest ? line(rest, "rest") : null,
          n > 1 ? line(total, "sum") : null,
        ),
      ),
    );
    const of = called ? "Viral contigs, their length and its share are of the called ones. " : "";
    const all =
      "Contigs, length and segments are all that were appended; the table below lists contigs and counts segments that have a record.";
    return [table, !overview.store.rows ? null : vnp.el("p", { class: "note" }, of + all)];
  }

  const cell = (text) => vnp.el("td", {}, text);

  function shareCell(row) {
    const share = row.called_bases ? row.viral_bases / row.called_bases : 0;
    const bar = vnp.el("span", { class: "meter-bar", "aria-hidden": "true" }, vnp.el("span"));
    bar.firstChild.style.width = `${100 * share}%`;
    bar.firstChild.style.background = "var(--high)";
    return vnp.el("td", { class: "meter" }, vnp.percent(row.viral_bases, row.called_bases), bar);
  }
})();
