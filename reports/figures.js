// Draws the panels of the page from the data beside them: nothing is fetched, no text is evaluated.
// Vega's expressions are run by its interpreter (ast), which a strict policy allows. Panels in parts
// that are folded are drawn when these are opened.
(() => {
  "use strict";
  const read = (element) => JSON.parse(element.textContent);
  const looks = read(document.getElementById("looks"));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const small = window.matchMedia("(max-width: 40rem)");
  const page = document.documentElement;
  const panels = [...document.querySelectorAll(".panel")];
  const folds = [...document.querySelectorAll("details.fold")];
  const drawn = new Map();
  let round = 0;

  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    return (columns[names[0]] || []).map((_, at) =>
      Object.fromEntries(names.map((name) => [name, columns[name][at]])));
  };

  // A figure with a legend of its own needs none in its panels; what is saved has one.
  const withoutLegends = (value) => {
    if (Array.isArray(value)) return value.map(withoutLegends);
    if (value === null || typeof value !== "object") return value;
    const kept = Object.entries(value).map(([name, each]) => [name, withoutLegends(each)]);
    return Object.fromEntries(kept.map(([name, each]) => [name, name === "legend" ? null : each]));
  };

  const embed = (panel, place, look, { legends, renderer }) => {
    const known = read(panel.querySelector("script"));
    const spec = legends ? known.spec : withoutLegends(known.spec);
    const datasets = { ...spec.datasets, rows: rowsOf(known.columns) };
    return window.vegaEmbed(place, { ...spec, datasets }, {
      mode: "vega-lite",
      ast: true,
      actions: false,
      defaultStyle: false,
      renderer: renderer || known.renderer,
      config: looks[look],
      tooltip: { theme: look },
    });
  };

  const lookNow = () => (dark.matches ? "dark" : "light");

  const draw = async (panel) => {
    const place = panel.querySelector(".drawing");
    place.replaceChildren();
    const legends = panel.closest("figure").dataset.legend !== "shared";
    drawn.set(panel, await embed(panel, place, lookNow(), { legends }));
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", place.dataset.said);
  };

  const isSeen = (panel) => panel.closest("details:not([open])") === null;

  const drawMissing = async () => {
    const own = ++round;
    page.dataset.figures = "drawing";
    let failed = false;
    for (const panel of panels) {
      if (own !== round) return;
      if (drawn.has(panel) || !isSeen(panel)) continue;
      try {
        await draw(panel);
      } catch (error) {
        failed = true;
        panel.querySelector(".drawing").textContent = `This figure cannot be drawn: ${error.message}`;
        console.error(error);
      }
    }
    if (own === round) page.dataset.figures = failed ? "failed" : "drawn";
  };

  const drawAgain = () => {
    for (const view of drawn.values()) view.finalize();
    drawn.clear();
    drawMissing();
  };

  const save = async (button) => {
    const panel = button.closest(".panel");
    const place = document.createElement("div");
    place.style.cssText = `position:absolute;left:-99999px;width:${panel.clientWidth}px`;
    document.body.append(place);
    const made = await embed(panel, place, lookNow(), { legends: true, renderer: "svg" });
    made.view.background(window.getComputedStyle(document.body).backgroundColor);
    const link = document.createElement("a");
    link.href = await made.view.toImageURL(button.dataset.save, 2);
    link.download = `${panel.dataset.file}.${button.dataset.save}`;
    link.click();
    made.finalize();
    place.remove();
  };

  const copy = async (button) => {
    const text = button.parentElement.querySelector("pre").textContent;
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.parentElement.querySelector("details").open = true;
      window.getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
      button.textContent = document.execCommand("copy") ? "copied" : "select and copy";
    }
    window.setTimeout(() => { button.textContent = said; }, 2000);
  };

  const follow = () => {
    const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
    const seen = new Set();
    const watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) seen.add(target.id);
        else seen.delete(target.id);
      }
      const first = [...links.keys()].find((name) => seen.has(name));
      for (const [name, link] of links) {
        if (name === first) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-15% 0px -60% 0px" });
    for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
  };

  const unfold = () => {
    const target = window.location.hash && document.getElementById(window.location.hash.slice(1));
    const fold = target && (target.querySelector("details.fold") || target.closest("details.fold"));
    if (fold) fold.open = true;
  };

  for (const button of document.querySelectorAll("button[data-save]")) {
    button.addEventListener("click", () => save(button));
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => copy(button));
  }
  for (const fold of folds) {
    if (small.matches && "folds" in fold.dataset) fold.open = false;
  }
  unfold();
  for (const fold of folds) fold.addEventListener("toggle", drawMissing);
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", () => { document.querySelector(`${link.hash} details.fold`).open = true; });
  }
  window.addEventListener("hashchange", unfold);
  window.addEventListener("beforeprint", () => { for (const fold of folds) fold.open = true; });
  dark.addEventListener("change", drawAgain);
  follow();
  drawMissing();
})();
