/* The track of a contig: the consensus of its segments along it, its frames, its regions. */

(() => {
  "use strict";

  const LANE = 0.115; // of the height of the consensus
  const FRAMES = ["F1", "F2", "F3", "R1", "R2", "R3"];

  /** The picture of a track. */
  vnp.trackPicture = ({ sample, contig, bases }, track, { store }) => {
    const scored = track.consensus.some((each) => each !== null);
    const notes = [`${vnp.plural(track.start.length, "segment")} with a reading frame`];
    if (track.joined > 1)
      notes[0] = `Each mark is ${track.joined} neighbouring segments: their mean consensus`;
    notes.push("gaps have none");
    if (scored) notes.push("a segment is viral if the consensus of its frames is 0.5 or more");
    if (!store.contig_lengths)
      notes.push("it ends with the last segment that has a record: the contig may be longer");
    return vnp.picture({
      title: contig,
      name: "track",
      caption: `${notes.join("; ")}. Sample ${vnp.clipped(sample, 60)}.`,
      draw: (width) => drawn({ contig, bases, track, scored }, width),
    });
  };

  function drawn({ contig, bases, track, scored }, width) {
    const colour = vnp.scoreColours();
    const segments = track.start.map((start, at) => ({
      start,
      end: track.end[at],
      consensus: track.consensus[at],
    }));
    const lane = (frame) => -0.1 - LANE * (FRAMES.indexOf(frame) + 1);
    const regions = track.regions.map((region) => ({ ...region, y: region.given ? 1.34 : 1.12 }));
    const given = regions.some((region) => region.given);
    const top = given ? 1.48 : regions.length ? 1.26 : 1.04;
    const bottom = lane("R3") - 0.02;
    const low = scored ? top : 0.02;
    const named = regions.filter(({ start, end }) => ((end - start) / bases) * width > 70);
    return Plot.plot({
      width,
      height: scored ? (given ? 290 : 260) : 130,
      marginLeft: 40,
      marginRight: 16,
      marginTop: 8,
      marginBottom: 42,
      style: vnp.plotStyle,
      ariaLabel: `${scored ? "Consensus and reading" : "Reading"} frames along ${vnp.clipped(contig, 60)}`,
      ariaDescription: described(segments, track),
      x: {
        domain: [0, Math.max(bases, 1)],
        label: "position on the contig →",
        labelOffset: 40,
        ticks: Math.max(3, width / 130),
        tickFormat: (at) => vnp.tick(vnp.bases(at)),
      },
      y: {
        domain: [bottom, low],
        label: null,
        ticks: [...(scored ? [0, 0.5, 1] : []), ...FRAMES.map((frame) => lane(frame) + LANE / 2)],
        tickFormat: (y) => (y >= 0 ? String(y) : FRAMES[Math.round((-0.1 - y - LANE / 2) / LANE)]),
        tickSize: 0,
      },
      marks: [
        Plot.rect(FRAMES, {
          x1: 0,
          x2: bases,
          y1: lane,
          y2: (frame) => lane(frame) + LANE,
          insetTop: 1,
          insetBottom: 1,
          fill: "var(--line)",
          fillOpacity: 0.5,
        }),
        Plot.rect(track.frames, {
          x1: "start",
          x2: "end",
          y1: ({ frame }) => lane(frame),
          y2: ({ frame }) => lane(frame) + LANE,
          insetTop: 1,
          insetBottom: 1,
          fill: ({ frame }) => (frame.startsWith("F") ? "var(--s0)" : "var(--s1)"),
        }),
        scored ? Plot.ruleY([0, 1], { stroke: "var(--line)" }) : null,
        scored
          ? Plot.rect(
              segments.filter(({ consensus }) => consensus !== null),
              {
                x1: "start",
                x2: "end",
                y1: 0,
                y2: ({ consensus }) => Math.max(consensus, 0.012),
                fill: ({ consensus }) => colour(consensus),
                stroke: "var(--paper)",
                strokeWidth: segments.length > width / 4 ? 0 : 0.5,
              },
            )
          : null,
        scored ? Plot.ruleY([0.5], { stroke: "var(--ink)", strokeDasharray: "4 3" }) : null,
        Plot.rect(regions, {
          x1: "start",
          x2: "end",
          y1: ({ y }) => y - 0.035,
          y2: ({ y }) => y + 0.035,
          fill: ({ given: known }) => (known ? "var(--s2)" : "var(--high)"),
          title: ({ name, start, end }) =>
            `${vnp.clipped(name, 60)}: ${vnp.count(start)} to ${vnp.count(end)}`,
        }),
        Plot.text(named, {
          x: ({ start, end }) => (start + end) / 2,
          y: "y",
          dy: -11,
          text: ({ name }) => vnp.clipped(name, 24),
          fill: "var(--ink)",
        }),
        Plot.tip(
          segments,
          Plot.pointerX({
            x1: "start",
            x2: "end",
            y: scored ? ({ consensus }) => consensus ?? 0 : () => 0,
            title: ({ start, end, consensus }) =>
              `${vnp.count(start)} to ${vnp.count(end)}\n${consensus === null ? "not scored" : `consensus ${vnp.score(consensus)}`}`,
          }),
        ),
      ],
    });
  }

  function described(segments, track) {
    const viral = segments.filter(({ consensus }) => consensus !== null && consensus >= 0.5).length;
    const regions = track.regions.map(
      ({ name, start, end }) => `${vnp.clipped(name, 40)} from ${start} to ${end}`,
    );
    return [`${viral} of ${segments.length} segments at 0.5 or more`, ...regions].join("; ");
  }
})();
