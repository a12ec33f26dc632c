// The frame of every page: the drawer on small screens, the theme, signing out.
import { ask } from "./desk.js";

const side = document.getElementById("side"), menu = document.getElementById("menu");

function open(wanted) {
  side.classList.toggle("open", wanted);
  menu.setAttribute("aria-expanded", String(wanted));
  if (wanted) side.querySelector("a").focus();
}
if (menu) {
  menu.addEventListener("click", () => open(!side.classList.contains("open")));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && side.classList.contains("open")) { open(false); menu.focus(); }
  });
  document.addEventListener("click", (event) => {
    if (!side.contains(event.target) && !menu.contains(event.target)) open(false);
  });
}

document.getElementById("theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `console_theme=${root.dataset.theme}; Path=/console; SameSite=Lax; Max-Age=31536000`;
});

document.getElementById("sign-out")?.addEventListener("click", async () => {
  await ask("/console/sign-out", { method: "POST" });
  location.assign("/console/sign-in");
});
