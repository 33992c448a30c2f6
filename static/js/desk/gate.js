/* Deciding a gate. What would run something is armed first: the button then says what it will do, and a second step,
   by another key or another press, does it. The server asks for the same second step where this script is not there. */
import { $, $$, announce, prefers, recall, remember, say } from "./dom.js";
import { onEscape, onKey } from "./keys.js";
import { rowOf } from "./rows.js";

const ARMED_FOR = 20000; // an armed button that is left alone is a trap

const form = () => $("#decision");
const buttonsOf = (key) => $(`#decision button[data-key="${key}"]`);

// Arming ---------------------------------------------------------------------------------------------------------

let armed = null; // {button, plain, words, timer}

/** The second step that the server would ask for is taken here, or it is not. */
const sure = (yes) => {
  const asked = $("#decision input[name=confirm]");
  if (asked) asked.value = yes ? "" : "ask";
};

const dress = () => {
  const { button, words } = armed;
  button.dataset.armed = "";
  say(button, words);
};

const disarm = () => {
  if (!armed) return;
  clearTimeout(armed.timer);
  const { button, plain } = armed;
  armed = null;
  delete button.dataset.armed;
  button.replaceChildren(...plain);
  sure(false);
};

const wordsOf = (button, how) => {
  const arms = $("#arms")?.dataset ?? {};
  const said = $("#words")?.value.trim().split("\n")[0] || $("#decision input[name=preset]:checked")?.value || "";
  switch (button.value) {
    case "approve": return `${how} to run: ${arms.words}`;
    case "edit": return `${how} to run it as you edited it`;
    case "reject": return `${how} to reject: ${said.slice(0, 80)}`;
    case "respond": return `${how} to send: ${said.slice(0, 80)}`;
    default: return `${how}: ${button.textContent.trim()}`;
  }
};

const arm = (button, how) => {
  disarm();
  if (button.disabled) {
    const why = document.getElementById(button.getAttribute("aria-describedby"));
    announce(why?.textContent.trim() || "This cannot be pressed now.");
    return;
  }
  armed = {
    button,
    plain: [...button.childNodes],
    words: wordsOf(button, how),
    digest: form().elements.digest.value,
    timer: setTimeout(() => { disarm(); announce("Left alone too long: nothing is armed any more."); }, ARMED_FOR),
  };
  dress();
  button.focus();
  announce(`${armed.words}. Escape leaves it.`);
};

/** Whether any of several calls is marked to run. */
const marked = () => [...form().elements].some((one) => one.name.startsWith("verdict-") && one.checked && ["approve", "edit"].includes(one.value));

/** Whether pressing this button runs something that can hurt. */
const dangerous = (button) => (["approve", "edit"].includes(button.value) || (button.value === "each" && marked()))
  && $("#arms")?.dataset.dangerous !== undefined;

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#decision button[name=decision]");
  if (!button) return;
  if (armed?.button === button) {
    // The second click of a double click is no second thought.
    if (event.detail > 1) event.preventDefault();
    else sure(true);
  } else if (dangerous(button)) {
    event.preventDefault();
    arm(button, event.detail ? "Press again" : "Press Enter");
  }
}, true);

// A key that is held down presses a button again and again.
document.addEventListener("keydown", (event) => {
  if (event.repeat && (event.key === "Enter" || event.key === " ") && event.target.closest?.("#decision button")) {
    event.preventDefault();
  }
}, true);

document.addEventListener("focusout", ({ target }) => { if (armed?.button === target) disarm(); });
onEscape(15, () => {
  if (!armed) return false;
  const { button } = armed;
  disarm();
  button.focus();
  announce("Not armed any more; nothing was done.");
  return true;
});

// The keys -------------------------------------------------------------------------------------------------------

const words = () => $("#words") ?? $("#answer"); // of an answer in JSON there is no other
const hasReason = () => (words()?.value.trim() || $("#decision input[name=preset]:checked")?.value || "") !== "";
let meant = "a"; // which answer the words are written for

