/* The page: sections in the order in which a biologist asks. */

(() => {
  "use strict";

  /** Draw the page from a source (source.js says what that is). */
  vnp.start = async (source) => {
    const app = document.getElementById("app");
    const overview = await source.overview();
    const contigs = vnp.contigSection(source, overview);
    const choose = (sample) => contigs.show({ sample });
    const map = vnp.el("div");
    const main = vnp.el("main", {}, vnp.viralSection(overview, choose));
    if (overview.store.rows) main.append(contigs.section, map);
    const distributions = vnp.distributionSection(overview);
    if (distributions) main.append(distributions);
    main.append(vnp.operatorSection(overview));
    app.replaceChildren(vnp.header(overview), main, footer(overview));
    if (overview.store.rows) {
      await contigs.start();
      await showMap(source, overview, map);
    }
    if (source.events) follow(source, overview);
    beforePrint();
    document.documentElement.dataset.ready = "true"; // for tests: everything is there
  };

  async function showMap(source, overview, place) {
    const map = await source.map();
    if (map) return place.replaceWith(vnp.mapSection(source, map, overview));
    const text = overview.store.complete
      ? "Too few records for a map."
      : "No map yet: too few records have their embeddings.";
    return place.replaceWith(
      vnp.section("map", "Map of records", vnp.el("p", { class: "empty" }, text)),
    );
  }

  /** A live source tells what has changed. */
  function follow(source, overview) {
    const rate = vnp.el("p", { class: "live", role: "status" });
    document.querySelector("header").append(rate);
    source.events((news) => {
      Object.assign(overview, news);
      document
        .getElementById("operator-body")
        ?.replaceChildren(...vnp.operatorParts(overview).flat(Infinity).filter(Boolean));
      if (news.rate !== undefined)
        rate.textContent = `${vnp.short(news.rate ?? 0)} records / s${news.seconds_left ? `, about ${duration(news.seconds_left)} left` : ""}`;
    });
  }

  function duration(seconds) {
    const minutes = Math.ceil(seconds / 60);
    return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
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
