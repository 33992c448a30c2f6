/* C tells the others that one is on a gate, or gives it back: on the card, and in the list for the row that has the
   focus. It decides nothing, and keeps nobody else from deciding. */
import { $, announce } from "./dom.js";
import { onKey } from "./keys.js";
import { rowOf } from "./rows.js";
import { alertWith } from "./trouble.js";

const me = () => document.documentElement.dataset.me;

// On the card ------------------------------------------------------------------------------------------------------

document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx.sourceElement?.id !== "claim" || detail.ctx.response?.status >= 400) return;
  announce($("#claim p")?.textContent.replace(/\s+/g, " ").trim() ?? "");
});

onKey("c", () => {
  const button = $("#claim-button");
  if (!button) return false;
  button.click();
});

// In the list ------------------------------------------------------------------------------------------------------

/** Claim the row's gate, or give it back; the row follows by itself, as it does for everybody else. */
const change = async (row) => {
  const mark = $(".claim-mark", row);
  const mine = mark?.dataset.who === me();
  const address = `${$(".cell-main", row).getAttribute("href")}${mine ? "release" : "claim"}/`;
  const headers = { "HX-Request": "true", "X-CSRFToken": $("input[name=csrfmiddlewaretoken]").value };
  try {
    // A claim that was taken leads to the card, and one stays in the list.
    const answer = await fetch(address, { method: "POST", headers, redirect: "manual" });
    if (answer.type === "opaqueredirect") {
      announce(mine ? "Given back." : "You are on it, as the others see.");
    } else {
      const said = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[role=alert]");
      alertWith(said?.textContent.trim() || "This was not done. Reload the page, then try again.");
    }
  } catch {
    alertWith("CLM did not answer, so it is not known whether this arrived. The row shows it when the connection is back.");
  }
};

onKey("c", ({ target }) => {
  const row = rowOf(target);
  if (!row || !$("#bulk") || row.classList.contains("went") || !$(".claim-mark", row)) return false;
  change(row);
});
