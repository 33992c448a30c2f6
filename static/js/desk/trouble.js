/* What failed, in words; silence would look like success. */
import { $ } from "./dom.js";

/** Show what failed where every page shows it, and have it read out. */
export const alertWith = (text) => {
  const note = document.createElement("p");
  note.className = "notice bad";
  note.textContent = text;
  $("#alerts")?.replaceChildren(note);
};

/** Whether a request was sent by a form, which may have left the page since. */
const posted = (ctx) => ctx?.sourceElement?.closest("form[method=post]");

document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
  if (posted(ctx)) {
    alertWith("CLM did not answer, so it is not known whether this arrived. The page shows it when the connection is back; reload to be sure.");
  }
});
document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
  if (ctx.response.status >= 500 && posted(ctx)) {
    alertWith("Something broke in CLM and this was not done. It is in the server's log; try again.");
  }
});
document.addEventListener("htmx:before:swap", (event) => {
  const { response, text } = event.detail.ctx;
  if (response?.status !== 403 || text.includes('id="gate"')) return;
  event.preventDefault();
  alertWith("This was refused: the page is too old, or your role has changed. Reload it, then try again.");
});
document.addEventListener("htmx:before:request", ({ target }) => {
  // Only what a person does clears what they were told; a list that fetches itself does not.
  if (target.closest?.("form")) $("#alerts")?.replaceChildren();
});
