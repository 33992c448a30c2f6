/* The gate as text, for the chat in which the incident is talked about: what is wanted, the exact call, and where to
   decide. It is what the card shows, so it holds no more than the card does. */
import { $, $$, announce, say } from "./dom.js";

const button = $("#copy");
const plain = (element) => element?.textContent.replace(/\s+/g, " ").trim() ?? "";

const text = () => {
  const risk = plain($("#gate .facts .risk"));
  const where = plain($("#gate .facts .env"));
  const calls = $$("#gate .call").flatMap((call) => [
    plain($(".call-name", call)),
    ...$$(".args:not(.diff) tbody tr", call).map((row) => `  ${plain($("th", row))}: ${$("td.mono", row)?.textContent.trim() ?? ""}`),
  ]);
  const head = [risk.toUpperCase(), where].filter(Boolean).join(", ");
  return [`${plain($("#gate h1"))}${head ? ` (${head})` : ""}`, plain($("#gate .means")), ...calls, location.origin + location.pathname]
    .filter(Boolean).join("\n");
};

if (button && navigator.clipboard) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      say(button, "Copied");
      announce("Copied: what is wanted, the call, and the link to it.");
    } catch {
      say(button, "The browser did not allow it");
    }
    setTimeout(() => say(button, "Copy for a chat"), 2500);
  });
}