onKey("a", () => {
  const button = buttonsOf("a");
  if (!button) return false;
  meant = "a";
  if (button.value === "respond" && !hasReason()) words()?.focus();
  else arm(button, "Press Enter");
});
onKey("r", () => {
  const button = buttonsOf("r");
  if (!button) return false;
  meant = "r";
  if (button.value === "reject" && !hasReason()) words()?.focus();
  else arm(button, "Press Enter");
});
onKey("y", () => {
  if (!armed) return false;
  armed.button.click();
});
onKey("e", () => {
  const way = $("#gate [data-key=e]");
  if (!way) return false;
  if (way.tagName === "DETAILS") {
    way.open = true;
    $("input, textarea, select", way)?.focus();
  } else if (way.matches("a, summary, button[type=button]")) {
    way.click();
  } else {
    way.focus(); // a button that sends is never pressed by one key
  }
});
// Words are written for one answer: Control and Enter leads to its button, and arms it.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing || event.repeat) return;
  if (event.target !== words()) return;
  const button = buttonsOf(meant) ?? buttonsOf("a");
  if (!button) return;
  event.preventDefault();
  arm(button, "Press Enter");
});
/** Whether anything in the form is not as it came: words, a mark, an argument that is being edited. */
const touched = () => [...(form()?.elements ?? [])].some((one) => {
  if (one.matches("[type=radio], [type=checkbox]")) return one.checked !== one.defaultChecked;
  if (one.matches("select")) return !one.options[one.selectedIndex]?.defaultSelected && one.selectedIndex > 0;
  return one.matches("textarea, input:not([type=hidden])") && one.value !== one.defaultValue;
});
// Leaving the gate leads back to the list it came from; what was typed is not thrown away by a key.
onEscape(90, () => {
  const back = $(".crumbs a");
  if (!$("#gate") || !back || touched()) return false;
  location.assign(recall("clm.from")?.list ?? back.href);
  return true;
});

// From the queue, and on to the next -------------------------------------------------------------------------------

// Whoever opens a gate from the queue works through the queue, as it was filtered.
document.addEventListener("click", ({ target }) => {
  const row = rowOf(target);
  const link = row && $(".cell-main", row);
  if (!link || !$("#queue") || target.matches("input")) return;
  const shown = new URL($("#queue").getAttribute("hx-get"), location.href);
  shown.searchParams.delete("cursor");
  remember("clm.from", { gate: new URL(link.href).pathname, list: location.pathname + location.search, filter: shown.search.slice(1) });
}, true);

const from = () => {
  const kept = recall("clm.from");
  return kept?.gate === location.pathname ? kept : null;
};
// Whoever walked here came from the list too, wherever in it this gate stands.
const walked = recall("clm.from")?.walking ?? false;
if (walked) remember("clm.from", { ...recall("clm.from"), walking: false, gate: location.pathname });
if ($("#gate") && !from()) remember("clm.from", null);

// Walking through the list without deciding.
document.addEventListener("click", (event) => {
  const way = event.target.closest?.(".walk a");
  if (!way || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const kept = from() ?? { list: $(".crumbs a").getAttribute("href"), filter: "" };
  remember("clm.from", { ...kept, walking: true });
  const to = new URL(way.href);
  to.searchParams.set("queue", kept.filter);
  way.href = to.href;
});
const walk = (id) => () => {
  const way = document.getElementById(id);
  if (!way || armed) return false;
  if (touched()) announce("Something is written here. Decide with it or clear it before you go on.");
  else way.click();
};
onKey("j", walk("to-next"));
onKey("k", walk("to-previous"));

// The gate's news may be faster than the answer to the decision, and take the form away that sent it. What htmx says of
// an element that is gone it says at the document, so it is the source that is asked for.
let deciding = false; // one's own decision is under way
let mine = false; // the card that comes in next is the answer to it
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id !== "decision") return;
  const kept = from();
  if (kept && prefers("go_on")) ctx.request.body.set("queue", kept.filter);
});
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id === "decision") deciding = true;
});
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id !== "decision") return;
  deciding = false;
  keepTyped();
});
document.addEventListener("htmx:before:response", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id !== "decision") return;
  mine = ctx.response.status < 400;
  if (mine) typed = "";
  const next = ctx.hx?.redirect;
  if (mine && next) remember("clm.from", { ...from(), gate: next });
});

