/* What an operator asks, folded at the end: how full the store is, who worked, what made it. */

(() => {
  "use strict";

  /** The sections on scores, lengths and frames. */
  vnp.distributionSection = (overview) => {
    const { scores, distributions } = overview;
    if (!scores && !distributions) return null;
    const figures = [];
    if (scores?.groups.length) {
      const total = d3.sum(scores.groups, ({ counts }) => d3.sum(counts));
      const names = scores.groups.map(({ name }, at) => [name, vnp.colour(at)]);
      figures.push(
        vnp.picture({
          title: "Segments by consensus",
          name: "scores",
          legend: names.length > 1 ? vnp.legend(names) : null,
          caption: `${vnp.plural(total, "segment")}; the consensus of a segment’s frames is ${scores.threshold} or more exactly if it is viral.`,
          draw: (width) => vnp.scoreHistogram(scores, width),
        }),
      );
    } else if (scores) {
      const say = overview.classifier ? "No segment has a score yet." : "The scores are being read.";
      figures.push(vnp.el("p", { class: "empty" }, say));
    }
    const few = distributions ? lengths(distributions, overview.store) : null;
    return vnp.section(
      "scores",
      scores ? "Scores and lengths" : "Lengths and frames",
      figures,
      few,
    );
  };

  function lengths(distributions, store) {
    const {
      records,
      sequences,
      segment_length: segments,
      protein_length: proteins,
      frames,
    } = distributions;
    const whole = records === store.rows;
    const from = whole
      ? ""
      : ` Of ${vnp.count(records)} records (proteins: ${vnp.count(sequences)}), an even sample of ${vnp.count(store.rows)}.`;
    const one = only(segments);
    const parts = [
      one === null
        ? vnp.picture({
            title: "Segment length",
            name: "segments",
            draw: (width) =>
              vnp.lengthHistogram({ shown: segments, unit: "bases", colour: "var(--s0)" }, width),
          })
        : said(
            "Segment length",
            `${vnp.count(one)} bp`,
            records === 1 ? "the one segment" : "every segment",
          ),
      only(proteins) === null
        ? vnp.picture({
            title: "Protein length",
            name: "proteins",
            draw: (width) =>
              vnp.lengthHistogram(
                { shown: proteins, unit: "residues", colour: "var(--s2)" },
                width,
              ),
          })
        : said("Protein length", `${vnp.count(only(proteins))} residues`, "every record"),
      vnp.picture({
        title: "Reading frame",
        name: "frames",
        draw: (width) => vnp.frameColumns(frames, width),
      }),
    ];
    return [
      vnp.el("div", { class: "few" }, parts),
      from ? vnp.el("p", { class: "note" }, from.trim()) : null,
    ];
  }

  /** The length that all have, or null. */
  function only({ low, width, counts }) {
    const used = counts.filter((n) => n);
    return used.length === 1 && width === 1 ? low + counts.findIndex((n) => n) : null;
  }

  /** A figure that is a number. */
  function said(title, number, under) {
    return vnp.el(
      "div",
      { class: "picture said" },
      vnp.el("h3", {}, title),
      vnp.el("p", {}, vnp.el("b", {}, number), vnp.el("span", {}, under)),
    );
  }

  /** Fill map, work and provenance. */
  vnp.operatorSection = (overview) => {
    const { models, work, store } = overview;
    const state = store.rows ? (store.complete ? "complete" : "incomplete") : "empty";
    return vnp.el(
      "section",
      { id: "operator", "aria-labelledby": "operator-title" },
      vnp.el(
        "details",
        {},
        vnp.el(
          "summary",
          {},
          vnp.el("h2", { id: "operator-title" }, "How it was made"),
          vnp.el(
            "span",
            { class: "hint" },
            `${state}, ${vnp.plural(work.workers.length + work.more_workers, "worker")}, ${vnp.plural(models.length, "model")}`,
          ),
        ),
        vnp.el("div", { id: "operator-body" }, vnp.operatorParts(overview)),
      ),
    );
  };

  vnp.operatorParts = (overview) => [
    fill(overview),
    work(overview.work),
    provenance(overview.models),
  ];

  function fill({ models, marks, store }) {
    if (!models.length) return vnp.el("p", { class: "empty" }, "The store has no models.");
    if (!store.rows) return null;
    const state = models.map(
      ({ name, filled, rows, blocks, open_blocks: open }) =>
        `${vnp.clipped(name, 40)} ${vnp.percent(filled, rows)} (${vnp.count(blocks - open)} of ${vnp.plural(blocks, "block")})`,
    );
    return vnp.picture({
      title: "Fill map",
      name: "fill",
      caption: `${state.join("; ")}.`,
      draw: (width) => vnp.fillMap({ models, marks }, width),
    });
  }

  function work({ timeline, workers, more_workers: more, certificates, of }) {
    if (!timeline) return vnp.el("p", { class: "empty" }, "Nothing has been embedded yet.");
    const short = (name) => (name.length === 32 ? name.slice(0, 8) : name);
    const shown = { ...timeline, groups: timeline.groups.map(short) };
    const from =
      certificates === of
        ? vnp.plural(of, "certificate")
        : `${vnp.count(certificates)} certificates, an even sample of ${vnp.count(of)}`;
    const legend =
      shown.groups.length > 1
        ? vnp.legend(shown.groups.map((name, at) => [name, vnp.colour(at)]))
        : null;
    const picture = vnp.picture({
      title: "Work",
      name: "work",
      legend,
      caption: `From ${from}; dashed lines are pauses, cut out.`,
      draw: (width) => vnp.throughput(shown, width),
    });
    const heads = ["Worker", "Device", "Blocks", "Embeddings", "Embeddings / s", "First", "Last (UTC)"];
    const time = (iso) => iso.slice(0, 19).replace("T", " ");
    const line = (row) =>
      vnp.el(
        "tr",
        {},
        vnp.el(
          "th",
          { scope: "row", class: "left" },
          vnp.el("code", {}, vnp.clipped(short(row.worker), 12)),
        ),
        vnp.el("td", { class: "left" }, vnp.name(row.device, 40)),
        vnp.el("td", {}, vnp.count(row.blocks)),
        vnp.el("td", {}, vnp.count(row.records)),
        vnp.el("td", {}, vnp.short(row.rate)),
        vnp.el("td", {}, time(row.first)),
        vnp.el("td", {}, time(row.last)),
      );
    return [
      picture,
      vnp.scroll(
        "Table of workers",
        vnp.el(
          "table",
          {},
          vnp.el("caption", { class: "unseen" }, "Workers"),
          vnp.el(
            "thead",
            {},
            vnp.el(
              "tr",
              {},
              heads.map((name, at) =>
                vnp.el("th", { scope: "col", class: at < 2 ? "left" : null }, name),
              ),
            ),
          ),
          vnp.el("tbody", {}, workers.map(line)),
        ),
      ),
      more ? vnp.el("p", { class: "note" }, `and ${vnp.plural(more, "more worker")}`) : null,
    ];
  }

  function provenance(models) {
    return vnp.el(
      "div",
      { class: "few" },
      models.map(({ name, dim, facts }) =>
        vnp.facts(vnp.clipped(name, 60), [
          ["numbers a record", vnp.count(dim)],
          ...facts.map(([key, value]) => [vnp.clipped(key, 40), vnp.name(value, 90)]),
        ]),
      ),
    );
  }
})();
