/* Elements, numbers in words, and what the page says aloud. Text is only ever set as text. */

(() => {
  "use strict";

  /** Make an element: `on` are listeners, null attributes are left out, children may be text. */
  vnp.el = (name, { on = {}, ...attributes } = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      element.setAttribute(key, value === true ? "" : value);
    }
    for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
    element.append(
      ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
    );
    return element;
  };

  // Letters that are not seen, or that turn the text around them.
  const UNSEEN =
    /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

  /** A name of a stranger for the eye: what cannot be seen is named by its code point. */
  vnp.visible = (text) =>
    text.replace(UNSEEN, (letter) => {
      const code = letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      return `⟨${code}⟩`;
    });

  /** Shorten a name in the middle, where ids differ least. */
  vnp.clipped = (text, most) => {
    const letters = [...vnp.visible(text.length > 4 * most ? ends(text, 2 * most) : text)];
    if (letters.length <= most) return letters.join("");
    const head = Math.floor(((most - 1) * 2) / 3);
    return `${letters.slice(0, head).join("")}…${letters.slice(letters.length - (most - 1 - head)).join("")}`;
  };

  function ends(text, most) {
    return text.slice(0, most) + text.slice(-most);
  }

  /** A name of a stranger as an element of its own direction, whole when pointed at. */
  vnp.name = (text, most = 48) => {
    const shown = vnp.clipped(text, most);
    const whole = vnp.clipped(text, 2000);
    const narrow = shown === whole && whole.length <= 12; // no place is narrower than that
    return vnp.el("bdi", { class: "name", title: narrow ? null : whole }, shown);
  };

  /** Whole number with commas. */
  vnp.count = (n) => Math.round(n).toLocaleString("en-US");

  /** Number and noun: "1 contig", "2 contigs". */
  vnp.plural = (n, noun) => `${vnp.count(n)} ${noun}${n === 1 ? "" : "s"}`;

  function scaled(n, units) {
    let at = 0;
    while (n >= 999.5 && at < units.length - 1) [n, at] = [n / 1000, at + 1];
    const digits = at === 0 ? 0 : n < 9.995 ? 2 : n < 99.95 ? 1 : 0;
    return `${n.toFixed(digits)}${units[at] ? `\u202f${units[at]}` : ""}`;
  }

  /** The same on an axis, where round numbers stand: "12 k". */
  vnp.tick = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

  /** Number of three digits: "12.3 k". */
  vnp.short = (n) => scaled(n, ["", "k", "M", "G", "T"]);

  /** Length: "48.5 kb". */
  vnp.bases = (n) => scaled(n, ["bp", "kb", "Mb", "Gb", "Tb"]);

  /** Share in per cent; all and nothing are said of nothing else. */
  vnp.percent = (part, whole) => {
    if (!whole) return "–";
    const share = (100 * part) / whole;
    if (part === 0) return "0\u202f%";
    if (part === whole) return "100\u202f%";
    if (share < 0.1) return "<\u202f0.1\u202f%";
    return `${Math.min(share, 99.9).toFixed(1)}\u202f%`;
  };

  /**
   * Score with three digits, never rounded up to the 0.5 of what is viral. It is rounded from six
   * digits, halves upwards, as tracks are (`thousandths` of vnp/report/overview.py).
   */
  vnp.score = (score) => {
    if (score === null) return "–";
    const whole = Math.round(Math.round(1e6 * score) / 1000);
    return ((score < 0.5 ? Math.min(whole, 499) : whole) / 1000).toFixed(3);
  };

  /** Time as people read it: "2026-11-30 15:06 UTC". */
  vnp.moment = (iso) => (iso ? `${iso.slice(0, 16).replace("T", " ")} UTC` : "unknown");

  /** Beginning of a hash, whole when pointed at. */
  vnp.hash = (digest) => {
    const text = digest.replace(/^sha256:/, "");
    return vnp.el(
      "code",
      { class: "hash", title: vnp.clipped(digest, 200) },
      vnp.clipped(text.slice(0, 12), 12),
    );
  };

  /** Say something to those who do not see the page. */
  vnp.announce = (text) => {
    document.getElementById("said").textContent = vnp.visible(text);
  };

  const FORMULA = /^[=+\-@\t\r\n]/;

  /** A text as a cell that no spreadsheet runs, and that breaks no line. */
  vnp.cell = (value) => {
    if (value === null) return "";
    if (typeof value !== "string") return String(value);
    const text = FORMULA.test(value) ? `'${value}` : value;
    return text.replace(/[\t\r\n\v\f\u001c-\u001e\u0085\u2028\u2029]/g, " ");
  };

  /** Rows of cells as tab-separated text. */
  vnp.tsv = (rows) => rows.map((row) => `${row.map(vnp.cell).join("\t")}\n`).join("");

  /** Put text on the clipboard, and say so. */
  vnp.copy = async (text, what) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without leave, or in a page that is not served safely: the old way.
      const area = vnp.el("textarea", { class: "unseen", "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) return vnp.announce("The browser does not allow copying.");
    }
    return vnp.announce(`Copied ${what}.`);
  };

  /** A button. */
  vnp.button = (text, listener, attributes = {}) =>
    vnp.el("button", { type: "button", on: { click: listener }, ...attributes }, text);

  let scrolled = 0;

  /** A table in a box that scrolls sideways, and a line above it that says so where it does. */
  vnp.scroll = (label, table) => {
    const id = `sideways-${++scrolled}`;
    const hint = vnp.el(
      "p",
      { class: "note sideways", id, hidden: true },
      "More columns: scroll this table sideways →",
    );
    const box = vnp.el(
      "div",
      { class: "scroll", role: "region", tabindex: "0", "aria-label": label, "aria-describedby": id },
      table,
    );
    const seen = new ResizeObserver(() => {
      hint.hidden = box.scrollWidth <= box.clientWidth + 1;
    });
    for (const each of [box, table]) seen.observe(each);
    return [hint, box];
  };

  /** Seconds in words: in seconds, minutes or hours, rounded up. */
  vnp.duration = (seconds) => {
    if (seconds < 90) return `${Math.ceil(seconds)} s`;
    const minutes = Math.ceil(seconds / 60);
    return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
  };

  /** A line that says what lengths are in a store without those of contigs; null of others. */
  vnp.lengthNote = (overview, which) => {
    const text = vnp.lengthsSaid(overview, which);
    return text && vnp.el("p", { class: "note lengths" }, text);
  };
  vnp.lengthsSaid = ({ store }, which) =>
    store.rows && !store.contig_lengths
      ? `This store does not keep the lengths of contigs: ${which} go up to the end of a contig’s last segment that has a record.`
      : null;

  /** A section with a headline. */
  vnp.section = (id, title, ...children) =>
    vnp.el(
      "section",
      { id, "aria-labelledby": `${id}-title` },
      vnp.el("h2", { id: `${id}-title` }, title),
      ...children,
    );
})();
