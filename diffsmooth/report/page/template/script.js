"use strict";

const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Theme: the system's, until the button says otherwise.
{
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();
}

// The curve: a reading of all runs at one radius, by pointer and by keyboard.
{
  const data = JSON.parse(byId("curve-data").textContent);
  const plot = byId("plot"), slider = byId("radius"), reader = byId("reader");
  const dots = all("span", reader);
  const entries = all(".legend li");
  const shown = data.names.map(() => true);

  const read = (i) => {
    slider.value = i;
    byId("at").textContent = data.radii[i];
    reader.style.left = `${data.places[i]}%`;
    entries.forEach((entry, run) => {
      const height = data.heights[run][i];
      entry.querySelector(".reading").textContent = data.texts[run][i];
      dots[run].hidden = height === null || !shown[run];
      dots[run].style.top = `${height ?? 0}%`;
    });
    const readings = data.names.map((name, run) => `${name} ${data.texts[run][i]}`);
    slider.setAttribute("aria-valuetext", `radius ${data.radii[i]}: ${readings.filter((_, run) => shown[run]).join(", ")}`);
  };
  const nearest = (place) => data.places.reduce(
    (best, other, i) => Math.abs(other - place) < Math.abs(data.places[best] - place) ? i : best, 0);
  const follow = (event) => {
    const box = plot.getBoundingClientRect();
    read(nearest(100 * (event.clientX - box.left) / box.width));
  };
  plot.addEventListener("pointermove", follow);
  plot.addEventListener("pointerdown", (event) => {
    follow(event);
    event.preventDefault(); // or the focus would leave again
    slider.focus({ preventScroll: true });
  });
  slider.addEventListener("input", () => read(slider.valueAsNumber));
  entries.forEach((entry, run) => {
    const button = entry.querySelector("button");
    button.addEventListener("click", () => {
      shown[run] = !shown[run];
      button.setAttribute("aria-pressed", shown[run]);
      plot.querySelector(`g[data-run="${run}"]`).classList.toggle("off", !shown[run]);
      read(slider.valueAsNumber);
    });
  });
  slider.hidden = false;
  byId("hint").hidden = false;
  read(slider.valueAsNumber);
}

// The table: a button in each head sorts, descending first for numbers; n/a stays last.
{
  const table = byId("results"), body = table.tBodies[0];
  const heads = all("thead th", table);
  heads.forEach((head, column) => {
    const label = head.querySelector(".sort");
    const words = "text" in label.dataset;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...label.childNodes);
    label.replaceWith(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = words ? "ascending" : "descending", second = words ? "descending" : "ascending";
      const order = before === first ? second : first;
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].dataset.key;
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (words) return sign * x.localeCompare(y);
        return (x === "") - (y === "") || sign * (x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

// Of the runs' panels one is shown at a time, and of its images those that pass the filters.
{
  const filters = byId("filters");
  const filter = () => {
    if (!filters) return;
    const outcomes = all("input[name=outcome]:checked", filters).map((box) => box.value);
    const low = filters.elements.low.valueAsNumber, high = filters.elements.high.valueAsNumber;
    all(".card").forEach((card) => {
      const radius = card.dataset.radius === "" ? NaN : Number(card.dataset.radius);
      // Comparisons with what is not there, NaN, are false: it hides nothing.
      card.hidden = !outcomes.includes(card.dataset.outcome) || radius < low || radius > high;
    });
    const cards = all("[data-panel=images]:not([hidden]) .card");
    byId("shown").textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} images`;
  };
  all("select[data-panels]").forEach((select) => {
    const panels = all(`[data-panel="${select.dataset.panels}"]`);
    const choose = () => {
      panels.forEach((panel, i) => { panel.hidden = i !== Number(select.value); });
      filter();
    };
    select.addEventListener("change", choose);
    choose();
  });
  if (filters) {
    filters.hidden = false;
    filters.addEventListener("input", filter);
    filters.addEventListener("reset", () => setTimeout(filter)); // after the fields have changed
    filters.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }
}

// On paper all is unfolded.
{
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));
}
