/* The table of contigs: sorted, filtered, searched, copied; a row opens its track. */

(() => {
  "use strict";

  const PAGE = 25; // rows
  const MOST_COPIED = 100_000;

  // key, name, class, whether a first click sorts downwards, what it is
  const COLUMNS = [
    ["contig", "Contig", "left", false, null],
    ["sample", "Sample", "left", false, null],
    ["bases", "Length", "", true, null],
    ["segments", "Segments", "", true, "Segments that have a stop-free reading frame"],
    ["records", "Records", "", true, "Stop-free reading frames"],
    [
      "viral_segments",
      "Viral segments",
      "",
      true,
      "Segments that the consensus of their frames calls viral",
    ],
    [
      "score",
      "Mean score2",
      "",
      true,
      "Mean of its segments’ score2, the probability of virus: mean_score2 of contigs.tsv",
    ],
    ["viral", "Call", "left", true, "Viral if at least half of its called segments are"],
  ];
  const CALLED = new Set(["viral_segments", "score", "viral"]);

  /** The section; gives `{section, show(query)}`. */
  vnp.contigSection = (source, overview) => {
    const called = overview.scores !== null;
    const columns = COLUMNS.filter(([key]) => called || !CALLED.has(key));
    const known = overview.store.contig_lengths;
    const lengths = known
      ? "Bases of the contig"
      : "Up to the end of the last segment that has a reading frame";
    const sorting = { sort: called ? "evidence" : "bases", descending: true };
    let [page, ticket, total, waiting] = [0, 0, 0, 0];
    let open = null; // the row whose track is shown

    const body = vnp.el("tbody");
    const heads = new Map();
    const status = vnp.el("p", { class: "status" });
    const note = vnp.el("p", { class: "note" });
    const back = vnp.button("← Previous", () => turn(-1));
    const on = vnp.button("Next →", () => turn(1));
    const controls = filters(overview, called, () => {
      page = 0;
      return update(true);
    });

    /** What is asked: what all fields say at the moment, and the order. */
    const query = () => ({ ...controls.asked(), ...sorting });

    const head = vnp.el(
      "tr",
      {},
      columns.map(([key, name, kind, down, about]) => {
        const title = key === "bases" ? lengths : about;
        const sorter = vnp.button(name, () => sortBy(key, down), { title });
        const cell = vnp.el("th", { scope: "col", class: kind || null }, sorter);
        heads.set(key, cell);
        return cell;
      }),
    );
    const table = vnp.el(
      "table",
      { class: "contigs" },
      vnp.el("caption", { class: "unseen" }, "Contigs"),
      vnp.el("thead", {}, head),
      body,
    );
    const section = vnp.section(
      "contigs",
      "Contigs",
      vnp.el(
        "p",
        { class: "say" },
        overview.classifier === null
          ? "Choose a contig for its track: the reading frames of its segments."
          : "Choose a contig for its track: the consensus of its segments and their reading frames.",
      ),
      controls.form,
      vnp.lengthNote(overview, "lengths here"),
      vnp.el("div", { class: "bar" }, status, vnp.button("Copy as TSV", copy, { class: "copy" })),
      vnp.scroll("Table of contigs", table),
      vnp.el("nav", { class: "pages", "aria-label": "Pages of contigs" }, back, on),
      note,
    );

    function sortBy(key, down) {
      sorting.descending = sorting.sort === key ? !sorting.descending : down;
      sorting.sort = key;
      page = 0;
      return update(true);
    }

    function turn(step) {
      page += step;
      return update(true);
    }

    async function update(aloud) {
      const mine = ++ticket;
      waiting++;
      const found = await source
        .contigs({ ...query(), offset: page * PAGE, limit: PAGE })
        .finally(() => waiting--);
      if (mine !== ticket) return; // a later question is on its way
      total = found.total;
      open = null;
      body.replaceChildren(...(found.rows.length ? found.rows.flatMap(row) : [empty(found)]));
      const first = page * PAGE;
      status.textContent = total
        ? `${vnp.count(first + 1)}–${vnp.count(first + found.rows.length)} of ${vnp.plural(total, "contig")}`
        : "No contigs";
      note.textContent = found.complete
        ? ""
        : overview.live
          ? `${vnp.count(found.searched)} of ${vnp.plural(found.of, "contig")} are indexed so far.`
          : `This file lists the ${vnp.count(found.searched)} ${called ? "contigs with the most viral evidence" : "longest contigs"} of ${vnp.count(found.of)}; “vnp view” searches them all.`;
      [back.disabled, on.disabled] = [page === 0, first + PAGE >= total];
      back.parentElement.hidden = total <= PAGE;
      for (const [key, cell] of heads) {
        const sorted =
          key === sorting.sort ? (sorting.descending ? "descending" : "ascending") : "none";
        cell.setAttribute("aria-sort", sorted);
      }
      if (aloud)
        vnp.announce(
          total
            ? `${vnp.plural(total, "contig")} found. ${sortedBy()}`
            : `No contig matches. ${unlisted()}`.trim(),
        );
    }

    function sortedBy() {
      const column = columns.find(([key]) => key === sorting.sort);
      return column
        ? `Sorted by ${column[1].toLowerCase()}, ${sorting.descending ? "highest first" : "lowest first"}.`
        : "";
    }

    function empty(found) {
      const text = found.of
        ? `No contig matches these filters. ${unlisted()}`.trim()
        : "The store has no contigs with a reading frame yet.";
      return vnp.el("tr", {}, vnp.el("td", { colspan: columns.length, class: "empty left" }, text));
    }

    /** That contigs without a record are not in the table, of the sample that is asked for. */
    function unlisted() {
      const { sample } = controls.asked();
      const of = sample === null ? overview.total : overview.samples.find(({ name }) => name === sample);
      if (!of?.without_records) return "";
      const n = `${vnp.count(of.without_records)} of ${vnp.count(of.contigs)}`;
      return `Contigs without a record (${n}) are not listed.`;
    }

    let numbers = 0;

    function row(each) {
      const id = `track-${++numbers}`;
      const opener = vnp.button(vnp.name(each.contig, 34), () => toggle(), {
        class: "open",
        "aria-expanded": "false",
        "aria-controls": id,
      });
      const cells = {
        contig: vnp.el("th", { scope: "row", class: "left" }, opener),
        sample: vnp.el("td", { class: "left sample" }, vnp.name(each.sample, 16)),
        bases: vnp.el("td", { title: `${vnp.count(each.bases)} bases` }, vnp.bases(each.bases)),
        segments: vnp.el("td", {}, vnp.count(each.segments)),
        records: vnp.el("td", {}, vnp.count(each.records)),
        viral_segments: vnp.el(
          "td",
          {},
          each.viral_segments === null ? "–" : vnp.count(each.viral_segments),
        ),
        score: vnp.el("td", { class: "meter" }, vnp.score(each.score), meter(each.score)),
        viral: vnp.el("td", { class: "left" }, call(each.viral)),
      };
      const details = vnp.el(
        "tr",
        { class: "track", id, hidden: true },
        vnp.el("td", { colspan: columns.length }),
      );
      const line = vnp.el(
        "tr",
        {
          on: {
            click: (event) =>
              event.target.closest("button") || getSelection().toString() || toggle(),
          },
        },
        columns.map(([key]) => cells[key]),
      );

      async function toggle() {
        const opening = details.hidden;
        open?.();
        open = null;
        if (!opening) return;
        [details.hidden, line.className] = [false, "opened"];
        opener.setAttribute("aria-expanded", "true");
        open = () => {
          [details.hidden, line.className] = [true, ""];
          opener.setAttribute("aria-expanded", "false");
          details.firstChild.replaceChildren();
        };
        const track = await source.track({ sample: each.sample, contig: each.contig });
        if (details.hidden) return;
        const shown = track ? vnp.trackPicture(each, track, overview) : missing();
        details.firstChild.replaceChildren(vnp.el("div", { class: "sheet" }, shown));
        vnp.announce(
          track ? `Track of ${vnp.clipped(each.contig, 60)} opened.` : missing().textContent,
        );
      }

      return [line, details];
    }

    const missing = () =>
      vnp.el(
        "p",
        { class: "note" },
        overview.live
          ? "This contig is not in the store any more."
          : "This file keeps the tracks of the most viral contigs only, and this is not one of them: “vnp predict” writes the segments of all contigs, and “vnp view” shows them.",
      );

    /** The rows as `contigs.tsv` has them: its names, and nothing where it has nothing. */
    async function copy() {
      const found = await source.contigs({ ...query(), offset: 0, limit: MOST_COPIED });
      const values = {
        contig: ({ contig }) => contig,
        sample: ({ sample }) => sample,
        length: ({ bases }) => (known ? bases : null),
        // Not the contig's length, so under another name; contigs.tsv has no such column.
        ...(known ? {} : { last_segment_end: ({ bases }) => bases }),
        segments: ({ segments }) => segments,
        records: ({ records }) => records,
      };
      if (called)
        Object.assign(values, {
          viral_segments: (each) => each.viral_segments,
          mean_score2: ({ score }) => score,
          call: ({ viral }) => (viral === null ? null : viral ? "virus" : "others"),
        });
      const rows = found.rows.map((each) => Object.values(values).map((value) => value(each)));
      return vnp.copy(vnp.tsv([Object.keys(values), ...rows]), vnp.plural(rows.length, "contig"));
    }

    return {
      section,
      start: () => update(false),
      refresh() {
        controls.learn();
        return open || waiting ? null : update(false);
      },
      showSample(name) {
        controls.choose(name);
        section.scrollIntoView();
      },
    };
  };

  function meter(score) {
    if (score === null) return null;
    const bar = vnp.el("span", { class: "meter-bar", "aria-hidden": "true" }, vnp.el("span"));
    bar.firstChild.style.width = `${100 * score}%`;
    bar.firstChild.style.background = score < 0.5 ? "var(--low)" : "var(--high)";
    return bar;
  }

  function call(viral) {
    if (viral === null) return vnp.el("span", { class: "call" }, "not called");
    return vnp.el("span", { class: viral ? "call virus" : "call" }, viral ? "virus" : "others");
  }

  /** The controls above the table; `changed()` is called as they are used, `asked()` reads them. */
  function filters(overview, called, changed) {
    const number = (text) =>
      text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text);
    let waiting = 0;
    const now = () => {
      clearTimeout(waiting);
      return changed();
    };
    const soon = () => {
      clearTimeout(waiting);
      waiting = setTimeout(changed, 120);
    };
    const text = vnp.el("input", {
      type: "search",
      id: "search",
      placeholder: "part of an id",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: soon },
    });
    const names = [];
    const sample = vnp.el(
      "select",
      { id: "sample", on: { change: now } },
      vnp.el("option", { value: "" }, "all samples"),
    );
    const least = (id, attributes) =>
      vnp.el("input", {
        type: "number",
        id,
        min: "0",
        inputmode: "decimal",
        ...attributes,
        on: { input: soon },
      });
    const bases = least("min-length", { step: "1000", placeholder: "bases" });
    const score = least("min-score", { step: "0.1", max: "1", placeholder: "0 to 1" });
    const viral = vnp.el("input", {
      type: "checkbox",
      id: "only-viral",
      on: { change: now },
    });
    const field = (label, input) =>
      vnp.el("div", { class: "field" }, vnp.el("label", { for: input.id }, label), input);
    const search = field("Search ids", text);
    const chooser = field("Sample", sample);
    const form = vnp.el(
      "form",
      {
        class: "filters",
        role: "search",
        "aria-label": "Contigs",
        on: { submit: (event) => event.preventDefault() },
      },
      search,
      field("Length at least", bases),
      called ? field("Mean score2 at least", score) : null,
      called
        ? vnp.el(
            "div",
            { class: "field tick" },
            viral,
            vnp.el("label", { for: "only-viral" }, "viral only"),
          )
        : null,
    );

    /** Offer the samples that there are by now, if there are several. */
    function learn() {
      for (const { name } of overview.samples) {
        if (names.includes(name)) continue;
        sample.append(vnp.el("option", { value: String(names.length) }, vnp.clipped(name, 40)));
        names.push(name);
      }
      if (names.length > 1 && !chooser.parentElement) search.after(chooser);
    }

    learn();
    return {
      form,
      learn,
      asked: () => ({
        text: text.value.trim() || null,
        sample: sample.value === "" ? null : names[Number(sample.value)],
        min_length: number(bases.value),
        min_score: number(score.value),
        viral: viral.checked || null,
      }),
      choose(name) {
        learn();
        sample.value = String(names.indexOf(name));
        return now();
      },
    };
  }
})();