// Arriving from the decision before: the heading is where reading begins.
const heading = () => {
  const title = $("#gate h1");
  if (!title) return;
  title.tabIndex = -1;
  title.focus({ preventScroll: true });
};
let arriving = walked || $("main > .notice[data-said]") !== null;
const arrive = () => { if (arriving && document.activeElement === document.body) heading(); };
arrive();
// Until the person does something themselves, nothing takes the focus away from there.
addEventListener("load", arrive);
document.addEventListener("htmx:after:swap", arrive);
for (const deed of ["keydown", "pointerdown"]) addEventListener(deed, () => { arriving = false; }, { capture: true, once: true });

// What is typed ---------------------------------------------------------------------------------------------------

let typed = "";
document.addEventListener("input", ({ target }) => { if (target.id === "words") typed = target.value; });
const keepTyped = () => {
  if (deciding || !typed.trim() || $("#words") || !$("#kept")?.hidden) return;
  say($("#kept-text"), typed);
  $("#kept").hidden = false;
};

// A card that was asked for before the form was answered is older than what the answer says.
const asked = new WeakMap(); // request -> since when it is under way
let answered = 0;
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => asked.set(ctx, performance.now()));
document.addEventListener("htmx:before:swap", (event) => {
  const { ctx } = event.detail;
  if (ctx.sourceElement?.id === "decision") answered = performance.now();
  else if (ctx.sourceElement?.id === "gate" && asked.get(ctx) < answered) event.preventDefault();
});

// A newer one knows nothing of what was sent, and what is wrong with it: while the same gate waits, on the same facts,
// those parts stay as they are.
const same = (card) => `${$("#decision", card)?.elements.digest.value} ${$("#drift", card) !== null}`;
document.addEventListener("htmx:before:swap", ({ detail: { ctx, tasks } }) => {
  const here = $("#gate[data-answered]");
  const main = tasks.find(({ type }) => type === "main");
  const comes = main && $("#gate", main.fragment);
  if (!here || !comes || ctx.sourceElement?.id === "decision" || !$("#decision", comes) || same(here) !== same(comes)) return;
  for (const part of $$("#decide, .call", here)) $(`#${part.id}`, comes)?.replaceWith(part.cloneNode(true));
  comes.dataset.answered = "";
});

// What has the focus on the card may leave with a swap; then reading begins at the heading again.
let held = false;
document.addEventListener("htmx:before:swap", () => { held = $("#gate")?.contains(document.activeElement) ?? false; });
const keepFocus = () => {
  if (held && (document.activeElement ?? document.body) === document.body) heading();
  held = false;
};

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (armed) {
    // The card was fetched again under the armed button. What it shows must be what was armed.
    const { button, digest } = armed;
    if (button.isConnected && form()?.elements.digest.value === digest) {
      dress();
    } else {
      disarm();
    }
  }
  keepTyped();
  if (ctx.sourceElement?.id === "decision") $("#words[aria-invalid=true]")?.focus();
  if (mine && $(".outcome-said")) {
    announce($(".outcome-said").textContent.replace(/\s+/g, " ").trim());
    heading();
  }
  mine = false;
  keepFocus();
});

// On a small screen a button leads down to the form, until the form is in sight.
const jump = () => {
  const way = $(".jump");
  if (way && $("#decide")) way.hidden = $("#decide").getBoundingClientRect().top < innerHeight - 80;
};
addEventListener("scroll", jump, { passive: true });
addEventListener("resize", jump, { passive: true });
document.addEventListener("htmx:after:swap", jump);
jump();

