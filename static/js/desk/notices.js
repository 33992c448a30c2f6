/* A new gate says so on the desktop while nobody looks at the desk; and the page on which that is allowed. */
import { $, $$, prefers, say } from "./dom.js";

const able = "Notification" in window && window.isSecureContext;

const told = new Set(); // the rows that were said here

document.addEventListener("htmx:before:swap", ({ detail }) => {
  if (!document.hidden || !able || !prefers("notices") || Notification.permission !== "granted") return;
  const seen = new Set($$("#rows .row").map(({ id }) => id));
  for (const { swapSpec, fragment } of detail.tasks) {
    if (swapSpec.style !== "upsert") continue;
    for (const row of fragment.children) {
      const link = $(".cell-main", row);
      if (!link || seen.has(row.id) || told.has(row.id)) continue;
      told.add(row.id);
      const facts = [$(".risk", row)?.textContent.trim(), $(".cell-env", row)?.textContent, $(".cell-id", row)?.textContent];
      // One tag a gate: several open tabs say it once.
      const notice = new Notification(link.textContent.trim(), { body: facts.filter(Boolean).join(" · "), tag: `clm-${row.id}` });
      const address = link.getAttribute("href");
      notice.onclick = () => {
        window.focus();
        location.assign(address);
      };
    }
  }
}, true);

// Preferences ------------------------------------------------------------------------------------------------------

const box = $("#id_notices");
const words = $("#notices-told");
const tell = () => {
  if (!box) return;
  if (!able) say(words, "This browser shows no notices for this address; they need HTTPS, or this machine itself.");
  else if (Notification.permission === "denied") say(words, "This browser was told not to show notices of CLM; change that beside its address bar.");
  else if (box.checked && Notification.permission === "default") say(words, "This browser has not been asked yet: untick this and tick it again.");
  else say(words, "");
};
box?.addEventListener("change", async () => {
  // Only this click asks the browser; no page does so by itself.
  if (box.checked && able && Notification.permission === "default") await Notification.requestPermission();
  if (box.checked && (!able || Notification.permission !== "granted")) box.checked = false;
  tell();
});
tell();
