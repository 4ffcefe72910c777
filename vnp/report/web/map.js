/* The map of records: hover, colours, and a fence around points that gives their ids. */

(() => {
  "use strict";

  const MOST_SHOWN = 500; // ids of a selection in the list; copying takes all
  const STEPS = 24; // of a scale of colours
  const SVG = "http://www.w3.org/2000/svg";

  /** The section, or null without a map. */
  vnp.mapSection = (source, map, overview) => {
    const n = map.x.length;
    const tip = vnp.el("div", { class: "tip", hidden: true });
    const legend = vnp.el("div", { class: "map-legend" });
    const chosen = vnp.el("div", { class: "chosen" });
    const picked = vnp.el("p", { class: "picked none", role: "status", "aria-live": "polite" });
    const points = vnp.pointCanvas(map, {
      hovered(at, place) {
        tip.hidden = at === null;
        if (at === null) return;
        tip.replaceChildren(...described(map, at));
        tip.style.left = `${Math.min(place[0] + 12, Math.max(0, points.size()[0] - 240))}px`;
        const below = place[1] + 130 < points.size()[1];
        tip.style.top = below ? `${place[1] + 14}px` : "auto";
        tip.style.bottom = below ? "auto" : `${points.size()[1] - place[1] + 14}px`;
        if (points.canvas.matches(":focus-visible")) vnp.announce(tip.textContent);
      },
      chosen: (at) => neighbours(at),
      fenced: (indices) => select(indices),
    });
    points.canvas.setAttribute(
      "aria-label",
      `${map.method} of ${vnp.plural(n, "record")}. Arrow keys go from point to point, plus and minus enlarge, 0 shows all, Enter chooses.`,
    );

    const ways = colourings(map);
    const way = vnp.el(
      "select",
      { id: "colour", on: { change: paint } },
      ways.map(({ key, name }) => vnp.el("option", { value: key }, name)),
    );
    if (ways.some(({ key }) => key === "score")) way.value = "score";

    function paint() {
      const { colours, fill, keys } = ways.find(({ key }) => key === way.value).made();
      points.paint(colours, fill);
      legend.replaceChildren(keys);
    }

    const modes = [
      ["pan", "Move"],
      ["lasso", "Lasso"],
    ].map(([mode, name]) =>
      vnp.button(name, () => setMode(mode), {
        "data-mode": mode,
        "aria-pressed": String(mode === "pan"),
      }),
    );
    function setMode(mode) {
      points.mode(mode);
      for (const button of modes)
        button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    }

    let searching = new AbortController();

    function select(indices, below = "ids") {
      searching.abort();
      points.pick(indices);
      chosen.replaceChildren(...(indices.length ? list(map, overview, indices, () => select([])) : []));
      picked.textContent = indices.length
        ? `${vnp.plural(indices.length, "record")} selected; ${below} below the map.`
        : "Nothing is selected.";
      picked.classList.toggle("none", !indices.length);
    }

    /** Show the records most similar to one, from the first that are found on. */
    async function neighbours(at) {
      if (!source.neighbours) return select([at]);
      select([at], "the most similar ones");
      const mine = (searching = new AbortController());
      const stop = vnp.button("Stop", () => mine.abort());
      const bar = vnp.el("progress", { max: 1, value: 0, "aria-label": "Records compared" });
      const how = vnp.el("p", { class: "note searched" });
      const clear = vnp.button("Clear", () => select([]));
      const table = near(map, at, [stop, clear], [bar, how]);
      const panel = vnp.el("div", {}, table.parts);
      let said = "with none";
      chosen.replaceChildren(panel);
      const told = (part) => {
        if (!panel.isConnected) return mine.abort(); // another map is shown
        if (part.records) table.list(part.records);
        bar.value = part.done / part.of;
        said = `with ${vnp.count(part.done)} of ${vnp.plural(part.of, "certified record")}`;
        how.textContent = part.done ? `Compared ${said}${left(part)}` : "Waiting to begin …";
        return null;
      };
      try {
        const found = await source.neighbours(map.row[at], told, mine.signal);
        vnp.announce(`${vnp.plural(found.length, "most similar record")} listed.`);
      } catch {
        if (!panel.isConnected) return; // something else was chosen meanwhile
        const why = mine.signal.aborted ? "Stopped" : "It failed";
        how.textContent = `${why}: compared ${said}; others may be more similar.`;
        vnp.announce(how.textContent);
      }
      bar.remove();
      if (stop === document.activeElement) clear.focus();
      stop.remove();
    }

    const stage = vnp.el("div", { class: "stage" }, points.canvas, picked, tip);
    const figure = vnp.picture({
      title: `${map.method} of ${n < map.of ? `${vnp.count(n)} of ` : ""}${vnp.plural(map.of, "certified record")}`,
      name: "map",
      caption: [map.note, vnp.lengthsSaid(overview, "lengths here")].filter(Boolean).join(" "),
      legend: vnp.el(
        "div",
        {},
        vnp.el(
          "div",
          { class: "bar map-bar" },
          vnp.el("div", { class: "field" }, vnp.el("label", { for: "colour" }, "Colour by"), way),
          vnp.el("div", { class: "buttons", role: "group", "aria-label": "Pointer" }, modes),
          vnp.el(
            "div",
            { class: "buttons", role: "group", "aria-label": "Zoom" },
            vnp.button("+", () => points.closer(1.6), { "aria-label": "Enlarge" }),
            vnp.button("−", () => points.closer(1 / 1.6), { "aria-label": "Reduce" }),
            vnp.button("All", points.home),
          ),
        ),
        legend,
      ),
      draw() {
        const now = () => {
          points.resize();
          paint();
        };
        if (stage.isConnected)
          now(); // at once: a change to paper leaves no time
        else requestAnimationFrame(now);
        return stage;
      },
      saved: () => vector(points, map),
    });
    setMode("pan");
    const even =
      overview.n_samples > 1 && n < map.of ? " As many of every sample, where it has them." : "";
    return vnp.section(
      "map",
      "Map of records",
      vnp.el(
        "p",
        { class: "say" },
        `Each point is a reading frame; near ones have similar embeddings.${even} With “Lasso”, or Shift held down, draw around points for their ids.`,
      ),
      figure,
      chosen,
    );
  };

  function described(map, at) {
    const line = (name, value) => vnp.el("div", {}, vnp.el("span", {}, `${name} `), value);
    const score = map.score === null ? null : line("score2", vnp.score(map.score[at]));
    return [
      vnp.el("strong", {}, vnp.name(map.id[at], 44)),
      line("sample", vnp.name(map.names.sample[map.sample[at]], 32)),
      line("contig", `${vnp.bases(map.length[at])}, frame ${map.names.frame[map.frame[at]]}`),
      score,
    ].filter(Boolean);
  }

  /** The ways to colour: each makes colours, a number among them for a point, and a legend. */
  function colourings(map) {
    const ways = [{ key: "sample", name: "sample", made: () => bySample(map) }];
    if (map.score?.some((score) => score !== null))
      ways.push({ key: "score", name: "score2", made: () => byScore(map) });
    ways.push(
      { key: "length", name: "contig length", made: () => byLength(map) },
      { key: "frame", name: "reading frame", made: () => byFrame(map) },
    );
    return ways;
  }

  function bySample(map) {
    const sizes = d3.rollup(
      map.sample,
      (all) => all.length,
      (at) => at,
    );
    const largest = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || a - b);
    const own = (largest.length <= vnp.GROUPS ? largest : largest.slice(0, vnp.GROUPS - 1)).sort(
      (a, b) => a - b,
    );
    const group = new Map(own.map((at, index) => [at, index]));
    const others = largest.length - own.length;
    const names = own.map((at, index) => [map.names.sample[at], vnp.colour(index)]);
    if (others) names.push([vnp.plural(others, "other sample"), vnp.colour(vnp.GROUPS)]);
    return {
      colours: d3.range(vnp.GROUPS + 1).map((at) => vnp.themed(`--s${at}`)),
      fill: (at) => group.get(map.sample[at]) ?? vnp.GROUPS,
      keys: vnp.legend(names),
    };
  }

  function byScore(map) {
    const scale = vnp.scoreColours();
    const colours = [
      ...d3.range(STEPS).map((step) => scale((step + 0.5) / STEPS)),
      vnp.themed(`--s${vnp.GROUPS}`),
    ];
    const missing = map.score.some((score) => score === null);
    return {
      colours,
      fill: (at) =>
        map.score[at] === null ? STEPS : Math.min(STEPS - 1, Math.floor(map.score[at] * STEPS)),
      keys: ramp(colours.slice(0, STEPS), "0 others", "1 virus", missing ? "not scored" : null),
    };
  }

  function byLength(map) {
    const [low, high] = d3.extent(map.length);
    const colours = d3
      .range(STEPS)
      .map((step) =>
        d3.interpolateRgb(vnp.themed("--short"), vnp.themed("--long"))(step / (STEPS - 1)),
      );
    if (low === high)
      return {
        colours,
        fill: () => STEPS - 1,
        keys: vnp.el("p", { class: "note" }, `All contigs are of one length: ${vnp.bases(low)}.`),
      };
    const scale = d3.scaleLog([Math.max(low, 1), high], [0, STEPS - 1]).clamp(true);
    return {
      colours,
      fill: (at) => Math.round(scale(Math.max(map.length[at], 1))),
      keys: ramp(colours, vnp.bases(low), vnp.bases(high)),
    };
  }

  function byFrame(map) {
    const names = map.names.frame;
    return {
      colours: names.map((_, at) => vnp.themed(`--f${at}`)),
      fill: (at) => map.frame[at],
      keys: vnp.legend(names.map((name, at) => [name, `var(--f${at})`])),
    };
  }

  function ramp(colours, low, high, missing = null) {
    const strip = vnp.el("span", { class: "ramp", "aria-hidden": "true" });
    strip.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    const others = missing ? vnp.legend([[missing, vnp.colour(vnp.GROUPS)]]) : null;
    return vnp.el(
      "div",
      { class: "ramp-key" },
      vnp.el("span", {}, low),
      strip,
      vnp.el("span", {}, high),
      others,
    );
  }

  function left({ done, of, seconds_left: seconds }) {
    if (done === of || seconds === null) return ".";
    return `, about ${vnp.duration(seconds)} left.`;
  }

  /** The panel of selected records. */
  function list(map, { store }, indices, clear) {
    const sorted = [...indices].sort((a, b) => a - b);
    const contigs = new Set(sorted.map((at) => `${map.sample[at]} ${map.contig[at]}`)).size;
    const length = store.contig_lengths ? "contig_length" : "last_segment_end";
    const header = ["id", "sample", "contig", length, "frame", "score2"];
    const row = (at) => [
      map.id[at],
      map.names.sample[map.sample[at]],
      map.names.contig[map.contig[at]],
      map.length[at],
      map.names.frame[map.frame[at]],
      map.score === null ? null : map.score[at],
    ];
    const what = vnp.plural(sorted.length, "record");
    const rest = sorted.length - MOST_SHOWN;
    return [
      vnp.el("h3", {}, `${what} of ${vnp.plural(contigs, "contig")}`),
      vnp.el(
        "div",
        { class: "buttons" },
        vnp.button("Copy ids", () =>
          vnp.copy(sorted.map((at) => `${map.id[at]}\n`).join(""), `${what}: their ids`),
        ),
        vnp.button("Copy as TSV", () => vnp.copy(vnp.tsv([header, ...sorted.map(row)]), what)),
        vnp.button("Clear", clear),
      ),
      vnp.el(
        "ol",
        { class: "ids", tabindex: "0", "aria-label": "Selected records" },
        sorted.slice(0, MOST_SHOWN).map((at) => vnp.el("li", {}, vnp.name(map.id[at], 80))),
      ),
      rest > 0
        ? vnp.el("p", { class: "note" }, `and ${vnp.count(rest)} more, which the buttons copy too`)
        : null,
    ].filter(Boolean);
  }

  /** The panel of the records most similar to one: its parts, and what lists records in it. */
  function near(map, at, buttons, progress) {
    const heads = ["Record", "Sample", "Similarity", "score2"];
    const head = (name, column) =>
      vnp.el("th", { scope: "col", class: column < 2 ? "left" : null }, name);
    const body = vnp.el("tbody");
    let found = [];
    const copy = () =>
      vnp.copy(found.map(({ id }) => `${id}\n`).join(""), vnp.plural(found.length, "id"));
    const row = (each) =>
      vnp.el(
        "tr",
        {},
        vnp.el("th", { scope: "row", class: "left" }, vnp.name(each.id, 60)),
        vnp.el("td", { class: "left" }, vnp.name(each.sample, 32)),
        vnp.el("td", {}, each.similarity.toFixed(3)),
        vnp.el("td", {}, vnp.score(each.score ?? null)),
      );
    const table = vnp.el(
      "table",
      {},
      vnp.el("caption", { class: "unseen" }, "Similar records"),
      vnp.el("thead", {}, vnp.el("tr", {}, heads.map(head))),
      body,
    );
    return {
      parts: [
        vnp.el("h3", {}, "Most similar to ", vnp.name(map.id[at], 60)),
        vnp.el("div", { class: "buttons" }, vnp.button("Copy ids", copy), buttons),
        progress,
        vnp.scroll("Table of similar records", table),
      ],
      list(records) {
        found = records;
        body.replaceChildren(...records.map(row));
      },
    };
  }

  /** The map as it is seen, as an SVG. */
  function vector(points, map) {
    const [width, height] = points.size();
    const root = document.createElementNS(SVG, "svg");
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const groups = new Map();
    for (const at of points.order) {
      const [x, y] = points.place(at);
      if (x < 0 || y < 0 || x > width || y > height) continue;
      const colour = points.colour(at);
      if (!groups.has(colour)) groups.set(colour, []);
      groups.get(colour).push(`M${x.toFixed(1)} ${y.toFixed(1)}h0`);
    }
    for (const [colour, moves] of groups) {
      const path = document.createElementNS(SVG, "path");
      const attributes = {
        d: moves.join(""),
        stroke: colour,
        "stroke-width": 2 * points.radius(),
        "stroke-linecap": "round",
        "stroke-opacity": 0.8,
        fill: "none",
      };
      for (const [key, value] of Object.entries(attributes)) path.setAttribute(key, value);
      root.append(path);
    }
    const [one, two] = map.axes;
    for (const [text, x, y, turn] of [
      [`${one} →`, width - 6, height - 6, 0],
      [`${two} →`, 12, 6, -90],
    ]) {
      const label = document.createElementNS(SVG, "text");
      const attributes = {
        "font-size": 12,
        fill: "currentColor",
        "text-anchor": "end",
        transform: `translate(${x} ${y}) rotate(${turn})`,
      };
      for (const [key, value] of Object.entries(attributes)) label.setAttribute(key, value);
      label.textContent = text;
      root.append(label);
    }
    return root;
  }
})();
