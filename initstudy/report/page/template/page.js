// What Vega-Lite cannot do: link charts that stand apart, with one another and with the table.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const views = new Map();
const state = { chosen: null, step: 0 };
const NARROW = 480;
const MANY_MARKS = 20000;
const PAGE = 50;

// ---------------------------------------------------------------- charts

const dark = () => document.documentElement.dataset.theme === "dark";
const rowsOf = (part) => typeof part.values === "string" ? JSON.parse(part.values) : part.values ?? [];

function datasets(spec, sets = new Set()) {
  if (spec && typeof spec === "object") {
    for (const values of Object.values(spec.datasets ?? {})) sets.add(values);
    if (spec.data?.values !== undefined) sets.add(spec.data.values);
    for (const value of Object.values(spec)) datasets(value, sets);
  }
  return [...sets].map((values) => rowsOf({ values }));
}

function recoloured(part) {
  // The darkest end of a scheme is lost on a dark page, as the palest is on a light one.
  if (Array.isArray(part)) return part.map(recoloured);
  if (!part || typeof part !== "object") return part;
  const copy = Object.fromEntries(Object.entries(part).map(([key, value]) => [key, recoloured(value)]));
  if (copy.name === "viridis" && copy.extent && dark()) copy.extent = [0.25, 1];
  return copy;
}

function themed(config, width) {
  const narrow = width < NARROW;
  const [ink, soft, grid] = dark() ? ["#e6e9ec", "#a9b1ba", "#33383e"] : ["#1b1f24", "#57606a", "#ececec"];
  const text = { labelColor: ink, titleColor: ink };
  return {
    ...config, background: null, padding: 4, title: { color: ink, subtitleColor: soft }, text: { color: ink },
    header: { ...config.header, ...text },
    axis: { ...config.axis, ...text, titleLimit: width - 60, gridColor: grid, domainColor: soft, tickColor: soft },
    legend: { ...config.legend, ...text, ...(narrow ? { orient: "bottom", direction: "horizontal" } : {}) },
  };
}

// A chart as wide as its place: views side by side share it, on a phone they stand one below another.
function fitted(spec, width) {
  const narrow = width < NARROW;
  const { title, background, config, usermeta, ...rest } = recoloured(spec);
  const full = { ...rest, config: themed(config, width) };
  const parts = full.hconcat ?? full.concat;
  if (parts) {
    const columns = narrow ? 1 : Math.min(parts.length, full.columns ?? parts.length);
    delete full.hconcat;
    full.columns = columns;
    const legend = narrow ? 30 : 110;
    full.concat = parts.map((part) => ({ ...part, width: Math.max(180, (width - legend) / columns - 70) }));
  } else {
    full.width = Math.max(width, usermeta?.least ?? 0);
    full.autosize = { type: "fit-x", contains: "padding" };
  }
  if (narrow) for (const legend of legends(full)) legend.gradientLength ? legend.gradientLength = width * 0.6 : legend.columns = 4;
  return full;
}

function legends(part, all = []) {
  if (part && typeof part === "object") {
    if (part.legend && typeof part.legend === "object" && part.field) all.push(part.legend);
    for (const value of Object.values(part)) legends(value, all);
  }
  return all;
}

async function draw(id) {
  const place = $(id);
  const spec = data.specs[id];
  const marks = datasets(spec).reduce((sum, rows) => sum + rows.length, 0);
  views.get(id)?.finalize();
  const { view } = await vegaEmbed(place, fitted(spec, place.clientWidth), {
    actions: false, renderer: marks > MANY_MARKS ? "canvas" : "svg", tooltip: { theme: dark() ? "dark" : "light" },
  });
  views.set(id, view);
  view.addEventListener("click", (_event, item) => item && pick(item));
  await apply(id);
}

async function apply(id) {
  const view = views.get(id);
  if (!view) return;
  const steps = data.specs[id].usermeta?.steps;
  view.signal("chosen", state.chosen).signal("ink", dark() ? "#e6e9ec" : "black");
  if (steps) {
    const now = data.steps[state.step];
    view.signal("step", steps.filter((step) => step <= now).at(-1) ?? steps[0]);
  }
  await view.runAsync();
}

const ids = () => Object.keys(data.specs);
async function drawAll() {
  for (const id of ids()) {
    await draw(id);
    // The page answers between two charts.
    await new Promise((done) => setTimeout(done));
  }
}
const applyAll = () => Promise.all(ids().map(apply));

// ---------------------------------------------------------------- what is chosen

function pick(item) {
  const legend = item.mark.role?.startsWith("legend");
  const row = legend ? { by: item.datum?.value } : item.datum ?? {};
  if (row.by === undefined || row.by === null) return;
  choose({ by: String(row.by), run: row.run });
}

function choose(what) {
  const same = what && state.chosen && what.by === state.chosen.by && what.run === state.chosen.run;
  state.chosen = same ? null : what;
  const { by, run } = state.chosen ?? {};
  if ($("by")) $("by").value = by ?? "";
  if ($("clear")) $("clear").hidden = !state.chosen;
  if ($("said")) $("said").textContent = run ? `run ${run}` : "";
  fill();
  return applyAll();
}

// ---------------------------------------------------------------- the table of runs

const table = { sort: null, down: false, shown: PAGE, filter: "" };
const FIRST = 3;  // id, value and sparkline stand before the columns

