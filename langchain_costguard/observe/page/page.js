"use strict";
const COLORS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e"];
const REST = "#9498a0";
const charts = {};
let facts = JSON.parse(document.getElementById("facts").textContent);
let shown = "feature";

function make(tag, given = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "class") node.className = value;
    else if (name === "style") Object.assign(node.style, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...inside.filter((each) => each !== null && each !== undefined));
  return node;
}
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const many = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const short = (n) => Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n);
const percent = (share) => (share === null ? "–" : `${Math.round(share * 100)}%`);
function usd(nano) {
  const value = nano / 1e9;
  const size = Math.abs(value);
  const digits = size >= 1 || value === 0 ? 2 : size >= 0.01 ? 4 : 7;
  return `${value < 0 ? "-" : ""}$${size.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}
function put(id, ...inside) {
  const place = document.getElementById(id);
  place.replaceChildren(...inside.filter((each) => each !== null));
  return place;
}
const nothing = (text) => make("p", { class: "soft" }, text);

function chart(id, data, { money = false, type = "bar", horizontal = false, unit = "" } = {}) {
  const place = document.getElementById(id);
  charts[id]?.destroy();
  delete charts[id];
  if (!data.labels.length || !data.series.some((each) => each.values.some((value) => value))) {
    place.replaceChildren(nothing("Nothing in this time."));
    place.style.height = "auto";
    return;
  }
  place.style.height = "";
  const canvas = make("canvas", { role: "img", "aria-label": place.dataset.label });
  place.replaceChildren(canvas);
  const tick = (value) => (money && Math.abs(value) >= 0.1e9 ? `$${(value / 1e9).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}` : told(value));
  const told = (value) => (money ? usd(value) : `${short(value)}${unit}`);
  const axis = { ticks: { color: css("--soft"), maxRotation: 0, autoSkipPadding: 14, font: { size: 11 } }, grid: { color: css("--line") }, border: { display: false } };
  const amounts = { ...axis, stacked: !horizontal, beginAtZero: true, ticks: { ...axis.ticks, callback: tick } };
  const names = { ...axis, stacked: !horizontal, grid: { display: false } };
  charts[id] = new Chart(canvas, {
    type,
    data: {
      labels: data.labels,
      datasets: data.series.map((each, i) => ({
        label: each.name,
        data: each.values,
        backgroundColor: / others$/.test(each.name) ? REST : COLORS[i % COLORS.length],
        borderRadius: 2,
        maxBarThickness: 44,
      })),
    },
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      indexAxis: horizontal ? "y" : "x",
      interaction: { mode: "index", intersect: false, axis: horizontal ? "y" : "x" },
      scales: horizontal ? { x: amounts, y: names } : { x: names, y: amounts },
      plugins: {
        legend: { display: data.series.length > 1, position: "bottom", align: "start", labels: { color: css("--text"), boxWidth: 11, boxHeight: 11, font: { size: 12 } } },
        tooltip: {
          filter: (item) => item.raw,
          callbacks: { label: (item) => `${item.dataset.label}: ${told(item.raw)}`, footer: (items) => (items.length > 1 && !horizontal ? `together: ${told(items.reduce((sum, item) => sum + item.raw, 0))}` : "") },
        },
      },
    },
  });
}

function tile(name, value, note, kind = "") {
  return make("div", { class: "tile" }, make("span", { class: "soft" }, name), make("b", {}, value), make("span", { class: `soft ${kind}` }, note || " "));
}
function against(now, before) {
  if (before === undefined || before === null) return ["", ""];
  if (!before) return ["", ""];
  const change = (now - before) / before;
  return [`${change >= 0 ? "+" : "−"}${Math.abs(change * 100).toFixed(0)}% against the time before`, change > 0 ? "up" : "down"];
}
function tiles() {
  const total = facts.total;
  const before = facts.before;
  const [spent, kind] = against(total.spent, before?.spent);
  const [calls] = against(total.calls, before?.calls);
  put(
    "tiles",
    tile("Spent", total.usd, spent, kind),
    tile("Calls", total.calls.toLocaleString("en"), calls || many(total.tool_calls, "tool call")),
    tile("Refused", total.refused.toLocaleString("en"), before ? `${before.refused.toLocaleString("en")} in the time before` : "before anything was spent"),
    tile("Saved by caches", total.saved_usd, `${percent(total.hit_rate)} of cacheable tokens`),
    tile("Tokens", short(total.input + total.output), `${short(total.input)} in, ${short(total.output)} out`),
  );
}

function table(columns, rows) {
  if (!rows.length) return nothing("Nothing in this time.");
  const head = make("tr", {}, ...columns.map(([title, , kind]) => make("th", { class: kind || "" }, title)));
  const body = rows.map((row) => make("tr", {}, ...columns.map(([, value, kind]) => make("td", { class: kind || "" }, String(value(row) ?? "")))));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}
function who() {
  const rows = facts.tables[shown] || [];
  const columns = [
    [shown, (row) => row.name, "name"], ["spent", (row) => row.usd], ["calls", (row) => row.calls.toLocaleString("en")],
    ["tools", (row) => row.tools.toLocaleString("en"), "wide"], ["input", (row) => short(row.input), "wide"], ["output", (row) => short(row.output), "wide"],
    ["cached", (row) => percent(row.hit_rate), "wide"], ["refused", (row) => row.refused || "–"], ["saved", (row) => row.saved_usd || "–", "wide"],
  ];
  put("who", table(columns, rows));
  chart("time", facts.over_time[shown] || facts.over_time.model, { money: true });
  document.querySelectorAll("#by button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.by === shown)));
}

function budget(row) {
  const kind = row.share >= 1 ? "bad" : row.share >= 0.7 ? "warn" : "";
  const words = `${row.budget}${row.scope ? ` · ${row.scope}` : ""}`;
  return make(
    "div", { class: "budget" },
    make("div", { class: "line" }, make("span", {}, words), make("span", {}, `${row.spent} of ${row.cap} ${row.measure === "usd" ? "" : row.measure.replace("_", " ")} (${percent(row.share)})`)),
    make("div", { class: "bar", role: "meter", "aria-label": words, "aria-valuenow": Math.round(row.share * 100), "aria-valuemin": 0, "aria-valuemax": 100 }, make("i", { class: kind, style: { width: `${Math.min(100, row.share * 100)}%` } })),
  );
}
function node(each, open) {
  const line = [
    make("span", { class: "kind" }, each.kind),
    make("span", { class: "name" }, each.name),
    make("span", { class: "soft note" }, each.note || (each.inside.length ? many(each.calls, "call") : "")),
    make("span", { class: "usd" }, each.kind === "refused" ? "refused" : usd(each.spent)),
  ];
  if (!each.inside.length) return make("div", { class: "leaf" }, ...line);
  const box = make("details", open ? { open: "" } : {}, make("summary", {}, ...line));
  box.append(make("div", { class: "inside" }, ...each.inside.map((inner) => node(inner, each.inside.length === 1))));
  return box;
}
function trace(each) {
  const agents = each.tree.inside.map((inner) => inner.name).join(", ");
  const box = node({ ...each.tree, name: `${each.at} · ${agents}` }, false);
  box.title = each.tree.name;
  return box;
}

function draw() {
  document.getElementById("when").textContent = facts.period.length
    ? `${facts.period[0]} to ${facts.period[1]} (${facts.tz}), as of ${facts.made}` : `The log is empty, as of ${facts.made}`;
  const filters = Object.entries(facts.filters).map(([name, values]) => `${name} = ${values.join(" or ")}`);
  document.getElementById("of").textContent = filters.join(", ");
  tiles();
  who();
  chart("tokens", facts.tokens);
  chart("refused", facts.refused);
  put("why", table([["refused by", (row) => row.budget || row.error, "name"], ["why", (row) => (row.budget ? "over budget" : row.error), "text"], ["times", (row) => row.times.toLocaleString("en")]], facts.refused.why));
  put("budgets", ...(facts.budgets.length ? facts.budgets.map(budget) : [nothing("No budget has been settled on.")]));
  put("savings", table([["what", (row) => row.policy, "name"], ["times", (row) => (row.times ? row.times.toLocaleString("en") : "–")], ["saved", (row) => row.usd]], facts.savings));
  const firsts = facts.first_token;
  chart("first", { labels: firsts.map((row) => row.model), series: [{ name: "half of the calls within", values: firsts.map((row) => row.p50) }, { name: "95% within", values: firsts.map((row) => row.p95) }] }, { horizontal: true, unit: " s" });
  put("traces", ...(facts.traces.length ? facts.traces.map(trace) : [nothing("Nothing in this time.")]));
  put("calls", table([["what", (row) => row.what, "name"], ["when", (row) => row.at, "text wide"], ["agent", (row) => row.agent || "–", "text"], ["feature", (row) => row.feature || "–", "text wide"], ["input", (row) => short(row.input), "wide"], ["output", (row) => short(row.output), "wide"], ["seconds", (row) => row.seconds.toFixed(1), "wide"], ["spent", (row) => row.usd]], facts.calls));
}

for (const name of ["feature", "agent", "model", "user"]) {
  document.getElementById("by").append(make("button", { type: "button", "data-by": name, "aria-pressed": "false", onclick: () => { shown = name; who(); } }, name));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
if (!(facts.tables.feature || []).some((row) => row.name !== "unnamed")) shown = facts.tables.agent.some((row) => row.name !== "unnamed") ? "agent" : "model";
draw();
