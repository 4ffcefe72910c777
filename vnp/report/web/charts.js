/* The charts, drawn by Observable Plot: histograms, frames, the fill map, the work of workers. */

(() => {
  "use strict";

  const STYLE = {
    fontFamily: "inherit",
    fontSize: "12px",
    color: "var(--ink-2)",
    overflow: "visible",
  };
  vnp.plotStyle = STYLE;

  // What a bar is drawn from, of the rows that `bins` and the timeline make.
  const BAR = { x1: "low", x2: "high", y: "n" };
  const STACKED = { ...BAR, z: "at", order: "at" };
  const RATES = { ...BAR, y: "rate", z: "group", order: "group" };

  const whole = (value) => (Number.isInteger(value) ? vnp.tick(vnp.short(value)) : "");

  /** Bins as rows: where they begin and end, and what is in them. */
  function bins({ low, width, counts }) {
    return counts.map((n, at) => ({ low: low + at * width, high: low + (at + 1) * width, n }));
  }

  /** Segments by consensus, stacked by sample, with the line from which they are viral. */
  vnp.scoreHistogram = (scores, width) => {
    const data = scores.groups.flatMap((group, at) =>
      bins({ ...scores, counts: group.counts }).map((bin) => ({ ...bin, at, group: group.name })),
    );
    const total = d3.sum(data, (bin) => bin.n);
    const high =
      d3.max(
        d3
          .rollup(
            data,
            (all) => d3.sum(all, (bin) => bin.n),
            (bin) => bin.low,
          )
          .values(),
      ) || 1;
    const viral = d3.sum(data, (bin) => (bin.low >= scores.threshold - 1e-9 ? bin.n : 0));
    return Plot.plot({
      width,
      height: 240,
      marginLeft: 52,
      marginBottom: 42,
      marginTop: 28,
      style: STYLE,
      ariaLabel: `Histogram of ${vnp.plural(total, "segment")} by consensus`,
      ariaDescription: `${vnp.count(viral)} at ${scores.threshold} or more: viral`,
      x: { domain: [0, 1], label: "consensus of a segment →", labelOffset: 40, ticks: 5 },
      y: {
        label: "segments",
        grid: true,
        ticks: 4,
        tickFormat: whole,
        domain: [0, high],
        nice: true,
      },
      marks: [
        Plot.rectY(
          data.filter((bin) => bin.n),
          Plot.stackY({
            ...STACKED,
            fill: (bin) => vnp.colour(bin.at),
            insetLeft: 0.5,
            insetRight: 0.5,
          }),
        ),
        Plot.ruleY([0], { stroke: "var(--line-2)" }),
        Plot.ruleX([scores.threshold], { stroke: "var(--ink)", strokeDasharray: "4 3" }),
        Plot.text([scores.threshold], {
          x: (value) => value,
          frameAnchor: "top",
          dy: -14,
          dx: 6,
          textAnchor: "start",
          text: [`viral: ${vnp.count(viral)} of ${vnp.count(total)} →`],
          fill: "var(--ink)",
        }),
        Plot.tip(
          data.filter((bin) => bin.n),
          Plot.pointerX(
            Plot.stackY({
              ...STACKED,
              title: (bin) =>
                `${bin.low.toFixed(3)} to ${bin.high.toFixed(3)}\n${vnp.clipped(bin.group, 30)}: ${vnp.plural(bin.n, "segment")}`,
            }),
          ),
        ),
      ],
    });
  };

  /** Records by length. */
  vnp.lengthHistogram = ({ shown, unit, colour }, width) => {
    const data = bins(shown).filter((bin) => bin.n);
    return Plot.plot({
      width,
      height: 190,
      marginLeft: 48,
      marginBottom: 42,
      style: STYLE,
      ariaLabel: `Histogram of ${vnp.plural(
        d3.sum(data, (bin) => bin.n),
        "record",
      )} by length in ${unit}`,
      x: { label: `${unit} →`, labelOffset: 40, ticks: 5, tickFormat: whole, nice: true },
      y: { label: "records", grid: true, ticks: 4, tickFormat: whole },
      marks: [
        Plot.rectY(data, {
          ...BAR,
          fill: colour,
          insetLeft: 0.5,
          insetRight: 0.5,
        }),
        Plot.ruleY([0], { stroke: "var(--line-2)" }),
        Plot.tip(
          data,
          Plot.pointerX({
            ...BAR,
            title: (bin) =>
              `${vnp.count(bin.low)} to ${vnp.count(bin.high - 1)} ${unit}\n${vnp.plural(bin.n, "record")}`,
          }),
        ),
      ],
    });
  };

  /** Records by reading frame. */
  vnp.frameColumns = (frames, width) => {
    const data = Object.entries(frames).map(([frame, n]) => ({ frame, n }));
    return Plot.plot({
      width,
      height: 190,
      marginLeft: 48,
      marginBottom: 42,
      style: STYLE,
      ariaLabel: "Records by reading frame",
      ariaDescription: data.map(({ frame, n }) => `${frame} ${vnp.count(n)}`).join(", "),
      x: {
        label: "reading frame",
        labelOffset: 40,
        domain: data.map(({ frame }) => frame),
        padding: 0.3,
      },
      y: { label: "records", grid: true, ticks: 4, tickFormat: whole },
      marks: [
        Plot.barY(data, {
          x: "frame",
          y: "n",
          fill: ({ frame }) => (frame.startsWith("F") ? "var(--s0)" : "var(--s1)"),
        }),
        Plot.ruleY([0], { stroke: "var(--line-2)" }),
        Plot.tip(
          data,
          Plot.pointerX({
            x: "frame",
            y: "n",
            title: ({ frame, n }) => `${frame}: ${vnp.plural(n, "record")}`,
          }),
        ),
      ],
    });
  };

  /** How far each model is filled along the rows, under the samples that the rows are of. */
  vnp.fillMap = ({ models, marks }, width) => {
    const cells = models.flatMap(({ name, cells: shares }) =>
      shares.map((share, at) => ({
        name,
        from: at / shares.length,
        to: (at + 1) / shares.length,
        share,
      })),
    );
    const wide = marks.filter(({ start, end }) => (end - start) * width > 60);
    const strip = "samples";
    return Plot.plot({
      width,
      height: 64 + 30 * (models.length + 1),
      marginLeft: Math.min(140, width / 4),
      marginTop: 8,
      marginBottom: 42,
      style: STYLE,
      ariaLabel: "How far each model is filled",
      ariaDescription: models
        .map(({ name, filled, rows }) => `${name} ${vnp.percent(filled, rows)}`)
        .join(", "),
      x: {
        domain: [0, 1],
        label: "rows of the store →",
        labelOffset: 40,
        tickFormat: (share) => `${Math.round(100 * share)} %`,
        ticks: 5,
      },
      y: {
        label: null,
        domain: [strip, ...models.map(({ name }) => name)],
        tickFormat: (name) => vnp.clipped(name, 18),
        tickSize: 0,
        padding: 0.25,
      },
      color: {
        type: "linear",
        domain: [0, 1],
        range: [vnp.themed("--empty"), vnp.themed("--full")],
      },
      marks: [
        Plot.barX(marks, {
          x1: "start",
          x2: "end",
          y: () => strip,
          insetRight: 1,
          fill: (_, at) => ["var(--line)", "var(--line-2)"][at % 2],
          title: ({ name }) => vnp.clipped(name, 80),
        }),
        Plot.text(wide, {
          x: ({ start, end }) => (start + end) / 2,
          y: () => strip,
          text: ({ name, start, end }) =>
            vnp.clipped(name, Math.max(3, Math.floor(((end - start) * width) / 10))),
          fill: "var(--ink)",
        }),
        Plot.barX(cells, {
          x1: "from",
          x2: "to",
          y: "name",
          fill: "share",
          title: ({ name, share }) =>
            `${name}: ${Math.round(1000 * share) / 10} % of these rows are filled`,
        }),
      ],
    });
  };

  /** Embeddings a second over the time in which workers ran; pauses are cut out. */
  vnp.throughput = (timeline, width) => {
    let at = 0;
    const breaks = [];
    const data = timeline.bins.flatMap((bin, index) => {
      const seconds = Math.max((Date.parse(bin.end) - Date.parse(bin.start)) / 1000, 1e-3);
      if (index && Date.parse(bin.start) - Date.parse(timeline.bins[index - 1].end) > 1000)
        breaks.push(at);
      const low = at;
      at += seconds;
      return bin.rates.map((rate, group) => ({
        low,
        high: low + seconds,
        rate,
        group,
        start: bin.start,
      }));
    });
    const starts = [...new Map(data.map((bin) => [bin.low, bin.start]))];
    const time = (x) =>
      starts[Math.max(0, d3.bisectRight(starts, x, (a, b) => a - b[0]) - 1)]?.[1].slice(11, 19) ??
      "";
    const first = timeline.bins[0].start;
    return Plot.plot({
      width,
      height: 210,
      marginLeft: 52,
      marginBottom: 42,
      style: STYLE,
      ariaLabel: "Embeddings a second over time, by worker",
      x: {
        domain: [0, at],
        label: `time, UTC, from ${first.slice(0, 10)} →`,
        labelOffset: 40,
        ticks: Math.min(6, starts.length),
        tickFormat: (x) => labelAt(starts, x),
      },
      y: {
        label: "embeddings / s",
        grid: true,
        ticks: 4,
        tickFormat: (rate) => vnp.tick(vnp.short(rate)),
      },
      marks: [
        Plot.rectY(
          data.filter(({ rate }) => rate > 0),
          Plot.stackY({
            ...RATES,
            fill: ({ group }) => vnp.colour(group),
          }),
        ),
        Plot.ruleX(breaks, { stroke: "var(--ink-3)", strokeDasharray: "3 3" }),
        Plot.ruleY([0], { stroke: "var(--line-2)" }),
        Plot.tip(
          data.filter(({ rate }) => rate > 0),
          Plot.pointerX(
            Plot.stackY({
              ...RATES,
              title: ({ low, rate, group }) =>
                `${time(low)} UTC\n${vnp.clipped(timeline.groups[group], 24)}: ${vnp.short(rate)} embeddings / s`,
            }),
          ),
        ),
      ],
    });
  };

  function labelAt(starts, x) {
    const at = Math.max(
      0,
      d3.bisectRight(
        starts.map(([low]) => low),
        x,
      ) - 1,
    );
    const begin = Date.parse(starts[at][1]);
    return new Date(begin + 1000 * (x - starts[at][0])).toISOString().slice(11, 19);
  }
})();