function kept() {
  if (!data.runs) return [];
  const words = table.filter.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const names = data.runs.columns.map((column) => column.label.toLowerCase());
  const told = (row) => row.slice(FIRST).map((cell, i) => cell === null ? "" : `${names[i]}=${cell}`).concat(row[0]);
  let rows = data.runs.rows.filter((row) => {
    const cells = told(row).map((cell) => cell.toLowerCase());
    const values = row.slice(FIRST).map((cell) => String(cell).toLowerCase());
    // "seed=2" is about one column, "0.1" about any whole value, letters about any part.
    return words.every((word) => Number.isNaN(Number(word)) ? cells.some((cell) => word.includes("=") ? cell.endsWith(word) : cell.includes(word)) : values.includes(word));
  });
  if (table.sort !== null) {
    const at = table.sort + FIRST, sign = table.down ? -1 : 1;
    const empty = (x) => x === null || x === "NaN";
    rows = rows.toSorted((a, b) => {
      if (empty(a[at]) || empty(b[at])) return empty(a[at]) - empty(b[at]);
      return sign * (data.runs.columns[table.sort].numeric ? Number(a[at].toString().replace("inf", "Infinity")) - Number(b[at].toString().replace("inf", "Infinity")) : String(a[at]).localeCompare(String(b[at])));
    });
  }
  return state.chosen ? rows.toSorted((a, b) => isChosen(b) - isChosen(a)) : rows;
}

const isChosen = (row) => Boolean(state.chosen && (state.chosen.run ? row[0] === state.chosen.run : row[1] === state.chosen.by));
const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
};

function sparkline(heights) {
  const step = 84 / Math.max(heights.length - 1, 1);
  let pen = "M", path = "";
  heights.forEach((height, i) => {
    if (height === null) { pen = "M"; return; }
    path += `${pen}${(i * step).toFixed(1)},${(21 - height / 5).toFixed(1)}`;
    pen = "L";
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 84 22");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

function fill() {
  if (!data.runs) return;
  const rows = kept();
  const body = rows.slice(0, table.shown).map((row) => {
    const [id, , heights, ...cells] = row;
    const name = make("button", { type: "button", textContent: id, title: "Show this run in the charts" });
    name.addEventListener("click", () => choose({ by: row[1], run: id }));
    const line = make("tr", { className: isChosen(row) ? "chosen" : "" }, make("td", {}, name), make("td", {}, sparkline(heights)));
    cells.forEach((cell, i) => line.append(make("td", { className: data.runs.columns[i].numeric ? "number" : "", textContent: cell ?? "–" })));
    if (data.runs.link) line.append(make("td", {}, make("a", { href: data.runs.link + id, textContent: "W&B", ariaLabel: `Run ${id} on W&B` })));
    return line;
  });
  $("runs").tBodies[0].replaceChildren(...body);
  $("count").textContent = `${rows.length.toLocaleString("en")} of ${data.runs.rows.length.toLocaleString("en")}`;
  $("more").hidden = rows.length <= table.shown;
  $("more").textContent = `Show ${Math.min(10 * PAGE, rows.length - table.shown)} more`;
}

function head() {
  const names = data.runs.columns.map((column, i) => {
    const button = make("button", { type: "button", textContent: column.label });
    const cell = make("th", { scope: "col", className: column.numeric ? "number" : "" }, button);
    button.addEventListener("click", () => {
      table.down = table.sort === i && !table.down;
      table.sort = i;
      for (const other of $("runs").tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", table.down ? "descending" : "ascending");
      fill();
    });
    return cell;
  });
  const plain = (text) => make("th", { scope: "col", textContent: text });
  const last = data.runs.link ? [plain("online")] : [];
  $("runs").tHead.append(make("tr", {}, plain("run"), plain("training loss over steps"), ...names, ...last));
}

// ---------------------------------------------------------------- saving

function csv(spec) {
  const parts = datasets(spec).filter((rows) => rows.length);
  const columns = [...new Set(parts.flatMap((rows) => rows.flatMap(Object.keys)))];
  const quoted = (value) => /[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const lines = parts.flatMap((rows, part) => rows.map((row) => [part + 1, ...columns.map((c) => quoted(String(row[c] ?? "")))].join(",")));
  return [["part", ...columns].join(","), ...lines].join("\n") + "\n";
}

async function saved(id, kind) {
  if (kind === "csv") return URL.createObjectURL(new Blob([csv(data.specs[id])], { type: "text/csv" }));
  // The picture of the report, with its title and on white, as the charts stand now.
  const { view } = await vegaEmbed(document.createElement("div"), data.specs[id], { actions: false, renderer: "svg" });
  view.signal("chosen", state.chosen);
  const now = views.get(id);
  if (data.specs[id].usermeta?.steps) view.signal("step", now.signal("step"));
  await view.runAsync();
  const address = await view.toImageURL(kind, 2);
  view.finalize();
  return address;
}

async function save(id, kind) {
  make("a", { href: await saved(id, kind), download: `${id}.${kind}` }).click();
}

// ---------------------------------------------------------------- the page

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  window.drawn = drawAll();
  return window.drawn;
}

function start() {
  $("by")?.addEventListener("change", (event) => choose(event.target.value === "" ? null : { by: event.target.value }));
  $("clear")?.addEventListener("click", () => choose(null));
  $("step")?.addEventListener("input", (event) => {
    state.step = Number(event.target.value);
    $("at").textContent = data.steps[state.step].toLocaleString("en");
    applyAll();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && state.chosen && choose(null));
  document.addEventListener("click", ({ target }) => target.dataset?.chart && save(target.dataset.chart, target.dataset.kind));
  if (data.runs) {
    head();
    fill();
    $("filter").addEventListener("input", (event) => { table.filter = event.target.value; table.shown = PAGE; fill(); });
    $("more").addEventListener("click", () => { table.shown += 10 * PAGE; fill(); });
  }
  if (!$("theme")) return;
  $("theme").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
  $("theme").textContent = dark() ? "Light" : "Dark";
  let width = innerWidth, waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; window.drawn = drawAll(); } }, 150);
  });
  addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; });
  window.drawn = drawAll();
}
start();
