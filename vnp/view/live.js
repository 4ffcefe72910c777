/* The live source: asks the server of `vnp view` what the page asks (vnp/report/web/source.js). */

(() => {
  "use strict";

  history.replaceState(null, "", "/"); // the token has become a cookie: it leaves the address

  const trouble = vnp.el("p", { class: "warning trouble", role: "alert", hidden: true });
  document.body.prepend(trouble);

  let lasting = ""; // what the server cannot do until it says so no more

  function say(text) {
    trouble.textContent = text || lasting;
    trouble.hidden = !trouble.textContent;
  }

  const SILENT = "The server does not answer: is “vnp view” still running?";

  /** The server's answer; one that is an error is shown, and thrown. */
  async function answered(name, query, signal, read) {
    const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
    let answer, value;
    try {
      answer = await fetch(`/api/${name}?${new URLSearchParams(given)}`, { signal });
      value = answer.ok ? await read(answer) : await answer.json();
    } catch (error) {
      if (!signal?.aborted) say(SILENT);
      throw error;
    }
    const failed = answer.ok ? value?.error : value.error;
    say(failed ? `${failed}.` : "");
    if (failed) throw new Error(failed);
    return value;
  }

  /** Ask the server for one answer. */
  const ask = (name, query = {}) => answered(name, query, null, (answer) => answer.json());

  /** Ask for an answer in parts; calls back with each, and gives the last. */
  const listen = (name, query, signal, told) =>
    answered(name, query, signal, async ({ body }) => {
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      let [rest, part] = ["", null];
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n\n");
        rest = lines.pop();
        for (const line of lines) {
          part = JSON.parse(line.replace(/^data: /, ""));
          if (!part.error) told(part);
        }
      }
      if (!part || (!part.error && part.done < part.of)) throw new Error("the answer ends early");
      return part;
    });

  const known = new Map(); // parts of the overview as the page has them

  /** Those parts that the page does not have as they are. */
  function news(parts) {
    const texts = Object.entries(parts).map(([name, value]) => [name, value, JSON.stringify(value)]);
    const fresh = texts.filter(([name, , text]) => known.get(name) !== text);
    for (const [name, , text] of fresh) known.set(name, text);
    return Object.fromEntries(fresh.map(([name, value]) => [name, value]));
  }

  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  vnp.liveSource = {
    async overview() {
      const overview = await ask("overview");
      news(overview);
      vnp.liveSource.tell(overview.trouble);
      return overview;
    },

    tell(text) {
      lasting = text ? `${text}.` : "";
      say("");
    },

    contigs: (query = {}) => ask("contigs", query),
    track: ({ sample, contig }) => ask("track", { sample, contig }),

    neighbours: (row, told, signal) =>
      listen("neighbours", { row }, signal, told).then(({ records }) => records),

    async map({ again = false } = {}) {
      for (let pause = 250; ; pause = Math.min(2 * pause, 4000)) {
        const { pending, map, number, trouble, failed } = await ask("map", { again: again || null });
        again = false;
        vnp.liveSource.noMap = trouble ? `${trouble}.` : null;
        vnp.liveSource.retryMap = failed;
        vnp.liveSource.mapNumber = number;
        if (!pending) return map;
        await wait(pause);
      }
    },

    events(callback) {
      const stream = new EventSource("/api/events");
      stream.onopen = () => say("");
      stream.onmessage = ({ data }) => {
        const parts = news(JSON.parse(data));
        if (Object.keys(parts).length) callback(parts);
      };
      stream.onerror = () => say(SILENT);
      return () => stream.close();
    },
  };

  document
    .getElementById("app")
    .replaceChildren(
      vnp.el("header", {}, vnp.el("h1", {}, document.title), vnp.el("p", { class: "lead" }, "Reading the store …")),
    );
  vnp.start(vnp.liveSource);
})();
