/* The gate's card: a link that opens the edit form in place, and the focus where something was said about the form.
   Without it the link loads the page with the form open. */
"use strict";

(() => {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-opens]");
    const fold = link && document.getElementById(link.dataset.opens);
    if (!fold || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    fold.open = true;
    fold.scrollIntoView({ block: "nearest" });
    (fold.querySelector("input, select, textarea") ?? fold.querySelector("summary")).focus();
  });

  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    const gate = document.getElementById("gate");
    if (ctx.sourceElement?.id !== "decision" || !gate || gate.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
    const wrong = gate.querySelector("[aria-invalid=true]:not(#words)");
    (wrong ?? gate.querySelector("#changes"))?.focus();
  });
})();
