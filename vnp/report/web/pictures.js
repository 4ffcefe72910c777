/* A picture with its title and caption, drawn to the width it has, and saved as SVG and PNG. */

(() => {
  "use strict";

  const SCALE = 2; // pixels of a saved PNG per unit

  /** Colours of samples and workers; one past the last is grey, of all others. */
  vnp.GROUPS = 7;
  vnp.colour = (group) => `var(--s${Math.min(group, vnp.GROUPS)})`;

  /** What a CSS variable is in the theme of the moment. */
  vnp.themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** From the colour of a sure "others" over a grey to that of a sure virus. */
  vnp.scoreColours = () =>
    d3
      .scaleLinear([0, 0.5, 0.5, 1], ["--low", "--mid-low", "--mid-high", "--high"].map(vnp.themed))
      .clamp(true);

  /** Follow changes of the theme. */
  vnp.onTheme = (listener) => {
    for (const query of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(query).addEventListener("change", listener);
    }
  };

  /**
   * A picture. `draw(width)` gives an SVG element, and `svg(width)` does if what is shown is not
   * the picture to be saved. It is drawn again when its width or the theme changes.
   */
  vnp.picture = ({ title, name, caption = null, draw, saved = draw, legend = null }) => {
    const holder = vnp.el("div", { class: "drawing" });
    const tools = vnp.el(
      "div",
      { class: "save", role: "group", "aria-label": `Save: ${vnp.clipped(title, 80)}` },
      vnp.button("SVG", () => saveSvg(saved(width()), name), { title: "Save as SVG" }),
      vnp.button("PNG", () => savePng(saved(width()), name), { title: "Save as PNG" }),
    );
    const figure = vnp.el(
      "figure",
      { class: "picture" },
      vnp.el("div", { class: "head" }, vnp.el("h3", {}, vnp.name(title, 80)), tools),
      legend,
      holder,
      caption === null ? null : vnp.el("figcaption", {}, caption),
    );
    let drawn = 0;
    const width = () => Math.max(260, Math.floor(holder.clientWidth || 640));
    const redraw = () => {
      drawn = width();
      holder.replaceChildren(draw(drawn));
    };
    new ResizeObserver(() => {
      if (holder.clientWidth && width() !== drawn) requestAnimationFrame(redraw);
    }).observe(holder);
    vnp.onTheme(() => holder.clientWidth && redraw());
    return figure;
  };

  /** A legend of groups: [name, colour]. */
  vnp.legend = (names) =>
    vnp.el(
      "ul",
      { class: "legend" },
      names.map(([name, colour]) => {
        const swatch = vnp.el("span", { class: "swatch", "aria-hidden": "true" });
        swatch.style.background = colour;
        return vnp.el("li", {}, swatch, vnp.name(name, 32));
      }),
    );

  /** A picture that stands alone: its colours are values, its letters have a size. */
  function standing(svg) {
    const root = svg.tagName === "svg" ? svg : svg.querySelector("svg");
    const copy = root.cloneNode(true);
    const style = getComputedStyle(document.documentElement);
    const value = (text) =>
      text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    for (const node of [copy, ...copy.querySelectorAll("*")]) {
      for (const { name, value: text } of [...node.attributes]) {
        if (text.includes("var(")) node.setAttribute(name, value(text));
      }
    }
    const [, , wide, high] = copy
      .getAttribute("viewBox")
      .split(/[\s,]+/)
      .map(Number);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", wide);
    copy.setAttribute("height", high);
    copy.setAttribute("color", vnp.themed("--ink-2"));
    copy.setAttribute("font-family", "system-ui, sans-serif");
    const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, text] of Object.entries({
      width: wide,
      height: high,
      fill: vnp.themed("--paper"),
    })) {
      paper.setAttribute(key, text);
    }
    copy.prepend(paper);
    return { text: new XMLSerializer().serializeToString(copy), wide, high };
  }

  function saveSvg(svg, name) {
    download(new Blob([standing(svg).text], { type: "image/svg+xml" }), `${name}.svg`);
  }

  async function savePng(svg, name) {
    const { text, wide, high } = standing(svg);
    const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    const image = new Image(wide, high);
    image.src = url;
    await image.decode();
    const canvas = vnp.el("canvas", { width: wide * SCALE, height: high * SCALE });
    const context = canvas.getContext("2d");
    context.scale(SCALE, SCALE);
    context.drawImage(image, 0, 0, wide, high);
    URL.revokeObjectURL(url);
    canvas.toBlob((blob) => download(blob, `${name}.png`), "image/png");
  }

  function download(blob, name) {
    const url = URL.createObjectURL(blob);
    vnp.el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    vnp.announce(`Saved ${name}.`);
  }
})();
