"use strict";
const asked = new URLSearchParams(location.search);
const filters = document.getElementById("filters");
for (const [name, value] of asked) if (filters.elements[name]) filters.elements[name].value = value;
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value.trim()));
  history.replaceState(null, "", given.size ? `?${given}` : location.pathname);
  refresh();
});

async function ask(path, given) {
  const reply = await fetch(path, given);
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}
async function refresh() {
  const fresh = document.getElementById("fresh");
  try {
    const found = await ask(`facts${location.search}`);
    const same = JSON.stringify({ ...found, made: "" }) === JSON.stringify({ ...facts, made: "" });
    facts = found;
    if (same) document.getElementById("when").textContent = document.getElementById("when").textContent.replace(/as of .*/, `as of ${facts.made}`);
    else draw();
    fresh.textContent = `live, as of ${facts.made}`;
  } catch (error) {
    fresh.textContent = String(error.message || error);
  }
}
async function look() {
  try {
    const found = await ask("brake");
    document.getElementById("halts").textContent = found.halts.length ? found.halts.map(([agent, why]) => `${agent === "*" ? "all agents are" : `${agent} is`} halted: ${why}`).join("; ") : "Nothing is halted.";
    document.getElementById("agents").replaceChildren(...found.agents.map((name) => make("option", { value: name })));
    const select = document.querySelector("#granting select");
    const chosen = select.value;
    select.replaceChildren(...found.accounts.map((each) => make("option", { value: each.account }, `${each.name}: ${each.left} left of ${each.cap}`)));
    if (found.accounts.some((each) => each.account === chosen)) select.value = chosen;
    document.getElementById("granting").hidden = !found.accounts.length;
  } catch (error) {
    document.getElementById("halts").textContent = String(error.message || error);
  }
}
async function act(event) {
  event.preventDefault();
  const said = document.getElementById("said");
  const who = document.querySelector("#halting [name=who]");
  if (!who.reportValidity()) return;
  const given = { ...Object.fromEntries(new FormData(event.target)), who: who.value, action: event.submitter.value };
  try {
    said.textContent = (await ask("act", { method: "POST", headers: { "Content-Type": "application/json", "X-Costguard": CSRF }, body: JSON.stringify(given) })).said;
  } catch (error) {
    said.textContent = String(error.message || error);
  }
  look();
  refresh();
}
for (const id of ["halting", "granting"]) document.getElementById(id).addEventListener("submit", act);
if (!BRAKE) document.getElementById("brake").remove();
else { look(); setInterval(look, 5000); }
setInterval(refresh, 5000);
refresh();
