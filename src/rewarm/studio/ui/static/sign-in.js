// Sign in with a password, or with the key of a link, which stands behind the # and so in no log of a server.
const form = document.getElementById("form");
const error = document.getElementById("error");
const key = new URLSearchParams(location.hash.slice(1)).get("key");
const next = new URLSearchParams(location.search).get("next") || "/";

if (key) {
  document.getElementById("link-text").hidden = false;
  for (const input of form.querySelectorAll("input")) {
    input.closest("label").remove();
  }
  form.querySelector("button").textContent = form.querySelector("button").dataset.link;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  error.textContent = "";
  const path = key ? "/api/v1/session/link" : "/api/v1/session";
  const body = key ? { key } : Object.fromEntries(new FormData(form));
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      const inside = new URL(next, location.origin); // nobody is sent elsewhere
      location.replace(inside.origin === location.origin ? inside.pathname + inside.search : "/");
      return;
    }
    const said = await answer.json();
    error.textContent = [said.what, said.remedy].filter(Boolean).join(". ");
  } catch {
    error.textContent = error.dataset.failed;
  }
});
