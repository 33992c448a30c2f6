/* Single keys. They move, open, pick and arm; none of them alone ever decides anything. A person can switch them all
   off (WCAG 2.1.4); Escape stays, because it only leads back. */
import { $, announce, prefers } from "./dom.js";

const bindings = new Map();
const escapes = [];

/** Bind a key, in lower case as it is printed. `act` returns false where there is nothing for it to do here. */
export const onKey = (key, act) => { bindings.set(key, [...(bindings.get(key) ?? []), act]); };

/** What Escape leaves, the nearest first; `leave` returns whether it left something. */
export const onEscape = (order, leave) => {
  escapes.push({ order, leave });
  escapes.sort((one, other) => one.order - other.order);
};

const NOT_TEXT = ["checkbox", "radio", "button", "submit", "reset"];

/** Whether keys typed here are text, or choose among options by their letter. */
export const typing = (element) =>
  element.matches?.("textarea, select")
  || (element.matches?.("input") && !NOT_TEXT.includes(element.type))
  || element.isContentEditable === true;

/** Return the key as it is printed on a Latin keyboard, whichever alphabet it writes. */
const named = (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const physical = /^Key([A-Z])$/.exec(event.code);
  return physical && key.charCodeAt(0) > 127 ? physical[1].toLowerCase() : key;
};

addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229 || event.defaultPrevented) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = named(event);
  if (key === "Escape") {
    if ($("dialog[open]")) return; // it closes itself
    if (escapes.some(({ leave }) => leave(event.target))) event.preventDefault();
    return;
  }
  if (!prefers("keys") || typing(event.target) || $("dialog[open]")) return;
  if (event.shiftKey && /^[a-z ]$/.test(key)) return;
  if (event.repeat && key !== "j" && key !== "k") return;
  for (const act of bindings.get(key) ?? []) {
    if (act(event) === false) continue;
    event.preventDefault();
    return;
  }
});

// The sheet of keys ---------------------------------------------------------------------------------------------

const sheet = $("#keys");
const openSheet = () => {
  if (!sheet) return false;
  sheet.showModal(); // the browser keeps the focus inside, and gives it back
  return true;
};
onKey("?", openSheet);
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-sheet=keys]") && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    if (openSheet()) event.preventDefault();
  } else if (event.target === sheet) {
    sheet.close(); // a click on what lies behind it
  }
});

// Searching, and leaving a field --------------------------------------------------------------------------------

onKey("/", () => {
  const field = $("#f-q");
  if (!field) return false;
  field.focus();
  field.select();
});
onEscape(30, (target) => {
  if (!typing(target)) return false;
  if (target.type === "search" && target.value) return false; // it empties itself first
  const back = target.closest("#decide") ?? $("#rows .row .cell-main") ?? $("#main");
  back.focus();
  return true;
});

// Where the person came from something that they did, say what became of it.
const note = $("main > .notice[data-said]");
if (note) setTimeout(() => announce(note.textContent.trim()), 300);
