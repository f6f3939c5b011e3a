// Which part is shown, how the server is, light or dark, and the key.

import { $, say } from "./dom.js";
import { key, get } from "./api.js";
import { Live } from "./live.js";
import { Markets } from "./markets.js";
import { Lookup } from "./lookup.js";

/** How the server is, as the header and the banner say it. */
const link = {
  set(kind, text, detail = "") {
    $("link").className = "pill " + kind;
    say($("link-text"), text);
    $("banner").hidden = !detail;
    $("banner").className = kind === "bad" ? "banner bad" : "banner";
    say($("banner"), detail);
  },
};

const live = new Live(link);
const parts = { live, markets: new Markets(live), lookup: new Lookup(live) };

function hash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

/** `#markets=ETH-SOL` is the part `markets`, of that market. */
function show() {
  const [name, what] = hash().split(/=(.*)/s);
  const shown = Object.hasOwn(parts, name) ? name : "live";
  for (const part of Object.keys(parts)) {
    $(part).hidden = part !== shown;
    const tab = document.querySelector(`[data-part="${part}"]`);
    if (part === shown) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
    if (part !== shown) parts[part].hide?.();
  }
  document.title = document.querySelector(`[data-part="${shown}"]`).textContent + " · Crosslatch";
  parts[shown].show(what);
}

const THEMES = [["auto", "as the system"], ["light", "light"], ["dark", "dark"]];

function theme(turn) {
  const now = localStorage.getItem("crosslatch-theme") || "auto";
  const place = Math.max(0, THEMES.findIndex(([name]) => name === now));
  const [name, words] = THEMES[(place + turn) % THEMES.length];
  localStorage.setItem("crosslatch-theme", name);
  document.documentElement.dataset.theme = name;
  $("theme").setAttribute("aria-label", "Colors: " + words);
  $("theme").title = "Colors: " + words;
}

function tellKey() {
  const token = key.get();
  say($("key-text"), token ? token.slice(3, -49) : "No key");
  $("key-button").setAttribute("aria-label", token ? "API key: " + token.slice(3, -49) : "API key: none");
}

function openKey(why) {
  say($("key-said"), why);
  $("key-forget").hidden = !key.get();
  $("key").value = "";
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

/** With another key everything is asked for anew. */
function changeKey(token) {
  key.set(token);
  tellKey();
  live.wake();
  show();
}

async function useKey(event) {
  event.preventDefault();
  const token = $("key").value.trim();
  const before = key.get();
  if (!/^xl_[A-Za-z0-9_-]{1,64}_[A-Za-z0-9_-]{48}$/.test(token)) {
    return say($("key-said"), "That is no token: it looks like xl_NAME_ and 48 letters, digits, - or _.");
  }
  key.set(token);
  try {
    await get("v1/assets");
  } catch (problem) {
    key.set(before);
    return say($("key-said"), problem.message);
  }
  $("key-dialog").close();
  changeKey(token);
}

let wasAsked = false;
addEventListener("key-needed", (event) => {
  // Once: who closes it wants to look at something else.
  if (wasAsked && !key.get()) return;
  wasAsked = true;
  if (!$("key-dialog").open) openKey(key.get() ? event.detail : "");
});
$("key-button").addEventListener("click", () => openKey(""));
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-forget").addEventListener("click", () => {
  $("key-dialog").close();
  changeKey("");
});
$("key-form").addEventListener("submit", useKey);
$("theme").addEventListener("click", () => theme(1));
addEventListener("hashchange", show);

theme(0);
tellKey();
show();
live.run();
