"use strict";
// The admin page. Whatever is shown is set as text, never as markup, because names, errors of CAs and
// words of backends come from elsewhere. Nothing is fetched but from this server.

const svgSpace = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const main = byId("main");

function make(tag, given = {}, ...children) {
  const svg = ["svg", "path", "line", "rect", "title", "circle"].includes(tag);
  const made = svg ? document.createElementNS(svgSpace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined));
  return made;
}

// Words

const count = (value) => value >= 9999.5 ? `${(value / 1000).toFixed(1)}k` : value >= 10 || value === Math.round(value) ? value.toFixed(0) : value.toFixed(1);
const seconds = (value) => !value ? "–" : value < 0.1 ? `${(value * 1000).toFixed(1)} ms` : `${value.toFixed(2)} s`;
function bytes(value) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024) return `${value.toFixed(value >= 10 || unit === "B" ? 0 : 1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(value >= 10 ? 0 : 1)} GiB`;
}
const percent = (value) => `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
function span(length) {
  for (const [size, name] of [[86400, "days"], [3600, "hours"], [60, "minutes"]]) {
    if (length >= 2 * size) return `${Math.round(length / size)} ${name}`;
  }
  return `${Math.round(length)} seconds`;
}
function relative(unix, now) {
  const away = unix - now;
  if (Math.abs(away) < 2) return "now";
  return away > 0 ? `in ${span(away)}` : `${span(-away)} ago`;
}
let ahead = 0; // of the server's clock before this machine's, in seconds
const now = () => Date.now() / 1000 + ahead;
const unix = (text) => typeof text === "number" ? text : Date.parse(text) / 1000;
function moment(text) {
  if (text === null || text === undefined) return "–";
  const at = unix(text);
  if (!Number.isFinite(at)) return String(text);
  const exact = new Date(at * 1000).toISOString().replace(/\.\d+Z/, "Z");
  return make("time", { datetime: exact, title: exact, "data-at": at }, relative(at, now()));
}
setInterval(() => {
  for (const one of document.querySelectorAll("time[data-at]")) one.textContent = relative(Number(one.dataset.at), now());
}, 5000);

const to = (kind, name) => `#/${kind}/${encodeURIComponent(name)}`;
const link = (kind, name) => make("a", { href: to(kind, name) }, name);

function section(id, title, ...children) {
  return make("section", { "aria-labelledby": `${id}-title`, id }, make("h2", { id: `${id}-title` }, title), ...children);
}
function table(caption, heads, rows) {
  const head = make("thead", {}, make("tr", {}, heads.map(([text, numeric]) => make("th", { scope: "col", class: numeric ? "n" : null }, text))));
  const body = make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell, at) => {
    const numeric = heads[at][1];
    return at === 0 ? make("th", { scope: "row" }, cell) : make("td", { class: numeric ? "n" : null }, cell);
  }))));
  // What is wider than the window scrolls by itself, and by keyboard.
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, make("table", {}, make("caption", {}, caption), head, body));
}

// Charts

const charts = new Map(); // by key: what is drawn, kept from one event to the next
const HOUR = 3600;
// Slots that a chart is wide: five minutes, a quarter of an hour, an hour; as there is to be shown.
const WIDTHS = [60, 180, 720];
const WIDE = { 60: "the last 5 minutes", 180: "the last 15 minutes" };

