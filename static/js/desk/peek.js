/* A look at a gate beside the list, while the focus stays in the list: by itself where there is room, by O or Space
   anywhere. */
import { $, recall, remember } from "./dom.js";
import { onEscape, onKey } from "./keys.js";
import { rowOf } from "./rows.js";

const WIDE = matchMedia("(min-width: 1200px)");
const SOON = 150; // one who runs through the list asks for nothing

let timer = 0;
let shown = ""; // the address of the gate that is shown, or being fetched

const panel = () => $("#peek");
const isOpen = () => panel() !== null && !panel().hidden;

const fetchInto = (address) => {
  shown = address;
  // hx-sync on the panel lets one request run and keeps the last one that waits; what is not wanted any more is not
  // swapped in. Cutting a request off would be an error in the console.
  window.htmx.ajax("GET", `${address}peek/`, { source: "#peek", target: "#peek", swap: "innerHTML" }).catch(() => {});
};

const close = () => {
  clearTimeout(timer);
  shown = "";
  panel().hidden = true;
  panel().replaceChildren();
};

const addressOf = (row) => row?.querySelector(".cell-main")?.getAttribute("href") ?? "";

document.addEventListener("focusin", ({ target }) => {
  const address = addressOf(rowOf(target));
  if (!panel() || !address || address === shown) return;
  if (!isOpen() && !(WIDE.matches && recall("clm.peek") !== "off")) return;
  clearTimeout(timer);
  timer = setTimeout(() => fetchInto(address), SOON);
});
document.addEventListener("htmx:before:swap", (event) => {
  if (event.detail.ctx.sourceElement?.id !== "peek") return;
  const { action } = event.detail.ctx.request;
  if (action !== `${shown}peek/` || event.detail.ctx.response.status >= 400) event.preventDefault();
  else panel().hidden = false;
});
// What is shown follows what becomes of the gate.
document.addEventListener("htmx:after:ws:message", ({ detail }) => {
  const number = /\/(\d+)\/$/.exec(shown)?.[1];
  if (number && detail.message.json?.news?.includes(`gate-${number}`)) fetchInto(shown);
});

const toggle = (event) => {
  const address = addressOf(rowOf(event.target));
  if (!panel() || !address || event.target.matches("input")) return false;
  const closing = isOpen() && shown === address;
  remember("clm.peek", closing ? "off" : "on");
  if (closing) close();
  else fetchInto(address);
};
onKey("o", toggle);
onKey(" ", toggle);
onEscape(20, () => {
  if (!isOpen()) return false;
  remember("clm.peek", "off");
  close();
  return true;
});
document.addEventListener("click", ({ target }) => {
  if (!target.closest?.("#peek-close")) return;
  remember("clm.peek", "off");
  close();
});
