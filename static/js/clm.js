/* What the pages do beyond htmx. Every page works without any of it: these only add times that go on, an honest
   footer, keys, a list that stands still while it is read, and a second step before what is dangerous. */
import "./desk/times.js";
import "./desk/line.js";
import "./desk/trouble.js";
import "./desk/title.js";
import "./desk/keys.js";
import "./desk/rows.js";
import "./desk/picked.js";
import "./desk/peek.js";
import "./desk/gate.js";
import "./desk/claim.js";
import "./desk/copy.js";
import "./desk/notices.js";
import { $, $$ } from "./desk/dom.js";
import { onEscape } from "./desk/keys.js";

document.documentElement.classList.add("js");

// Menus close by Escape, and by a click beside them.
onEscape(10, () => {
  const menu = document.activeElement?.closest("details.menu[open]") ?? $("details.menu[open]");
  if (!menu) return false;
  menu.open = false;
  $("summary", menu)?.focus();
  return true;
});
document.addEventListener("click", ({ target }) => {
  for (const menu of $$("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
});

// htmx starts a tick after its own script, which may be before a slow network has brought its extensions; without
// them it passes over the socket. By now everything is here, and processing twice does nothing twice.
document.addEventListener("DOMContentLoaded", () => window.htmx?.process(document.body));
