/* Points of the map on a canvas: drawn, moved, enlarged, found under the pointer, fenced in.

Discs are laid into an image by hand, which for 20,000 points is faster than the canvas's own
drawing, and than WebGL without a graphics driver (docs/decisions/037-report.md). */

(() => {
  "use strict";

  const RADIUS = 2.6;
  const REACH = 10; // pixels from the pointer to the point that it means
  const MARGIN = 24;

  /** The canvas of `map`; `hovered(index | null)`, `chosen(index)`, `fenced([index])` are called. */
  vnp.pointCanvas = (map, { hovered, chosen, fenced }) => {
    const canvas = vnp.el("canvas", { class: "points", tabindex: "0", role: "application" });
    const context = canvas.getContext("2d");
    const n = map.x.length;
    const [xs, ys] = [d3.extent(map.x), d3.extent(map.y)];
    const order = shuffled(n);
    const picked = new Set();
    const state = {
      colours: [],
      fill: () => 0,
      mode: "pan",
      transform: d3.zoomIdentity,
      active: null,
      fence: null,
    };
    let [width, height] = [640, 480];
    let [x, y, tree, image] = [null, null, null, null];

    function resize() {
      width = Math.max(260, canvas.parentElement.clientWidth);
      height = Math.round(Math.min(620, Math.max(320, width * 0.66)));
      const ratio = devicePixelRatio || 1;
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      image = context.createImageData(canvas.width, canvas.height);
      canvas.style.height = `${height}px`;
      // One scale for both axes: distances are what a map is about.
      const spread =
        Math.max((xs[1] - xs[0]) / (width - 2 * MARGIN), (ys[1] - ys[0]) / (height - 2 * MARGIN)) ||
        1;
      const [middleX, middleY] = [(xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2];
      x = (value) => width / 2 + (value - middleX) / spread;
      y = (value) => height / 2 - (value - middleY) / spread;
      tree = d3.quadtree(
        order,
        (at) => x(map.x[at]),
        (at) => y(map.y[at]),
      );
      zoom
        .extent([
          [0, 0],
          [width, height],
        ])
        .translateExtent([
          [-width / 2, -height / 2],
          [1.5 * width, 1.5 * height],
        ]);
      draw();
    }

    let frame = 0;
    const soon = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    };

    const place = (at) => state.transform.apply([x(map.x[at]), y(map.y[at])]);
    const radius = () =>
      RADIUS * Math.min(2.2, Math.sqrt(state.transform.k)) * (n > 5000 ? 0.8 : 1);

    function draw() {
      if (!state.colours.length || !image) return;
      const ratio = devicePixelRatio || 1;
      const disc = stamp(radius() * ratio);
      const colours = state.colours.map((colour) => d3.rgb(colour));
      fill(image, d3.rgb(vnp.themed("--paper")));
      const put = (at, opacity) => {
        const [px, py] = place(at);
        blend(
          image,
          disc,
          Math.round(px * ratio),
          Math.round(py * ratio),
          colours[state.fill(at)],
          opacity,
        );
      };
      for (const at of order) put(at, picked.size ? 0.25 : 0.8);
      for (const at of picked) put(at, 1);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.putImageData(image, 0, 0);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      if (state.active !== null) ring(place(state.active));
      if (state.fence) fence();
    }

    function ring([px, py]) {
      context.strokeStyle = vnp.themed("--ink");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(px, py, radius() + 4, 0, 2 * Math.PI);
      context.stroke();
    }

    function fence() {
      context.beginPath();
      state.fence.forEach(([px, py], at) => (at ? context.lineTo(px, py) : context.moveTo(px, py)));
      context.closePath();
      context.fillStyle = context.strokeStyle = vnp.themed("--accent");
      context.globalAlpha = 0.12;
      context.fill();
      context.globalAlpha = 1;
      context.lineWidth = 1.5;
      context.stroke();
    }

    /** The point nearest to a place on the canvas, if it is near enough. */
    function nearest([px, py], reach = REACH) {
      const [tx, ty] = state.transform.invert([px, py]);
      return tree.find(tx, ty, reach / state.transform.k) ?? null;
    }

    function activate(at) {
      if (at === state.active) return;
      state.active = at;
      hovered(at, at === null ? null : place(at));
      soon();
    }

    const zoom = d3
      .zoom()
      .scaleExtent([1, 40])
      .filter((event) =>
        event.type === "wheel"
          ? event.ctrlKey || event.metaKey || canvas.matches(":focus")
          : state.mode === "pan" && !event.shiftKey && !event.button,
      )
      .on("zoom", ({ transform }) => {
        state.transform = transform;
        hovered(null, null);
        soon();
      });
    const selection = d3.select(canvas).call(zoom).on("dblclick.zoom", null);

    canvas.addEventListener("pointermove", (event) => {
      if (state.fence) state.fence.push(d3.pointer(event, canvas));
      else if (!event.buttons) activate(nearest(d3.pointer(event, canvas)));
      if (state.fence) soon();
    });
    canvas.addEventListener("pointerleave", () => state.fence || activate(null));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || (state.mode !== "lasso" && !event.shiftKey)) return;
      event.preventDefault();
      canvas.focus();
      canvas.setPointerCapture(event.pointerId);
      state.fence = [d3.pointer(event, canvas)];
    });
    canvas.addEventListener("pointerup", () => {
      const polygon = state.fence;
      state.fence = null;
      if (polygon && polygon.length > 2)
        fenced(order.filter((at) => d3.polygonContains(polygon, place(at))));
      soon();
    });
    canvas.addEventListener("click", (event) => {
      const at = nearest(d3.pointer(event, canvas));
      if (at !== null && state.mode === "pan" && !event.shiftKey) chosen(at);
    });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.key in steps) activate(towards(steps[event.key]));
      else if (event.key === "+" || event.key === "=") selection.call(zoom.scaleBy, 1.5);
      else if (event.key === "-") selection.call(zoom.scaleBy, 1 / 1.5);
      else if (event.key === "0") selection.call(zoom.transform, d3.zoomIdentity);
      else if (event.key === "Enter" && state.active !== null) chosen(state.active);
      else return;
      event.preventDefault();
    });

    /** The next point in a direction from the active one, within 45 degrees of it. */
    function towards([dx, dy]) {
      if (state.active === null) return nearest([width / 2, height / 2], Infinity);
      const [ax, ay] = place(state.active);
      let [best, least] = [state.active, Infinity];
      for (let at = 0; at < n; at++) {
        const [px, py] = place(at);
        const [along, across] = [
          (px - ax) * dx + (py - ay) * dy,
          Math.abs((px - ax) * dy) + Math.abs((py - ay) * dx),
        ];
        const distance = along + 2 * across;
        if (
          along > 2 &&
          across <= along &&
          distance < least &&
          px >= 0 &&
          py >= 0 &&
          px <= width &&
          py <= height
        )
          [best, least] = [at, distance];
      }
      return best;
    }

    return {
      canvas,
      resize,
      draw,
      place,
      radius,
      size: () => [width, height],
      /** Colour by `fill(index)`, a number among `colours`. */
      paint(colours, fill) {
        Object.assign(state, { colours, fill });
        draw();
      },
      colour: (at) => state.colours[state.fill(at)],
      mode(mode) {
        state.mode = mode;
        canvas.dataset.mode = mode;
      },
      pick(indices) {
        picked.clear();
        for (const at of indices) picked.add(at);
        soon();
      },
      home: () => selection.call(zoom.transform, d3.zoomIdentity),
      closer: (factor) => selection.call(zoom.scaleBy, factor),
      order,
    };
  };

  /** How much of each pixel a disc covers, as rows of a square of odd width. */
  function stamp(radius) {
    const reach = Math.ceil(radius);
    const [width, cover] = [2 * reach + 1, []];
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        cover.push(Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(dx, dy))));
      }
    }
    return { reach, width, cover };
  }

  function fill({ data }, { r, g, b }) {
    const [pixel, all] = [new Uint8ClampedArray([r, g, b, 255]), new Uint32Array(data.buffer)];
    all.fill(new Uint32Array(pixel.buffer)[0]);
  }

  /** Lay a disc over an opaque picture. */
  function blend(
    { data, width, height },
    { reach, width: wide, cover },
    x,
    y,
    { r, g, b },
    opacity,
  ) {
    if (x < reach || y < reach || x >= width - reach || y >= height - reach) return;
    for (let row = 0, from = 0; row < wide; row++) {
      let to = 4 * ((y - reach + row) * width + x - reach);
      for (let column = 0; column < wide; column++, from++, to += 4) {
        const part = opacity * cover[from];
        data[to] += (r - data[to]) * part;
        data[to + 1] += (g - data[to + 1]) * part;
        data[to + 2] += (b - data[to + 2]) * part;
      }
    }
  }

  /** All numbers below n in an order that favours no sample, the same each time. */
  function shuffled(n) {
    return d3.shuffler(d3.randomLcg(0.5))(d3.range(n));
  }
})();
