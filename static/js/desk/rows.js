/* The list of gates: moving through it, and keeping it still while somebody reads it. What comes in meanwhile waits
   behind a button; what was decided elsewhere is struck through where it stands, and leaves with the next refresh. */
import { $, $$, announce, say } from "./dom.js";
import { onKey } from "./keys.js";

const MOMENT = 8000; // how long a struck row stays in a list that nobody reads
const POINTED = 3000; // how long after its last movement a pointer still counts as being in the list

const list = () => $("#rows");
// In a list of groups some rows are folded away.
const links = () => $$("#rows .row .cell-main").filter((link) => link.checkVisibility());

/** The row that an element stands in. */
export const rowOf = (element) => element?.closest?.("#rows .row") ?? null;

// Moving ---------------------------------------------------------------------------------------------------------

let place = { id: "", index: -1 }; // where the focus is, or was last
document.addEventListener("focusin", ({ target }) => {
  const row = rowOf(target);
  if (row) place = { id: target.id, row: row.id, index: links().findIndex((link) => row.contains(link)), inside: true };
  else place.inside = false;
});

const move = (step) => {
  const all = links();
  if (!all.length) return false;
  const known = all.findIndex((link) => rowOf(link).id === place.row);
  const at = known < 0 ? Math.min(place.index, all.length) - (place.index < 0 ? 0 : step) : known;
  // Coming back to the list, the first press leads to where one was.
  const to = place.inside || known < 0 ? at + step : known;
  all[Math.max(0, Math.min(to, all.length - 1))].focus();
};
onKey("j", () => move(1));
onKey("k", () => move(-1));

// The focused row may have been swapped; if it is gone, the one that stands there now has the focus.
const keepFocus = () => {
  if (!place.inside || document.activeElement !== document.body) return;
  const all = links();
  const next = document.getElementById(place.id) ?? all[Math.min(place.index, all.length - 1)] ?? $("#main");
  next.focus({ preventScroll: true });
};

// Standing still -------------------------------------------------------------------------------------------------

const held = new Map(); // row id -> the row that waits to be let in
const struck = new WeakMap(); // row -> since when it is struck
let letIn = false; // the person has asked for what waits
let pointed = 0;
document.addEventListener("pointermove", ({ target }) => { if (rowOf(target)) pointed = Date.now(); }, { passive: true });

const reading = () => {
  const rows = list();
  if (!rows?.children.length) return false;
  return rows.contains(document.activeElement)
    || $("input[name=gate]:checked", rows) !== null
    || rows.getBoundingClientRect().top < 0
    || Date.now() - pointed < POINTED;
};

/** Whether a gate waits to be let in. */
export const waits = (id) => held.has(id);

const showHeld = () => {
  const button = $("#news");
  if (!button) return;
  button.hidden = held.size === 0;
  say($("#news-count"), String(held.size));
};

const strike = (row) => {
  if (row.classList.contains("went")) return;
  row.classList.add("went");
  $("input[name=gate]", row)?.remove();
  say($(".cell-risk", row), "gone");
};

/** Keep the order that is on the screen, take out what is new, and strike through what is no longer there. */
const settle = (fragment) => {
  const incoming = $("#rows", fragment);
  if (!incoming || !list()) return;
  const fresh = new Map($$(".row", incoming).map((row) => [row.id, row]));
  const grouped = [...list().children, ...incoming.children].some((child) => !child.matches(".row"));
  const kept = [...list().children].map((child) => {
    // Groups stand as they are: a gate may have come into the middle of one.
    const row = (!grouped && fresh.get(child.id)) || child.cloneNode(true);
    for (const one of row.matches(".row") ? [row] : $$(".row", row)) if (!fresh.has(one.id)) strike(one);
    return row;
  });
  held.clear();
  for (const [id, row] of fresh) if (!document.getElementById(id)) held.set(id, row);
  incoming.replaceChildren(...kept);
};

let came = new Set();
document.addEventListener("htmx:before:ws:message", () => { came = new Set(); });
document.addEventListener("htmx:before:swap", ({ detail }) => {
  const { ctx, tasks } = detail;
  const from = ctx.sourceElement?.id;
  if (from === "queue" || from === "filters") {
    const main = tasks.find(({ type }) => type === "main");
    if (from === "queue" && !letIn && main && reading()) settle(main.fragment);
    else held.clear();
    letIn = false;
    return;
  }
  for (const { swapSpec, fragment } of tasks) {
    if (swapSpec.style !== "upsert") continue;
    for (const row of [...fragment.children].filter(({ id }) => id.startsWith("gate-"))) {
      came.add(row.id);
      if (!$("#rows.pushed") || document.getElementById(row.id) || !reading()) continue;
      held.set(row.id, row);
      row.remove();
    }
  }
});
document.addEventListener("htmx:after:ws:message", ({ detail }) => {
  // What was decided while it waited to be let in is not let in any more.
  for (const name of detail.message.json?.news ?? []) if (!came.has(name)) held.delete(name);
  showHeld();
});
document.addEventListener("htmx:after:swap", () => {
  keepFocus();
  showHeld();
});
document.addEventListener("htmx:finally:request", ({ target }) => { if (target.id === "queue") letIn = false; });

const refresh = () => {
  if (!held.size) return false;
  const many = held.size;
  letIn = true;
  document.body.dispatchEvent(new CustomEvent("desk:queue"));
  announce(`${many} new ${many === 1 ? "gate is" : "gates are"} in the list.`);
};
onKey(".", refresh);
document.addEventListener("click", ({ target }) => {
  if (!target.closest?.("#news")) return;
  refresh();
  (document.getElementById(place.id) ?? links()[0])?.focus();
});

setInterval(() => {
  const still = reading();
  for (const row of $$("#rows .went")) {
    if (!struck.has(row)) struck.set(row, Date.now());
    else if (!still && Date.now() - struck.get(row) > MOMENT) row.remove();
  }
}, 1000);
