/* Several gates at once: X or a tick picks a row, and the bar below says what can be done with all of them. It only
   leads to a page that lists them and asks; the same form works without this. */
import { $, $$, announce, say } from "./dom.js";
import { onEscape, onKey, typing } from "./keys.js";
import { rowOf, waits } from "./rows.js";

const chosen = new Map(); // gate -> its tool and risk
let refused = ""; // why the last tick was not taken, until the next one
const boxes = () => $$("#rows input[name=gate]");
const bar = () => $("#bulk");

const refusal = (box) => {
  const [first] = chosen.values();
  if (first && first.tool !== box.dataset.tool) return `Only gates of one tool go together, and these are of ${first.tool}.`;
  const most = Number(bar().dataset.most);
  return chosen.size >= most ? `${most} at once is the most.` : "";
};

const show = () => {
  const form = bar();
  if (!form) return;
  form.toggleAttribute("data-picked", chosen.size > 0);
  if (!chosen.size) return;
  const [{ tool }] = chosen.values();
  const dangerous = [...chosen.values()].filter(({ alone }) => alone).length;
  say($(".bulk-count", form), `${chosen.size} of ${tool}`);
  $("button[value=approve]", form).disabled = dangerous > 0;
  say($(".bulk-why", form), refused || (dangerous ? `${dangerous === 1 ? "One is" : `${dangerous} are`} high risk: those are approved one at a time.` : ""));
};

document.addEventListener("change", ({ target: box }) => {
  if (box.name !== "gate" || !rowOf(box) || !bar()) return;
  refused = box.checked ? refusal(box) : "";
  if (!box.checked) {
    chosen.delete(box.value);
  } else {
    if (refused) {
      box.checked = false;
      show();
      announce(refused);
      return;
    }
    chosen.set(box.value, { tool: box.dataset.tool, alone: box.dataset.alone !== undefined });
  }
  show();
  announce(chosen.size ? `${chosen.size} picked.` : "Nothing picked.");
});

document.addEventListener("reset", ({ target }) => {
  if (target.id !== "bulk") return;
  const inside = target.contains(document.activeElement);
  chosen.clear();
  refused = "";
  setTimeout(() => {
    show();
    if (inside) $("#rows .row .cell-main")?.focus();
  });
});

document.addEventListener("htmx:after:swap", () => {
  if (!bar()) return;
  const there = new Map(boxes().map((box) => [box.value, box]));
  for (const gate of [...chosen.keys()]) if (!there.has(gate) && !waits(`gate-${gate}`)) chosen.delete(gate);
  for (const [gate, box] of there) box.checked = chosen.has(gate);
  show();
});

// A page that the browser brings back has its ticks, but nothing knows of them.
addEventListener("pageshow", () => {
  for (const box of boxes()) if (box.checked) box.dispatchEvent(new Event("change", { bubbles: true }));
});

onKey("x", () => {
  const box = $("input[name=gate]", rowOf(document.activeElement) ?? document.createElement("i"));
  if (!box || !bar()) return false;
  box.click();
});
const send = (value) => {
  const button = $(`#bulk[data-picked] button[value=${value}]`);
  if (!button) return false;
  if (button.disabled) announce($(".bulk-why").textContent);
  else button.click();
};
onKey("a", () => send("approve"));
onKey("r", () => send("reject"));
onEscape(40, (target) => {
  if (!chosen.size || typing(target)) return false;
  bar().reset();
  announce("Nothing picked.");
  return true;
});
