// What the server cannot know by itself: the zone that dates are shown in. The theme is set before anything is drawn.
const keep = (name, value) => { document.cookie = `rewarm_${name}=${value}; path=/; max-age=31536000; samesite=lax`; };
const chosen = document.cookie.match(/rewarm_theme=(light|dark)/)?.[1];
document.documentElement.dataset.theme = chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
keep("zone", Intl.DateTimeFormat().resolvedOptions().timeZone);

function turnTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  Quasar.Dark.set(theme === "dark");
  keep("theme", theme);
}

// Whatever scrolls must be reachable without a mouse.
new MutationObserver(() => {
  for (const text of document.querySelectorAll(".rw-log:not([tabindex]), .rw-short:not([tabindex])")) text.tabIndex = 0;
}).observe(document, { childList: true, subtree: true });