class Chart {
  // `pick` gives [name, values] of each line, of rows and columns.
  constructor(title, spell, stacked, pick) {
    Object.assign(this, { title, spell, stacked, pick, at: 0, slot: 5, columns: [], rows: [] });
    this.readout = make("figcaption", {});
    this.svg = make("svg", { viewBox: "0 0 720 128", preserveAspectRatio: "none", role: "img", tabindex: "0", "aria-label": title });
    this.figures = make("details", {}, make("summary", {}, `${title} in figures`));
    this.element = make("figure", { "data-chart": title }, this.readout, this.svg, this.figures);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.tell());
    this.figures.addEventListener("toggle", () => this.tabulate());
  }
  take(history) {
    const fresh = history.columns.join() !== this.columns.join() || !this.rows.length;
    this.slot = history.slot;
    const missed = Math.round((history.at - this.at) / this.slot);
    if (fresh || missed > history.rows.length || missed < 0) this.rows = history.rows.slice();
    else if (missed > 0) this.rows.push(...history.rows.slice(-missed));
    this.columns = history.columns;
    this.at = history.at;
    this.rows = this.rows.slice(-HOUR / this.slot);
    this.draw();
  }
  draw() {
    const lines = this.pick(this.columns, this.rows);
    const length = this.rows.length, wide = this.wide = WIDTHS.find((one) => one >= length) ?? length;
    const sums = new Array(length).fill(0);
    const shapes = [];
    let most = 0;
    for (const [name, values, colour] of lines) {
      const tops = values.map((value, at) => this.stacked ? (sums[at] += value) : value);
      for (const top of tops) if (top > most) most = top;
      shapes.push([name, values, tops, `c${colour ?? (shapes.length + 1) % 8}`]);
    }
    this.shapes = shapes;
    this.most = most;
    const x = (at) => (720 * (wide - length + at + 1) / wide).toFixed(1);
    const y = (value) => (124 - 116 * (most ? value / most : 0)).toFixed(1);
    const drawn = [make("title", {}, this.words())];
    for (const part of [0.5, 1]) drawn.push(make("line", { x1: 0, x2: 720, y1: y(most * part), y2: y(most * part), class: "c0", stroke: "currentColor", "stroke-opacity": ".35" }));
    const order = shapes.slice();
    if (this.stacked) order.reverse(); // what lies below is drawn over what stands on it
    for (const [, , tops, colour] of order) {
      if (!length) continue;
      const way = tops.map((top, place) => `${place ? "L" : "M"}${x(place)} ${y(top)}`).join("");
      if (this.stacked) drawn.push(make("path", { d: `${way}L${x(length - 1)} 124L${x(0)} 124Z`, fill: "currentColor", class: colour }));
      else drawn.push(make("path", { d: way, fill: "none", stroke: "currentColor", "stroke-width": "2", "vector-effect": "non-scaling-stroke", class: colour }));
    }
    this.svg.replaceChildren(...drawn);
    this.svg.setAttribute("aria-label", this.words());
    this.tell();
    this.tabulate();
  }
  words() {
    const last = this.shapes.map(([name, values]) => `${name} ${this.spell(values.at(-1) ?? 0)}`);
    return `${this.title}, ${WIDE[this.wide] ?? "the last hour"}. Now: ${last.join(", ") || "nothing yet"}. Highest: ${this.spell(this.most)}.`;
  }
  tell(place = this.rows.length - 1) {
    const at = this.at - (this.rows.length - 1 - place) * this.slot;
    const when = place === this.rows.length - 1 ? `highest ${this.spell(this.most)} in ${WIDE[this.wide] ?? "the last hour"}` : new Date(at * 1000).toLocaleTimeString();
    const keys = this.shapes.map(([name, values, , colour]) => make("span", { class: `key ${colour}` }, make("span", {}, `${name} ${this.spell(values[place] ?? 0)}`)));
    this.readout.replaceChildren(make("h3", {}, this.title), ...keys, make("span", {}, when));
  }
  point(event) {
    const box = this.svg.getBoundingClientRect(), wide = this.wide;
    const place = Math.round((event.clientX - box.left) / box.width * wide) - 1 - (wide - this.rows.length);
    if (place >= 0 && place < this.rows.length) this.tell(place);
  }
  tabulate() {
    if (!this.figures.open) return;
    const rows = this.shapes.map(([name, values]) => [name, this.spell(values.at(-1) ?? 0), this.spell(values.reduce((sum, one) => sum + one, 0) / (values.length || 1)), this.spell(values.reduce((most, one) => Math.max(most, one), 0))]);
    this.figures.replaceChildren(this.figures.firstChild, table(`${this.title}, the last hour`, [["what"], ["now", 1], ["mean", 1], ["highest", 1]], rows));
  }
}
const columnsOf = (...wanted) => (columns, rows) => wanted.filter(([name]) => columns.includes(name)).map(([name, colour, said]) => [said || name, rows.map((row) => row[columns.indexOf(name)]), colour]);
const allColumns = (columns, rows) => columns.map((name, at) => [plain(name), rows.map((row) => row[at] ?? 0)]);
function plain(name) { // labels of handshakes are joined in one string
  const [version, resumed, result] = name.split("\u001f");
  if (result === undefined) return name;
  return result === "ok" ? `${version}${resumed === "true" ? " resumed" : ""}` : result;
}
const KINDS = {
  requests: ["Requests a second", count, true, columnsOf(["2xx", 1], ["3xx", 2], ["1xx", 0], ["4xx", 3], ["5xx", 4])],
  latency: ["Time to answer", seconds, false, columnsOf(["p50", 1, "half within"], ["p99", 2, "99 of 100 within"])],
  bytes: ["Bytes a second", bytes, false, columnsOf(["in", 1], ["out", 2])],
  attempts: ["Requests a second", count, true, columnsOf(["ok", 1], ["error", 3, "5xx"], ["failed", 4, "no answer"])],
  connections: ["Open connections", count, true, allColumns],
  handshakes: ["Handshakes a second", count, true, allColumns],
  cpu: ["Processors in use", percent, false, allColumns],
  memory: ["Memory", bytes, false, allColumns],
};
function chart(scope, kind) {
  const key = `${scope} ${kind}`;
  if (!charts.has(key)) charts.set(key, new Chart(...KINDS[kind]));
  return charts.get(key);
}
const CHARTS = { all: ["requests", "latency", "bytes", "connections", "handshakes", "cpu", "memory"], site: ["requests", "latency", "bytes"], backend: ["attempts", "latency"] };
const GROUPS = ["connections", "handshakes", "cpu", "memory"];
function chartsOf(scope, kind) {
  return section("charts", "The last hour", make("p", { class: "fine", id: "no-series", hidden: true }, "Nothing of this in the last hour, or it is not among the busiest that are kept one by one."), make("div", { class: "charts" }, CHARTS[kind].map((one) => chart(scope, one).element)));
}
function feed(scope, kind, history) {
  for (const one of CHARTS[kind]) {
    const part = GROUPS.includes(one) ? history[one] : history.main;
    if (part) chart(scope, one).take(part);
  }
  const none = byId("no-series");
  if (none) none.hidden = history.main.rows.length > 0 || chart(scope, CHARTS[kind][0]).rows.length > 0;
}

