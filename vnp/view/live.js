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

  /** Ask the server; an answer that is an error is shown, and thrown. */
  async function ask(name, query = {}, signal = null) {
    const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
    let answer, value;
    try {
      answer = await fetch(`/api/${name}?${new URLSearchParams(given)}`, { signal });
      value = await answer.json();
    } catch (error) {
      if (!signal?.aborted) say("The server does not answer: is “vnp view” still running?");
      throw error;
    }
    say(answer.ok ? "" : `${value.error}.`);
    if (!answer.ok) throw new Error(value.error);
    return value;
  }

  const known = new Map(); // parts of the overview as the page has them

  /** Those parts that the page does not have as they are. */
  function news(parts) {
    const texts = Object.entries(parts).map(([name, value]) => [name, value, JSON.stringify(value)]);
    const fresh = texts.filter(([name, , text]) => known.get(name) !== text);
    for (const [name, , text] of fresh) known.set(name, text);
    return Object.fromEntries(fresh.map(([name, value]) => [name, value]));
  }

  let searching = new AbortController();
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

    neighbours(row) {
      searching.abort(); // the server gives up what nobody waits for
      searching = new AbortController();
      return ask("neighbours", { row }, searching.signal);
    },

    async map() {
      for (let pause = 250; ; pause = Math.min(2 * pause, 4000)) {
        const { pending, map, number, trouble } = await ask("map");
        vnp.liveSource.noMap = trouble ? `${trouble}.` : null;
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
      stream.onerror = () => say("The server does not answer: is “vnp view” still running?");
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
