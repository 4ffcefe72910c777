/* The page: sections in the order in which a biologist asks. */

(() => {
  "use strict";

  /** Draw the page from a source (source.js says what that is). */
  vnp.start = async (source) => {
    const overview = await source.overview();
    const page = drawn(source, overview);
    if (source.events) follow(source, overview, page);
    if (overview.store.rows) {
      await page.contigs.start();
      await page.showMap();
    }
    beforePrint();
    document.documentElement.dataset.ready = "true"; // for tests: everything is there
  };

  /** Draw everything but the map; gives what can be drawn again. */
  function drawn(source, overview) {
    // Certified records when the map was made, and which of those made by a server it is.
    const page = { mapped: null, drawn: 0, mapping: null };
    const places = {};
    const place = (name, made) => (places[name] = made ?? vnp.el("div"));
    const choose = (sample) => page.contigs.showSample(sample);
    const makers = {
      header: () => vnp.header(overview),
      viral: () => vnp.viralSection(overview, choose),
      scores: () => vnp.distributionSection(overview) ?? vnp.el("div"),
    };

    /** Draw a part again, unless the keyboard is in it. */
    page.redraw = (name) => {
      const old = places[name];
      if (old.contains(document.activeElement)) return;
      old.replaceWith(place(name, makers[name]()));
    };

    /** Begin the table of contigs. */
    page.listContigs = () => {
      const old = places.contigs;
      page.contigs = vnp.contigSection(source, overview);
      old?.replaceWith(page.contigs.section);
      place("contigs", page.contigs.section);
    };

    page.showMap = (how) => (page.mapping ??= showMap(how).finally(() => (page.mapping = null)));

    function awaited() {
      const text = "The map is being made …";
      return vnp.section("map", "Map of records", vnp.el("p", { class: "empty", role: "status" }, text));
    }

    function retry() {
      places.map.replaceWith(place("map", awaited()));
      return page.showMap({ again: true });
    }

    async function showMap(how) {
      const map = await source.map(how);
      const drawn = source.mapNumber ?? 0;
      if (map && map.of === page.mapped && drawn === page.drawn) return; // it is shown
      page.drawn = drawn;
      page.mapped = map ? map.of : null;
      const few = overview.store.complete
        ? "Too few records for a map."
        : "No map yet: too few records have their embeddings.";
      const text = source.noMap ?? few;
      const made = map
        ? vnp.mapSection(source, map, overview)
        : vnp.section(
            "map",
            "Map of records",
            vnp.el("p", { class: "empty" }, text),
            source.retryMap ? vnp.button("Try again", retry) : null,
          );
      places.map.replaceWith(place("map", made));
    }

    page.listContigs();
    const main = vnp.el("main", {}, place("viral", makers.viral()));
    if (overview.store.rows) main.append(places.contigs, place("map", source.events ? awaited() : undefined));
    main.append(place("scores", makers.scores()), vnp.operatorSection(overview));
    const head = place("header", makers.header());
    document.getElementById("app").replaceChildren(head, main, footer(overview));
    return page;
  }

  /** A live source tells what has changed. */
  function follow(source, overview, page) {
    const pace = vnp.el("p", { class: "live", role: "status" });
    source.events((news) => {
      const before = { rows: overview.store.rows, called: overview.scores !== null };
      Object.assign(overview, news);
      // The first rows make a page of another shape.
      if (!before.rows && overview.store.rows) return location.reload();
      if ("trouble" in news) source.tell(news.trouble);
      if (news.store) page.redraw("header");
      if (news.total || news.classifier) page.redraw("viral");
      if (news.scores || news.distributions) page.redraw("scores");
      document
        .getElementById("operator-body")
        ?.replaceChildren(...vnp.operatorParts(overview).flat(Infinity).filter(Boolean));
      if (before.called !== (overview.scores !== null)) {
        page.listContigs();
        page.contigs.start();
      } else if (news.contigs || news.samples || news.scores || news.classifier)
        page.contigs.refresh();
      // Asked again, the server makes a map of what has come since.
      const { certified } = overview.total;
      const more = certified > 1.5 * (page.mapped ?? 0);
      const last = overview.store.complete && certified > (page.mapped ?? 0);
      if ((news.total && (more || last)) || news.map > page.drawn) page.showMap();
      pace.textContent = overview.store.complete ? "" : paceOf(overview);
      return document.querySelector("header").append(pace);
    });
  }

  function paceOf({ workers, rate, seconds_left: left }) {
    const pace = rate ? `, ${vnp.short(rate)} embeddings / s` : "";
    const rest = left ? `, about ${vnp.duration(left)} left` : "";
    const running = workers ? vnp.plural(workers, "worker") : "No worker";
    return `${running} running${pace}${rest}`;
  }

  function footer({ made, version }) {
    return vnp.el(
      "footer",
      {},
      vnp.el(
        "p",
        {},
        `Made by vnp ${version}, ${vnp.moment(made)}. Charts: Observable Plot and D3 (ISC).`,
      ),
    );
  }

  /** What is folded is printed too. */
  function beforePrint() {
    const folded = [];
    addEventListener("beforeprint", () => {
      folded.splice(0, folded.length, ...document.querySelectorAll("details:not([open])"));
      for (const each of folded) each.open = true;
    });
    addEventListener("afterprint", () => {
      for (const each of folded) each.open = false;
    });
  }
})();
