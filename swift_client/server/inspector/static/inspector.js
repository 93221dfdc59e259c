// All pages work without this file. "/" goes to the search, a changed filter searches at once, times are local.
"use strict";

document.addEventListener("keydown", (event) => {
  const search = document.getElementById("q");
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key === "/" && search && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

for (const select of document.querySelectorAll(".search select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

for (const element of document.querySelectorAll("time[datetime]")) {
  const moment = new Date(element.dateTime);
  if (!Number.isNaN(moment.getTime())) {
    element.title = element.textContent;
    element.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}

// A link to a candidate opens it.
const openTarget = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
};
window.addEventListener("hashchange", openTarget);
openTarget();
