// Draws the panels of the page from the data beside them: nothing is fetched, no text is evaluated.
// Vega's expressions are run by its interpreter (ast), which a strict policy allows.
(() => {
  "use strict";
  const read = (element) => JSON.parse(element.textContent);
  const looks = read(document.getElementById("looks"));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const panels = [...document.querySelectorAll(".panel")];
  const drawn = new Map();
  let round = 0;

  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    return (columns[names[0]] || []).map((_, at) =>
      Object.fromEntries(names.map((name) => [name, columns[name][at]])));
  };

  const draw = async (panel, look) => {
    const { spec, columns, renderer } = read(panel.querySelector("script"));
    const datasets = { ...spec.datasets, rows: rowsOf(columns) };
    const place = panel.querySelector(".drawing");
    if (drawn.has(panel)) drawn.get(panel).finalize();
    place.replaceChildren();
    const options = {
      mode: "vega-lite",
      ast: true,
      actions: false,
      defaultStyle: false,
      renderer,
      config: looks[look],
      tooltip: { theme: look },
    };
    drawn.set(panel, await window.vegaEmbed(place, { ...spec, datasets }, options));
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", place.dataset.said);
  };

  const drawAll = async () => {
    const own = ++round;
    const page = document.documentElement;
    page.dataset.figures = "drawing";
    let failed = 0;
    for (const panel of panels) {
      if (own !== round) return;
      try {
        await draw(panel, dark.matches ? "dark" : "light");
      } catch (error) {
        failed += 1;
        panel.querySelector(".drawing").textContent = `This figure cannot be drawn: ${error.message}`;
        console.error(error);
      }
    }
    page.dataset.figures = failed ? "failed" : "drawn";
  };

  const save = async (button) => {
    const panel = button.closest(".panel");
    const look = window.getComputedStyle(document.body).backgroundColor;
    const view = drawn.get(panel).view;
    view.background(look);
    const link = document.createElement("a");
    link.href = await view.toImageURL(button.dataset.save, 2);
    link.download = `${panel.dataset.file}.${button.dataset.save}`;
    link.click();
    view.background("transparent");
  };

  for (const button of document.querySelectorAll("button[data-save]")) {
    button.addEventListener("click", () => save(button));
  }
  dark.addEventListener("change", drawAll);
  drawAll();
})();
