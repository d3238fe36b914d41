// Shows each page anew when the coordinator's status changed. Without it, or with a
// browser that cannot, every page works and is as new as it was when it was asked for.
"use strict";
const PAUSE_MS = 2000;
const label = document.getElementById("live");
let wanted = false;
let busy = false;

// Somebody who typed or chose must not lose that.
function altered(control) {
  if (control.options === undefined) {
    return control.checked !== control.defaultChecked || control.value !== control.defaultValue;
  }
  const options = [...control.options];
  return control.selectedIndex !== Math.max(0, options.findIndex((each) => each.defaultSelected));
}

function editing() {
  const at = document.activeElement;
  const controls = [...document.querySelectorAll("main form :is(input, select, textarea)")];
  return controls.some(altered) || (at !== null && at.closest("main form") !== null);
}

// Who moves by keyboard stays there after all around is new: at the same link, known by
// where it leads, or if there is none any more, at the table that it was in.
function focused() {
  const at = document.activeElement;
  if (at === null || at.closest("main") === null) return null;
  return [at.getAttribute("href"), at.closest(".scroll")?.getAttribute("aria-label")];
}

function focusAgain(main, [href, label]) {
  const link = [...main.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === href);
  const table = [...main.querySelectorAll(".scroll")].find((each) => each.getAttribute("aria-label") === label);
  (link ?? table ?? main).focus({ preventScroll: true });
}

async function refresh() {
  if (busy || !wanted || document.hidden || editing()) return;
  busy = true;
  wanted = false;
  try {
    const answer = await fetch(location.href, { redirect: "error" });
    if (answer.ok) {
      const text = await answer.text();
      const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
      const main = document.querySelector("main");
      if (fresh !== null && !editing()) {
        const kept = focused();
        const scrolled = [...main.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
        main.replaceChildren(...fresh.childNodes);
        main.querySelectorAll(".scroll").forEach((each, place) => {
          each.scrollLeft = scrolled[place] ?? 0;
        });
        if (kept !== null) focusAgain(main, kept);
        label.textContent = "live";
      }
    }
  } catch {
    label.textContent = "not live";
  }
  setTimeout(() => { busy = false; refresh(); }, PAUSE_MS);
}

label.textContent = "connecting";
const source = new EventSource("/live");
source.addEventListener("open", () => { label.textContent = "live"; });
source.addEventListener("error", () => { label.textContent = "not live"; });
source.addEventListener("changed", () => { wanted = true; refresh(); });
document.addEventListener("visibilitychange", refresh);
document.addEventListener("focusout", () => setTimeout(refresh, 0));