// Asking

async function get(path, given = {}) {
  const query = new URLSearchParams(given).toString();
  const answer = await fetch(query ? `${path}?${query}` : path, { credentials: "same-origin", cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}
let token = null;
function say(text) {
  const outcome = byId("outcome");
  outcome.textContent = text;
  outcome.hidden = !text;
}
async function act(action, name, question) {
  const dialog = byId("ask");
  byId("question").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "yes") return;
  say("Asked; waiting for the outcome.");
  try {
    const answer = await fetch("act", {
      method: "POST", credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-Treehouse-Token": token },
      body: JSON.stringify({ action, name }),
    });
    const told = answer.headers.get("Content-Type").startsWith("application/json") ? await answer.json() : { ok: false, error: (await answer.text()).trim() };
    say(told.ok ? `Done. ${told.message || (told.generation ? `Generation ${told.generation} serves.` : "")}` : `Not done: ${told.error}`);
    listen();
  } catch (error) {
    say(`Not done: ${error.message}`);
  }
}
const button = (text, action, name, question) => token === null ? null : make("button", { type: "button", onclick: () => act(action, name, question) }, text);

// Parts of pages

function listed(attention, shown = "") {
  return make("ul", { class: "attention" }, attention.map((one) => {
    const [kind, ...rest] = one.page.split("/");
    const name = rest.join("/");
    return make("li", { class: one.level }, make("p", {}, make("b", {}, one.level === "wrong" ? "Wrong: " : "Look: "), one.text), make("p", {}, `Next: ${one.step}. `, one.page && one.page !== shown ? make("a", { href: to(kind, name) }, `More on ${name}`) : null));
  }));
}
// What needs attention of the pages that are named, at their top; the first one is shown.
function concerns(...pages) {
  const own = board.attention.filter((one) => pages.includes(one.page));
  return own.length ? section("attention", "Needs attention", listed(own, pages[0])) : null;
}
function attention(board) {
  const items = board.attention;
  const more = board.attention_more ? make("p", {}, `And ${board.attention_more} more.`) : null;
  return section("attention", "Needs attention", items.length ? listed(items) : make("p", { class: "fine" }, "Nothing needs attention."), more);
}
const errors = (row) => (row.classes["5xx"] ?? row.classes.error ?? 0) + (row.classes.failed ?? 0);
function sites(board) {
  const rows = [...board.sites, ...board.others.filter((one) => one.rate)].map((one) => [one.name.startsWith("(") ? one.name : one.name ? link("site", one.name) : "(no site of ours)", count(one.rate), count(one.classes["4xx"]), count(errors(one)), seconds(one.p50), seconds(one.p99), bytes(one.bytes_in), bytes(one.bytes_out)]);
  return section("sites", "Sites", table(`The busiest of ${board.sites_known}, in the last minute`, [["site"], ["requests/s", 1], ["4xx/s", 1], ["5xx/s", 1], ["half within", 1], ["99 % within", 1], ["in/s", 1], ["out/s", 1]], rows));
}
const health = (one) => one.draining ? "drains" : { yes: "well", no: "fails", untried: "not asked yet" }[one.healthy];
function backends(board) {
  if (!board.backends.length) return null;
  const rows = board.backends.map((one) => [link("backend", one.url), health(one), one.last_error ?? "–", count(one.rates?.rate ?? 0), count(one.rates ? errors(one.rates) : 0), seconds(one.rates?.p50), seconds(one.rates?.p99), String(one.in_flight)]);
  return section("backends", "Backends", table("Those that fail first", [["backend"], ["health"], ["last error"], ["requests/s", 1], ["errors/s", 1], ["half within", 1], ["99 % within", 1], ["under way", 1]], rows));
}
function certificateBars(list) {
  const present = now();
  const ends = list.map((one) => one.not_after ? unix(one.not_after) : present);
  const begins = list.map((one) => one.not_before ? unix(one.not_before) : present);
  const from = Math.min(present - 86400, ...begins), until = Math.max(present + 86400, ...ends);
  const x = (at) => 1000 * (Math.min(Math.max(at, from), until) - from) / (until - from);
  const day = (at) => new Date(at * 1000).toISOString().slice(0, 10);
  const place = Math.round(x(present) / 10), here = make("span", { class: "here" }, "now");
  Object.assign(here.style, { left: `${place}%`, transform: `translateX(-${place}%)` });
  const axis = make("li", { class: "axis", "aria-hidden": "true" }, make("div", {}), make("div", {}, make("span", {}, place > 25 ? day(from) : ""), here, make("span", {}, place < 75 ? day(until) : "")));
  return make("ul", { class: "bars" }, axis, list.map((one) => {
    const words = one.not_after ? `valid from ${one.not_before} to ${one.not_after}${one.renew_at ? `, renewal at ${one.renew_at}` : ""}; ${one.tried.length} attempts` : "no certificate yet";
    const drawn = [make("title", {}, words), make("rect", { x: 0, y: 9, width: 1000, height: 2, class: "c0", fill: "currentColor", "fill-opacity": ".3" })];
    if (one.not_after) {
      drawn.push(make("rect", { x: x(unix(one.not_before)), y: 5, width: Math.max(2, x(unix(one.not_after)) - x(unix(one.not_before))), height: 10, class: unix(one.not_after) < present ? "c4" : "c1", fill: "currentColor" }));
      const window = one.ari_window?.start ? [unix(one.ari_window.start), unix(one.ari_window.end ?? one.ari_window.start)] : one.renew_at ? [unix(one.renew_at), unix(one.renew_at)] : null;
      if (window) drawn.push(make("rect", { x: x(window[0]), y: 2, width: Math.max(4, x(window[1]) - x(window[0])), height: 16, class: "c3", fill: "currentColor" }));
    }
    for (const past of one.tried) if (past.at) drawn.push(make("line", { x1: x(unix(past.at)), x2: x(unix(past.at)), y1: 0, y2: 20, class: past.outcome === "obtained" ? "c2" : "c4", stroke: "currentColor", "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
    drawn.push(make("line", { x1: x(present), x2: x(present), y1: 0, y2: 20, stroke: "currentColor", "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
    const end = one.not_after ? ["ends ", moment(one.not_after)] : ["no certificate yet"];
    const next = one.attempts ? [`, ${one.attempts} failed, next attempt `, moment(one.next_attempt)] : one.renew_at ? [", renews ", moment(one.renew_at)] : [];
    return make("li", {}, make("div", {}, link("certificate", one.name), make("small", {}, `${one.state}; `, ...end, ...next)), make("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none", role: "img", "aria-label": `${one.name}: ${words}` }, drawn));
  }));
}
function certificates(board, most) {
  const all = board.certificates;
  const states = Object.entries(all.states).map(([state, number]) => `${number} ${state}`).join(", ");
  const rest = all.known > most ? make("p", {}, make("a", { href: "#/certificates" }, "More certificates")) : null;
  return section("certificates", "Certificates", make("p", { class: "fine" }, `${all.known} in all${states ? `: ${states}` : ""}. Those that fail or end first; green: valid, yellow: when it is renewed, blue and red: attempts, the line: now.`), certificateBars(all.first.slice(0, most)), rest);
}
function generations(board) {
  const rows = board.generations.flatMap((one) => one.workers.map((worker) => [`generation ${one.number}, process ${worker.pid}`, worker.state, moment(one.since), String(worker.connections), String(worker.streams), String(worker.requests)]));
  return section("generations", "Generations", table("Each reload makes one; those before it drain", [["worker"], ["state"], ["since"], ["connections", 1], ["under way", 1], ["requests", 1]], rows));
}
function processes(board) {
  const rows = board.processes.map((one) => [one.process, percent(one.cpu), bytes(one.resident_memory_bytes), one.open_fds === null ? "–" : `${one.open_fds} of ${one.max_fds}`]);
  return section("processes", "Processes", table("Pages that processes share count for each", [["process"], ["processor", 1], ["memory", 1], ["descriptors", 1]], rows));
}
const SHOWN = 12; // lines of the log; the others are folded
function warnings(board) {
  if (!board.warnings.length) return section("warnings", "Last warnings", make("p", { class: "fine" }, "None since the start."));
  const lines = board.warnings.map((one) => make("li", { class: one.level === "warning" ? null : "bad" }, make("small", {}, moment(one.at), `, ${one.process}, ${one.level}${one.times > 1 ? `, ${one.times} times` : ""}`), make("span", {}, one.text)));
  const rest = lines.slice(SHOWN);
  return section("warnings", "Last warnings", make("ul", { class: "log" }, lines.slice(0, SHOWN)), rest.length ? make("details", { id: "more-warnings" }, make("summary", {}, `${rest.length} more`), make("ul", { class: "log" }, rest)) : null);
}

// Pages

let board = null, shown = "", source = null;
const FOCUSABLE = "a, button, input, select, textarea, summary, [tabindex]";
const missing = (what) => section("missing", "Not found", make("p", {}, `There is no ${what} here now.`));

const HERE = "charts"; // where a page has its charts

const PAGES = {
  "": { scope: ["all", ""], parts: () => [attention(board), HERE, sites(board), backends(board), certificates(board, 12), generations(board), processes(board), warnings(board)] },
  certificates: { parts: () => [certificates(board, 100)] },
  site: {
    scope: ["site"],
    ask: (name) => get("api/site", { name }),
    parts: (name, told) => told.missing ? [missing(`site ${name}`)] : [
      concerns(`site/${name}`, ...told.certificates.map((one) => `certificate/${one.name}`), ...told.routes.flatMap((one) => one.backends.map((url) => `backend/${url}`))),
      HERE,
      section("site", `Site ${told.names[0]}`, make("p", {}, `Names: ${told.names.join(", ")}`, told.place ? `; ${told.place}` : ""), table(`Routes (${told.routes_known})`, [["path"], ["leads to"], ["written at"]], told.routes.map((one) => [one.path, one.backends.length ? one.backends.flatMap((url) => [link("backend", url), " "]) : one.does, one.place || "–"]))),
      told.certificates.length ? section("certificates", "Certificates", certificateBars(told.certificates)) : null,
    ],
  },
  backend: {
    scope: ["backend"],
    ask: (name) => get("api/backend", { name }),
    parts: (name, told) => told.missing ? [missing(`backend ${name}`)] : [
      concerns(`backend/${name}`),
      section("backend", `Backend ${name}`, make("p", {}, `It ${told.draining ? "drains" : { yes: "is well", no: "fails", untried: "has not been asked yet" }[told.healthy]}; ${told.in_flight} requests under way, ${told.failures} failures.`), told.last_error ? make("p", { class: "wrong" }, `Last error: ${told.last_error}`) : null,
        told.draining ? button("Give it its share again", "undrain", name, `Have new clients go to ${name} again?`) : button("Drain it", "drain", name, `Send no new clients to ${name}? Requests under way are finished. It holds, also over reloads, until somebody gives the backend its share again or the server is restarted.`),
        table("Routes that lead here", [["site"], ["path"]], told.routes.map((one) => [link("site", one.site), one.path]))),
      HERE,
    ],
  },
  certificate: {
    ask: (name) => get("api/certificate", { name }),
    parts: (name, told) => told.certificates.length ? [concerns(...told.certificates.map((one) => `certificate/${one.name}`)), ...told.certificates.map((one, at) => section(`certificate${at}`, `Certificate ${one.name}`, certificateBars([one.entry]), make("pre", {}, one.lines.join("\n")), button("Renew it now", "renew", one.name, `Order another certificate for ${one.name} now?`)))] : [missing(`certificate for ${name}`)],
  },
  explain: {
    parts: () => {
      const field = (id, text, element) => make("div", {}, make("label", { for: id }, text), element);
      const result = make("div", { id: "explained", "aria-live": "polite" });
      const form = make("form", { class: "explain" },
        field("method", "Method", make("select", { id: "method" }, ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map((one) => make("option", {}, one)))),
        field("url", "Address", make("input", { id: "url", required: true, placeholder: "https://example.org/path", maxlength: 4096 })),
        field("fields", "Fields, one a line, like Accept: text/html", make("textarea", { id: "fields", rows: 3 })),
        field("from", "Address of the client", make("input", { id: "from", value: "192.0.2.1", maxlength: 64 })),
        make("p", {}, make("button", {}, "Explain")));
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        try {
          const told = await get("api/explain", { method: byId("method").value, url: byId("url").value, fields: byId("fields").value, from: byId("from").value });
          result.replaceChildren(told.error ? make("p", { class: "wrong" }, told.error) : table("What the request meets", [["what"], ["how"], ["written at"]], told.rows.map((one) => [one.title, one.text, one.place || "–"])));
        } catch (error) {
          result.replaceChildren(make("p", { class: "wrong" }, error.message));
        }
      });
      return [section("explain", "What would a request meet?", make("p", { class: "fine" }, "Told by the configuration that is in force; no backend is asked."), form, result)];
    },
    once: true,
  },
};
function where() {
  const [kind = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let name = rest.join("/");
  try { name = decodeURIComponent(name); } catch { /* as it is */ }
  return PAGES[kind] ? [kind, name] : ["", ""];
}
// Parts are put in place of those with the same id that say something else, so that who reads,
// or has a part open, is not disturbed by what has not changed.
function settle(parts) {
  const wanted = parts.filter((one) => one);
  const held = new Map([...main.children].map((one) => [one.id, one]));
  const placed = wanted.map((one) => {
    const before = held.get(one.id);
    if (!before || before === one || one.id === "charts") return one;
    // Who has unfolded something goes on seeing it.
    for (const open of before.querySelectorAll("details[open][id]")) one.querySelector(`#${open.id}`)?.setAttribute("open", "");
    return before.isEqualNode(one) ? before : one;
  });
  const focused = document.activeElement, part = main.contains(focused) && focused.closest("main > *");
  const place = part ? [...part.querySelectorAll(FOCUSABLE)].indexOf(focused) : -1;
  if (placed.length !== main.children.length || placed.some((one, at) => main.children[at] !== one)) {
    main.replaceChildren(...placed);
    // Who was somewhere in a part is at the same place of what stands there now.
    if (place >= 0) byId(part.id)?.querySelectorAll(FOCUSABLE)[place]?.focus({ preventScroll: true });
  }
}
async function show(focus) {
  const [kind, name] = where(), page = PAGES[kind], key = `${kind}/${name}`;
  if (!board || (page.once && shown === key)) return;
  try {
    const told = page.ask ? await page.ask(name) : null;
    if (`${where().join("/")}` !== key) return; // somebody has gone on meanwhile
    const held = shown === key ? byId("charts") : null;
    const parts = page.parts(name, told);
    settle(parts.map((one) => one === HERE ? held ?? chartsOf(key, page.scope[0]) : one));
  } catch (error) {
    settle([section("failed", "This page cannot be shown", make("p", {}, error.message))]);
  }
  shown = key;
  for (const one of document.querySelectorAll("nav a")) {
    if (one.getAttribute("href") === `#/${kind}`) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  document.title = [name || { "": "", certificates: "Certificates", explain: "Explain" }[kind], "treehouse-proxy"].filter(Boolean).join(" – ");
  if (focus) main.focus({ preventScroll: true });
}

// Events

let silent = false;
function listen() {
  source?.close();
  const [kind, name] = where(), scope = PAGES[kind].scope?.[0] ?? "all";
  source = new EventSource(`events?${new URLSearchParams({ kind: scope, name: scope === "all" ? "" : name })}`);
  source.addEventListener("board", async (event) => {
    const told = JSON.parse(event.data);
    board = told.board;
    token = told.token;
    ahead = board.at - Date.now() / 1000;
    byId("live").textContent = "live";
    if (silent) { say(""); silent = false; }
    byId("acts").hidden = token === null;
    byId("facts").replaceChildren(`${board.version}, generation ${board.generation}, process ${board.pid}, started `, moment(board.started_at));
    await show(false);
    if (PAGES[kind].scope && where().join("/") === `${kind}/${name}`) feed(`${kind}/${name}`, scope, told.history);
    document.documentElement.dataset.events = Number(document.documentElement.dataset.events ?? 0) + 1;
  });
  source.addEventListener("silence", (event) => {
    byId("live").textContent = "no answer";
    say(JSON.parse(event.data));
    silent = true;
  });
  source.addEventListener("error", () => {
    byId("live").textContent = "connecting again";
    // Who is refused is not connected again by the browser.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}
byId("reload").addEventListener("click", () => act("reload", "", "Read the configuration on disk and put it in force?"));
byId("outcome").addEventListener("click", () => say(""));
window.addEventListener("hashchange", () => { charts.clear(); say(""); shown = ""; show(true); listen(); });

let searching = 0;
async function search() {
  const text = byId("wanted").value.trim(), found = byId("found"), turn = ++searching;
  if (text.length < 2) { found.hidden = true; return; }
  try {
    const told = await get("api/find", { name: text });
    if (turn !== searching) return;
    const items = Object.entries(told).flatMap(([kind, names]) => names.slice(0, 10).map((name) => make("li", {}, `${kind} `, link(kind, name))));
    found.replaceChildren(...(items.length ? items : [make("li", {}, "Nothing has that in its name.")]));
    found.hidden = false;
  } catch (error) { say(error.message); }
}
byId("wanted").addEventListener("input", search);
byId("search").addEventListener("submit", (event) => { event.preventDefault(); byId("found").querySelector("a")?.click(); });
byId("found").addEventListener("click", () => { byId("found").hidden = true; byId("wanted").value = ""; });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") { byId("found").hidden = true; say(""); } });
listen();
